//! The router: groups, middleware, states and options, without a server.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use gearshift_core::middleware::{Next, from_fn, from_sync, map_request, map_response};
use gearshift_core::{
    Answer, Handler, Method, OnDisconnect, Request, Response, RouteOptions, Router, StatusCode, blocking,
    header, on_disconnect, sync, timeout,
};

/// The status and the body of the response to a request.
fn said(router: &Router, method: Method, path: &str) -> (u16, String) {
    let response = ask(router, method, path);
    let status = response.status().as_u16();
    let body = block_on(response.into_body().bytes(1000)).expect("it is in memory");
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn ask(router: &Router, method: Method, path: &str) -> Response {
    block_on(router.call(Request::new(method, path, ())).response())
}

fn get(router: &Router, path: &str) -> String {
    let (status, body) = said(router, Method::GET, path);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// A middleware that writes its name around the body, and appends it to a field.
fn named(name: &'static str) -> impl gearshift_core::middleware::Middleware {
    from_fn(move |request: Request, next: Next| async move {
        let response = next.run(request).await;
        let status = response.status();
        let body = response.into_body().bytes(1000).await.expect("it is in memory");
        Response::text(format!("{name}({})", String::from_utf8_lossy(&body))).with_status(status)
    })
}

#[test]
fn middleware_runs_from_outer_to_inner_routers_in_the_order_in_which_it_was_added() {
    let inner = Router::new().wrap(named("c")).get("/x", sync(|_| "x")).wrap(named("d"));
    let other = Router::new().get("/merged", sync(|_| "m")).wrap(named("e"));
    let router = Router::new()
        .get("/before", sync(|_| "x"))
        .wrap(named("a"))
        .nest("/inner", inner)
        .merge(other)
        .wrap(named("b"))
        .get("/after", sync(|_| "x"));
    for (path, expected) in [
        ("/before", "a(b(x))"),
        ("/after", "a(b(x))"),
        ("/inner/x", "a(b(c(d(x))))"),
        ("/merged", "a(b(e(m)))"),
    ] {
        assert_eq!(get(&router, path), expected, "{path}");
    }
}

#[test]
fn responses_without_a_handler_pass_through_the_middleware_of_their_router() {
    let inner = Router::new().get("/x", sync(|_| "x")).wrap(named("b"));
    let router = Router::new().nest("/inner", inner).get("/y", sync(|_| "y")).wrap(named("a"));
    for (method, path, expected) in [
        (Method::GET, "/none", (404, "a(Not Found)")),
        (Method::GET, "/inner/none", (404, "a(Not Found)")),
        (Method::POST, "/y", (405, "a(Method Not Allowed)")),
        (Method::POST, "/inner/x", (405, "a(b(Method Not Allowed))")),
        (Method::OPTIONS, "/inner/x", (204, "a(b())")),
        (Method::OPTIONS, "*", (204, "a()")),
        (Method::CONNECT, "host:1", (501, "a(Not Implemented)")),
        (Method::from_bytes(b"BREW").expect("a token"), "/y", (501, "a(Not Implemented)")),
    ] {
        assert_eq!(
            said(&router, method.clone(), path),
            (expected.0, expected.1.to_owned()),
            "{method} {path}"
        );
    }
}

#[test]
fn fallbacks_answer_for_the_paths_of_their_router() {
    let deep = Router::new().fallback(sync(|_| "deep"));
    let inner = Router::new().nest("/{id}/deep", deep).fallback(sync(|_| "inner")).wrap(named("i"));
    let router = Router::new().get("/", sync(|_| "root")).nest("/inner", inner).wrap(named("o"));
    for (path, expected) in [
        ("/inner", (200, "o(i(inner))")),
        ("/inner/x/y", (200, "o(i(inner))")),
        ("/inner/x/deep", (200, "o(i(deep))")),
        ("/inner/x/deep/er", (200, "o(i(deep))")),
        ("/inner//deep", (200, "o(i(inner))")),
        ("/innermost", (404, "o(Not Found)")),
        ("/none", (404, "o(Not Found)")),
    ] {
        assert_eq!(said(&router, Method::GET, path), (expected.0, expected.1.to_owned()), "{path}");
    }
    let merged = Router::new().merge(Router::new().fallback(sync(|_| "merged")).wrap(named("m")));
    assert_eq!(get(&merged, "/x"), "m(merged)");
}

#[test]
fn hooks_replace_the_responses_without_a_handler() {
    let page = |name: &'static str| sync(move |_| Response::html(name));
    let own = Router::new().get("/x", sync(|_| "x")).method_not_allowed(page("own"));
    let plain = Router::new().get("/x", sync(|_| "x"));
    let router = Router::new()
        .get("/early", sync(|_| "x"))
        .nest("/own", own)
        .nest("/plain", plain)
        .method_not_allowed(page("outer"))
        .get("/late", sync(|_| "x"))
        .not_found(page("lost"));
    for (path, expected) in
        [("/early", "outer"), ("/late", "outer"), ("/own/x", "own"), ("/plain/x", "outer"), ("/none", "lost")]
    {
        let (status, body) = said(&router, Method::POST, path);
        assert_eq!((status, &*body), (if path == "/none" { 404 } else { 405 }, expected), "{path}");
    }
    let allow = |method, path| ask(&router, method, path).header(&header::ALLOW).cloned();
    let expected = Some(header::HeaderValue::from_static("GET, HEAD, OPTIONS"));
    assert_eq!(allow(Method::POST, "/own/x"), expected);
    assert_eq!(allow(Method::OPTIONS, "/own/x"), expected);
    let teapot = Router::new().get("/", sync(|_| "x")).method_not_allowed(sync(|_| StatusCode::IM_A_TEAPOT));
    assert_eq!(said(&teapot, Method::PUT, "/").0, 418);
}

#[test]
fn a_hook_runs_within_the_middleware_around_its_route() {
    let page = || sync(|_| "hook");
    let inner = || Router::new().get("/x", sync(|_| "x")).wrap(named("inner"));
    for router in [
        Router::new().nest("/in", inner()).method_not_allowed(page()),
        Router::new().method_not_allowed(page()).nest("/in", inner()),
        Router::new().nest("/in", Router::new().merge(inner())).method_not_allowed(page()),
        Router::new().nest("/in", inner().method_not_allowed(page())).method_not_allowed(sync(|_| "outer")),
    ] {
        assert_eq!(
            said(&router.wrap(named("outer")), Method::PUT, "/in/x"),
            (405, "outer(inner(hook))".into())
        );
    }
}

#[test]
fn the_fallback_of_the_prefix_that_fits_best_answers_and_sees_its_parameters() {
    let nested = |name: &'static str| {
        let says = move |request: Request| {
            let values = ["a", "b"].map(|name| request.param(name).unwrap_or_default().into_owned());
            format!("{name} {} {}", values[0], values[1])
        };
        Router::new().fallback(sync(says))
    };
    let build = |reverse: bool| {
        let mut all = vec![
            ("/api", nested("api")),
            ("/{a}", nested("tenant")),
            ("/api/v{a}", nested("version")),
            ("/users/{a}", Router::new().nest("/posts/{b}", nested("post"))),
            ("/{a}/x", nested("x")),
            ("/api/{a}/y", nested("y")),
        ];
        if reverse {
            all.reverse();
        }
        all.into_iter().fold(Router::new(), |router, (prefix, nested)| router.nest(prefix, nested))
    };
    for router in [build(false), build(true)] {
        for (path, expected) in [
            ("/api", "api  "),
            ("/api/", "api  "),
            ("/api/1", "api  "),
            ("/api/v1", "version 1 "),
            ("/api/v1/", "version 1 "),
            ("/api/v1/y", "version 1 "),
            ("/api/x", "api  "),
            ("/api/z/y/x", "y z "),
            ("/apis", "tenant apis "),
            ("/t%20u/y", "tenant t u "),
            ("/t/x", "x t "),
            ("/t/x/y//z", "x t "),
            ("/users/1/posts/2/y", "post 1 2"),
            ("/users/1/posts", "tenant users "),
        ] {
            assert_eq!(get(&router, path), expected, "{path}");
        }
        assert_eq!(said(&router, Method::GET, "/").0, 404);
        assert_eq!(said(&router, Method::GET, "//x").0, 404);
    }
    let twice = || Router::new().nest("/x/{a}", nested("one")).nest("/x/{b}", nested("two"));
    let target = || Router::new().nest("/x", Router::new().route(Method::OPTIONS, "*", sync(|_| "all")));
    assert_eq!(refused(target), "the route * cannot be nested under /x: it is not a path");
    assert_eq!(refused(twice), "two routers under /x/{a} and /x/{b} have a fallback");
}

#[test]
fn handlers_and_middleware_of_a_group_see_all_parameters_of_the_path_and_the_route() {
    let show = |request: &Request| {
        let of = |name| request.param(name).map(|value| value.into_owned());
        format!("{:?} {:?} {:?}", of("a"), of("b"), request.route())
    };
    let inner = Router::new()
        .get("/", sync(move |request| show(&request)))
        .get("/fixed", sync(move |request| show(&request)))
        .get("/{b}", move |request: Request| async move { show(&request) })
        .wrap(from_sync(move |request, next| {
            let shown = show(&request);
            next.call(request).map(move |response| response.with_header("x-shown", &shown))
        }));
    let router = Router::new().nest("/in/{a}", inner);
    for (path, expected) in [
        ("/in/1", r#"Some("1") None Some("/in/{a}")"#),
        ("/in/1/fixed", r#"Some("1") None Some("/in/{a}/fixed")"#),
        ("/in/1/%32", r#"Some("1") Some("2") Some("/in/{a}/{b}")"#),
    ] {
        let response = ask(&router, Method::GET, path);
        assert_eq!(response.headers().last().expect("a field").1.to_str().expect("ASCII"), expected);
        assert_eq!(get(&router, path), expected);
    }
    // A router that is a handler sees only the parameters of the path that it has matched.
    let handler = Router::new()
        .get("/in/fixed", sync(move |request| show(&request)))
        .get("/in/x/{b}", sync(move |request| show(&request)))
        .fallback(sync(move |request| show(&request)));
    let outer = Router::new().any("/in/{*a}", handler);
    for (path, expected) in [
        ("/in/fixed", r#"None None Some("/in/fixed")"#),
        ("/in/x/2", r#"None Some("2") Some("/in/x/{b}")"#),
        ("/in/y", r#"None None Some("/in/{*a}")"#),
    ] {
        assert_eq!(get(&outer, path), expected);
    }
}

#[test]
fn states_are_those_of_the_router_and_of_the_routers_around_it() {
    let show = || {
        sync(|request| {
            let number = request.try_state::<u32>().map(|number| *number);
            format!("{number:?} {:?}", request.try_state::<&str>())
        })
    };
    let inner = Router::new().get("/", show()).with_state(2_u32).with_state(3_u32);
    let router = Router::new()
        .get("/early", show())
        .nest("/inner", inner)
        .with_state(1_u32)
        .with_shared_state(Arc::new("text"))
        .get("/late", show())
        .wrap(from_sync(|request, next| {
            assert_eq!(*request.state::<&str>(), "text");
            next.call(request)
        }))
        .fallback(show());
    for (path, expected) in [
        ("/early", r#"Some(1) Some("text")"#),
        ("/late", r#"Some(1) Some("text")"#),
        ("/inner", r#"Some(3) Some("text")"#),
        ("/none", r#"Some(1) Some("text")"#),
    ] {
        assert_eq!(get(&router, path), expected, "{path}");
    }
    assert_eq!(get(&Router::new().get("/", show()), "/"), "None None");
}

#[test]
#[should_panic(expected = "no router of this request has a state of the type u8; `with_state` gives it one")]
fn a_missing_state_is_named() {
    Request::new(Method::GET, "/", ()).state::<u8>();
}

#[test]
#[should_panic(
    expected = "the state of this request is an Arc<u8>: give it to the router by `with_shared_state`"
)]
fn a_state_that_is_shared_twice_is_named() {
    let router =
        Router::new().get("/", sync(|request| request.state::<u8>().to_string())).with_state(Arc::new(1_u8));
    get(&router, "/");
}

#[test]
fn a_mistake_is_reported_where_the_application_makes_it() {
    thread_local! {
        static REPORT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        REPORT.set(panic.to_string());
        report(panic);
    }));
    for (make, said) in [
        (|| drop(Router::new().get("a", sync(|_| ""))), "has to begin with a slash: \"/a\""),
        (|| drop(Router::new().any("/:a", sync(|_| ""))), "the parameter is written \"{a}\""),
        (
            || drop(Router::new().get("/a", sync(|_| "")).get("/a", sync(|_| ""))),
            "/a has a handler for GET already",
        ),
        (
            || drop(Router::new().any("/a", sync(|_| "")).any("/a", sync(|_| ""))),
            "/a has a handler for any method already",
        ),
        (|| drop(Router::new().nest("/a/", Router::new())), "must not end with one"),
        (
            || drop(Router::new().put("/a", sync(|_| "")).merge(Router::new().put("/a", sync(|_| "")))),
            "/a has a handler for PUT already",
        ),
        (
            || drop(Response::new(()).with_header("x a", "1")),
            "the name of a field is not valid: InvalidHeaderName",
        ),
        (
            || drop(Response::new(()).with_header("x-a", "\n")),
            "the value of the field `x-a` is not valid: InvalidHeaderValue",
        ),
    ] as [(fn(), &str); 8]
    {
        assert!(std::panic::catch_unwind(make).is_err(), "{said}");
        let report = REPORT.take();
        assert!(report.contains(file!()) && report.contains(said), "{report}");
    }
}

#[test]
fn options_are_those_of_the_innermost_that_has_them() {
    const SECOND: Duration = Duration::from_secs(1);
    fn options(policy: Option<OnDisconnect>, timeout: Option<Duration>) -> RouteOptions {
        let mut options = RouteOptions::default();
        (options.on_disconnect, options.timeout) = (policy, timeout);
        options
    }
    let later = async |_: Request| "later";
    let inner = Router::new()
        .get("/own", on_disconnect(OnDisconnect::Ignore, later))
        .get("/both", on_disconnect(OnDisconnect::Ignore, on_disconnect(OnDisconnect::Detach, later)))
        .get("/time", timeout(SECOND, later))
        .get("/plain", later)
        .get("/blocking", blocking(|_| "later"))
        .with_options(options(Some(OnDisconnect::Detach), None))
        .wrap(named("inner"));
    let router = Router::new()
        .nest("/in", inner)
        .get("/plain", later)
        .with_options(options(Some(OnDisconnect::Cancel), Some(2 * SECOND)))
        .wrap(named("outer"))
        .wrap(map_response(|response| response))
        .wrap(map_request(Ok::<_, StatusCode>));
    for (path, policy, time) in [
        ("/in/own", OnDisconnect::Ignore, 2 * SECOND),
        ("/in/both", OnDisconnect::Detach, 2 * SECOND),
        ("/in/time", OnDisconnect::Detach, SECOND),
        ("/in/plain", OnDisconnect::Detach, 2 * SECOND),
        ("/in/blocking", OnDisconnect::Detach, 2 * SECOND),
        ("/plain", OnDisconnect::Cancel, 2 * SECOND),
    ] {
        match router.call(Request::new(Method::GET, path, ())) {
            Answer::Later(_, found) => assert_eq!(found, options(Some(policy), Some(time)), "{path}"),
            ready => panic!("{path}: {ready:?}"),
        }
    }
    // So are those of the handlers of requests without a handler.
    let hooks = Router::new()
        .get("/x", later)
        .not_found(timeout(SECOND, later))
        .method_not_allowed(timeout(SECOND, later))
        .with_options(options(None, Some(2 * SECOND)))
        .wrap(named("outer"));
    for path in ["/none", "/x"] {
        match hooks.call(Request::new(Method::PUT, path, ())) {
            Answer::Later(_, found) => assert_eq!(found, options(None, Some(SECOND)), "{path}"),
            ready => panic!("{path}: {ready:?}"),
        }
    }
    // Middleware that does not wait leaves a sync handler sync.
    let sync = Router::new()
        .get("/", sync(|_| "now"))
        .wrap(map_response(|response| response))
        .wrap(map_request(Ok::<_, StatusCode>))
        .wrap(from_sync(|request, next| next.call(request)));
    assert!(matches!(sync.call(Request::new(Method::GET, "/", ())), Answer::Ready(_)));
}

#[test]
fn a_request_can_be_refused_before_its_handler() {
    let router = Router::new()
        .get("/", sync(|_| "secret"))
        .wrap(map_request(|request: Request| match request.query_str() {
            Some("key") => Ok(request),
            _ => Err(StatusCode::UNAUTHORIZED),
        }))
        .wrap(from_sync(|request, next| match request.method() {
            &Method::HEAD => StatusCode::FORBIDDEN.into(),
            _ => next.call(request),
        }));
    assert_eq!(said(&router, Method::GET, "/").0, 401);
    assert_eq!(said(&router, Method::HEAD, "/?key").0, 403);
    assert_eq!(get(&router, "/?key"), "secret");
}

/// The message of the panic of `build`.
fn refused(build: impl FnOnce() -> Router + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(build).expect_err("the router refuses it");
    panic
        .downcast::<String>()
        .map_or_else(|panic| panic.downcast_ref::<&str>().unwrap_or(&"").to_string(), |s| *s)
}

#[test]
fn mistakes_in_paths_are_refused_with_a_hint() {
    let route = |path: &'static str| refused(move || Router::new().get(path, sync(|_| "x")));
    assert_eq!(route("users"), r#"the route "users" has to begin with a slash: "/users""#);
    assert_eq!(
        route("/users/:id"),
        r#"the route "/users/:id" would match the text ":id"; the parameter is written "{id}""#
    );
    assert_eq!(
        route("/files/*rest"),
        r#"the route "/files/*rest" would match the text "*rest"; the parameter is written "{*rest}""#
    );
    assert!(route("/{").starts_with("the route /{ cannot be added: "));
    for prefix in ["users", "/users/", "/", ""] {
        assert!(
            refused(move || Router::new().nest(prefix, Router::new())).contains("has to begin with a slash")
        );
    }
    let two = || Router::new().get("/a", sync(|_| "x"));
    assert!(refused(move || two().merge(two())).contains("has a handler for GET already"));
    assert!(
        refused(move || two().nest("/b", two()).get("/b/a", sync(|_| "x")))
            .contains("has a handler for GET already")
    );
    let fallback = || Router::new().fallback(sync(|_| "x"));
    assert!(refused(move || fallback().merge(fallback())).contains("both have a fallback"));
    // These are no mistakes.
    let odd =
        Router::new().get("/a:b", sync(|_| "x")).get("/a*", sync(|_| "y")).get("/{x}:go", sync(|_| "z"));
    assert_eq!(
        (get(&odd, "/a:b"), get(&odd, "/a*"), get(&odd, "/1:go")),
        ("x".into(), "y".into(), "z".into())
    );
}

#[test]
fn methods_of_one_path_may_come_from_several_routers() {
    let writes = Router::new().post("/x", sync(|_| "written")).wrap(named("w"));
    let router = Router::new().get("/x", sync(|_| "read")).merge(writes);
    assert_eq!(get(&router, "/x"), "read");
    assert_eq!(said(&router, Method::POST, "/x"), (200, "w(written)".into()));
    let response = ask(&router, Method::PUT, "/x");
    assert_eq!(response.header(&header::ALLOW).expect("it is a 405"), "GET, HEAD, POST, OPTIONS");
}
