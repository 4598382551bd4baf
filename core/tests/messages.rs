//! Requests and responses as an application sees them, and their conversions.

use std::borrow::Cow;

use futures_lite::future::block_on;
use gearshift_core::header::{self, HeaderMap};
use gearshift_core::http;
use gearshift_core::{
    Body, BodyError, Bytes, Handler, HeadTooLarge, HeaderName, HeaderValue, IntoResponse, Limits, Method,
    ParamError, Request, Response, Router, StatusCode, Version, sync,
};

/// Reads a body that is in memory.
fn content(body: Body) -> Bytes {
    block_on(body.bytes(usize::MAX)).expect("the body is in memory")
}

/// Creates a request with these fields.
fn with_fields(fields: &[(&str, &str)]) -> Request {
    let mut request = http::Request::builder().method(Method::PUT).uri("/a?b=c").version(Version::HTTP_10);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Request::from_http(request.body("body").expect("a valid request")).expect("a short head")
}

#[test]
fn a_target_has_a_path_and_a_query() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a/b", "/a/b", None),
        ("/a?", "/a", Some("")),
        ("/a?b=c?d", "/a", Some("b=c?d")),
        ("/a%20b?c", "/a%20b", Some("c")),
        ("/to?http://host/b", "/to", Some("http://host/b")),
        ("/http://host/b", "/http://host/b", None),
        ("http://host/a/b?c", "/a/b", Some("c")),
        ("https://host:1/", "/", None),
        ("http://host", "/", None),
        ("http://h", "/", None),
        ("*", "*", None),
        ("host:80", "host:80", None),
    ] {
        let request = Request::new(Method::GET, target, "");
        assert_eq!(
            (request.target(), request.path(), request.query_str()),
            (target, path, query),
            "{target}"
        );
    }
}

#[test]
fn a_query_is_decoded_into_pairs() {
    let request = Request::new(Method::GET, "/?a=1&b=x+%C3%A9&a=2&c&=d", "");
    let pairs: Vec<_> = request.query_pairs().collect();
    let expected = [("a", "1"), ("b", "x \u{e9}"), ("a", "2"), ("c", ""), ("", "d")];
    assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
    for (name, value) in [("a", Some("1")), ("b", Some("x \u{e9}")), ("c", Some("")), ("d", None)] {
        assert_eq!(request.query_param(name).as_deref(), value, "{name}");
    }
    assert_eq!(Request::new(Method::GET, "/", "").query_param("a"), None);
}

#[test]
fn a_parameter_of_a_route_is_decoded() {
    let router = Router::new().get(
        "/{a}/{number}",
        sync(|request: Request| {
            assert_eq!(request.param("other"), None);
            format!("{:?} {:?}", request.param("a").as_deref(), request.parse_param::<u8>("number"))
        }),
    );
    for (target, text) in [
        ("/x/7", r#"Some("x") Ok(7)"#),
        ("/b%20%C3%A9/256?c", r#"Some("b é") Err(Invalid { name: "number", value: "256" })"#),
    ] {
        let response = block_on(router.call(Request::new(Method::GET, target, "")).response());
        assert_eq!(content(response.into_body()), text, "{target}");
    }
}

#[test]
fn fields_are_found_by_names_in_any_case() {
    let request = with_fields(&[("accept", "a"), ("x-b", "1"), ("accept", "b"), ("x-empty", "")]);
    let fields = request.headers();
    assert_eq!((fields.len(), fields.is_empty()), (4, false));
    for (name, values) in [("Accept", &["a", "b"][..]), ("x-B", &["1"]), ("X-Empty", &[""]), ("x-c", &[])] {
        let first = values.first().copied();
        assert_eq!(fields.get(name), first.map(str::as_bytes), "{name}");
        assert_eq!(fields.get_str(name), first, "{name}");
        assert_eq!(request.header(name), first, "{name}");
        assert_eq!(fields.value(name), first.map(HeaderValue::from_static), "{name}");
        assert_eq!(fields.contains(name), first.is_some(), "{name}");
        assert!(fields.get_all(name).eq(values.iter().map(|value| value.as_bytes())), "{name}");
    }
    let map = fields.to_map();
    assert_eq!(map.len(), 4);
    assert!(map.get_all(header::ACCEPT).iter().eq(["a", "b"]));
    assert_eq!(format!("{fields:?}"), r#"{"accept": "a", "accept": "b", "x-b": "1", "x-empty": ""}"#);

    let none = Request::new(Method::GET, "/", "");
    assert_eq!((none.headers().len(), none.headers().is_empty()), (0, true));
    assert!(none.headers().to_map().is_empty());
}

#[test]
fn a_request_keeps_its_parts_through_the_types_of_the_http_crate() {
    let mut request = with_fields(&[("x-a", "1"), ("x-b", "2")]);
    request.extensions_mut().insert(7_u8);
    assert_eq!(request.extensions().get(), Some(&7_u8));
    assert_eq!(
        format!("{request:?}"),
        r#"Request { method: PUT, target: "/a?b=c", version: HTTP/1.0, "#.to_owned()
            + r#"headers: {"x-a": "1", "x-b": "2"}, body: Body(4 bytes), .. }"#
    );
    let request = request.into_http().expect("a valid target");
    assert_eq!((request.method(), request.version()), (&Method::PUT, Version::HTTP_10));
    assert_eq!(request.uri(), "/a?b=c");
    assert_eq!(request.headers().len(), 2);
    assert_eq!(request.extensions().get(), Some(&7_u8));

    let mut request = Request::from_http(request).expect("a short head");
    assert_eq!((request.method(), request.version()), (&Method::PUT, Version::HTTP_10));
    assert_eq!((request.target(), request.path(), request.header("x-b")), ("/a?b=c", "/a", Some("2")));
    assert_eq!(request.extensions().get(), Some(&7_u8));
    assert_eq!(request.body().remaining(), Some(4));
    *request.body_mut() = "other".into();
    assert_eq!(content(request.into_body()), "other");
}

#[test]
fn a_dropped_request_leaves_nothing_to_the_next_one() {
    let mut first = with_fields(&[("x-a", "1")]);
    first.extensions_mut().insert(7_u8);
    drop(first);
    let second = Request::new(Method::GET, "/", ());
    assert_eq!((second.version(), second.headers().len()), (Version::HTTP_11, 0));
    assert!(second.extensions().get::<u8>().is_none());
    assert!(second.body().is_empty());
}

#[test]
fn a_request_from_the_http_crate_has_a_head_of_limited_size() {
    for (len, fits) in [(Limits::MAX_HEAD, true), (Limits::MAX_HEAD + 1, false), (70_000, false)] {
        let value = "v".repeat(len - "/name".len());
        let request = http::Request::builder().uri("/").header("name", value).body("").expect("a request");
        assert_eq!(Request::from_http(request).err(), (!fits).then_some(HeadTooLarge), "{len}");
    }
}

#[test]
fn a_response_has_its_fields_in_the_order_in_which_they_were_added() {
    let mut response = Response::text("abc")
        .with_status(StatusCode::CREATED)
        .with_header("x-a", "1")
        .with_header(header::VARY, HeaderValue::from_static("b"))
        .append_header("x-a", "2");
    assert_eq!(response.status(), StatusCode::CREATED);
    let fields = response.headers().map(|(name, value)| (name.as_str(), value.as_bytes()));
    assert!(fields.eq([
        ("content-type", &b"text/plain; charset=utf-8"[..]),
        ("x-a", b"1"),
        ("vary", b"b"),
        ("x-a", b"2"),
    ]));
    assert_eq!(response.header(&header::VARY), Some(&HeaderValue::from_static("b")));
    assert_eq!(response.header("x-a"), Some(&HeaderValue::from_static("1")));
    assert_eq!(response.header(&header::DATE), None);
    assert_eq!(response.body().remaining(), Some(3));
    assert_eq!(
        format!("{:?}", Response::status_only(StatusCode::NOT_FOUND)),
        "Response { status: 404, fields: [], body: Body(empty), upgrade: false, .. }"
    );
    *response.body_mut() = "other".into();

    let response = response.into_http();
    assert_eq!((response.status(), response.headers().len()), (StatusCode::CREATED, 4));
    let response = Response::from_http(response);
    assert_eq!((response.status(), response.headers().count()), (StatusCode::CREATED, 4));
    assert_eq!(content(response.into_body()), "other");
}

#[test]
fn each_value_becomes_its_response() {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const CREATED: StatusCode = StatusCode::CREATED;
    let io = |error: BodyError| std::io::Error::from(error);
    let missing = ParamError::Missing { name: "id".to_owned() };
    let failed = gearshift_core::BoxError::from("secret");
    for (case, response, status, media_type, text) in [
        ("unit", ().into_response(), 200, None, ""),
        ("text", "a".into_response(), 200, Some(PLAIN), "a"),
        ("string", "a".to_owned().into_response(), 200, Some(PLAIN), "a"),
        ("borrowed text", Cow::Borrowed("a").into_response(), 200, Some(PLAIN), "a"),
        ("owned text", Cow::<str>::Owned("a".into()).into_response(), 200, Some(PLAIN), "a"),
        ("boxed text", Box::<str>::from("a").into_response(), 200, Some(PLAIN), "a"),
        ("static bytes", b"a".as_slice().into_response(), 200, Some("application/octet-stream"), "a"),
        ("fields", [("content-type", "a/b")].into_response(), 200, Some("a/b"), ""),
        ("status and fields", (CREATED, [("content-type", "a/b")]).into_response(), 201, Some("a/b"), ""),
        (
            "fields and text",
            ([("Content-Type", "a/b".to_owned())], "a").into_response(),
            200,
            Some("a/b"),
            "a",
        ),
        ("three", (CREATED, [(header::CONTENT_TYPE, "a/b")], "a").into_response(), 201, Some("a/b"), "a"),
        ("a map", (CREATED, HeaderMap::new(), "a").into_response(), 201, Some(PLAIN), "a"),
        ("bytes", b"a".to_vec().into_response(), 200, Some("application/octet-stream"), "a"),
        ("body", Body::from("a").into_response(), 200, None, "a"),
        ("html", Response::html("a"), 200, Some("text/html; charset=utf-8"), "a"),
        ("success", StatusCode::CREATED.into_response(), 201, None, ""),
        ("redirect", StatusCode::NOT_MODIFIED.into_response(), 304, None, ""),
        ("error", StatusCode::BAD_REQUEST.into_response(), 400, Some(PLAIN), "Bad Request"),
        ("nothing", None::<()>.into_response(), 404, Some(PLAIN), "Not Found"),
        ("something", Some("a").into_response(), 200, Some(PLAIN), "a"),
        ("ok", Ok::<_, StatusCode>("a").into_response(), 200, Some(PLAIN), "a"),
        ("err", Err::<(), _>("a").into_response(), 200, Some(PLAIN), "a"),
        ("with a status", (StatusCode::CREATED, "a").into_response(), 201, Some(PLAIN), "a"),
        ("parameter", missing.into_response(), 404, Some(PLAIN), "the route has no parameter 'id'"),
        ("body error", BodyError::TimedOut.into_response(), 408, Some(PLAIN), "the body came too slowly"),
        (
            "body error in io",
            io(BodyError::Gone).into_response(),
            400,
            Some(PLAIN),
            "the response was sent, or the connection was closed, before the body was read",
        ),
        ("any error", failed.into_response(), 500, Some(PLAIN), "Internal Server Error"),
    ] {
        assert_eq!(response.status(), status, "{case}");
        let found = response.header(&header::CONTENT_TYPE).map(|value| value.to_str().expect("text"));
        assert_eq!(found, media_type, "{case}");
        assert_eq!(content(response.into_body()), text, "{case}");
    }
}

#[test]
fn given_fields_replace_the_fields_with_the_same_names() {
    let inner = || Response::text("a").with_header("x-a", "1");
    let value = HeaderValue::from_static("text/csv");
    let array = [(header::CONTENT_TYPE, value.clone())];
    let map = HeaderMap::from_iter(array.clone());
    for (response, status) in [
        ((array.clone(), inner()).into_response(), StatusCode::OK),
        ((StatusCode::CREATED, array, inner()).into_response(), StatusCode::CREATED),
        ((map, inner()).into_response(), StatusCode::OK),
    ] {
        assert_eq!(response.status(), status);
        let fields: Vec<_> = response.headers().collect();
        let kept = (&HeaderName::from_static("x-a"), &HeaderValue::from_static("1"));
        assert_eq!(fields, [kept, (&header::CONTENT_TYPE, &value)]);
    }
}

/// The names and values of all fields.
fn fields(response: &Response) -> Vec<(&str, &str)> {
    response.headers().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
}

#[test]
fn a_field_is_replaced_added_or_removed() {
    let twice = || Response::new(()).append_header("a", "1").append_header("b", "2").append_header("A", "3");
    assert_eq!(fields(&twice()), [("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(fields(&twice().with_header("A", "4")), [("b", "2"), ("a", "4")]);
    assert_eq!(
        fields(&twice().with_header(HeaderName::from_static("b"), 4)),
        [("a", "1"), ("a", "3"), ("b", "4")]
    );
    assert_eq!(fields(&twice().remove_header("A")), [("b", "2")]);
    assert_eq!(fields(&twice().remove_header(header::VARY)), fields(&twice()));
    let json = Response::text("{}").with_header("Content-Type", "application/json");
    assert_eq!(fields(&json), [("content-type", "application/json")]);
    let cookies = ([("set-cookie", "a=1"), ("set-cookie", "b=2")], twice()).into_response();
    assert_eq!(fields(&cookies)[3..], [("set-cookie", "a=1"), ("set-cookie", "b=2")]);
}

#[test]
fn a_field_that_is_not_valid_panics() {
    for (name, value) in [("a b", "c"), ("", "c"), ("a", "b\r\nc: d"), ("a", "\0")] {
        let calls: [fn(&'static str, &'static str) -> Response; 3] = [
            |name, value| Response::new(()).with_header(name, value),
            |name, value| Response::new(()).append_header(name, value),
            |name, value| [(name, value)].into_response(),
        ];
        for call in calls {
            assert!(std::panic::catch_unwind(|| call(name, value)).is_err(), "{name:?} {value:?}");
        }
    }
}

#[test]
fn a_redirect_leads_to_an_encoded_location() {
    let statuses = [
        (Response::redirect("/a"), 303),
        (Response::temporary_redirect("/a"), 307),
        (Response::permanent_redirect("/a"), 308),
        (Response::found("/a"), 302),
        (Response::moved_permanently("/a"), 301),
    ];
    for (response, status) in statuses {
        assert_eq!((response.status().as_u16(), fields(&response)), (status, vec![("location", "/a")]));
    }
    for (location, sent) in [
        ("/a?b=c&d=[e]#f", "/a?b=c&d=[e]#f"),
        ("https://user@host:1/~a;b='c',(d)*!$+", "https://user@host:1/~a;b='c',(d)*!$+"),
        ("/%C3%A9 é", "/%C3%A9%20%C3%A9"),
        ("/\\host", "/%5Chost"),
        (r#"/"<>^`{|}"#, "/%22%3C%3E%5E%60%7B%7C%7D"),
        ("", ""),
    ] {
        assert_eq!(fields(&Response::redirect(location)), [("location", sent)], "{location}");
    }
    for location in ["/a\r\nSet-Cookie: b=c", "/\t/host", "\0", "/\x7f"] {
        let response = Response::redirect(location);
        assert_eq!((response.status(), fields(&response)), (StatusCode::INTERNAL_SERVER_ERROR, vec![]));
    }
}
