//! What applications read from requests and set in responses, on the wire; the runtime and the client for tests.

use std::io::Read;
use std::time::Duration;

use gearshift::cookie::{Cookie, Key};
use gearshift::{
    Backend, Body, Bytes, IntoResponse, Multipart, Refusal, Request, Response, Router, StatusCode,
    TestRuntime, TestServer, blocking, compute, header, sync,
};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "web",
    &[
        ("a_field_that_is_set_twice_is_sent_once", fields),
        ("a_stream_has_the_length_that_the_handler_has_set", stream_length),
        ("a_redirect_has_its_status_and_an_encoded_location", redirects),
        ("cookies_are_read_from_all_lines_and_set_in_a_line_each", cookies),
        ("a_collected_body_has_a_limit_of_2_mib_that_a_route_can_change", body_limit),
        ("a_query_is_a_value_or_refused", query),
        ("a_form_with_a_large_file_is_read_in_pieces", multipart),
        ("a_form_that_is_malformed_or_too_large_is_refused", bad_multipart),
        ("a_handler_is_called_with_a_runtime_and_without_a_socket", test_runtime),
        ("the_client_reads_each_framing_on_one_connection", test_client),
        ("the_client_reads_a_stream_while_it_arrives", test_client_streams),
    ],
);

const KEY: [u8; 64] = [7; 64];

fn fields(backend: Backend) {
    let server = Running::serve(backend, |_| {
        Router::new()
            .get("/set", sync(|_| Response::text("{}").with_header("content-type", "application/json")))
            .get("/tuple", sync(|_| ([("Content-Type", "application/json")], "{}")))
            .get(
                "/map",
                sync(|_| {
                    let response = Response::html("{}").with_header(header::CONTENT_TYPE, "application/json");
                    (response.into_http().headers().clone(), "{}")
                }),
            )
            .get("/removed", sync(|_| "{}".into_response().remove_header("content-type")))
            .get("/two", sync(|_| Response::new("{}").append_header("vary", "a").append_header("vary", "b")))
    });
    let mut client = server.client();
    for path in ["/set", "/tuple", "/map"] {
        let answer = client.get(path);
        let types: Vec<_> = answer.fields_called("content-type").collect();
        assert_eq!((types, answer.text()), (vec!["application/json"], "{}".into()), "{path}");
    }
    assert_eq!(client.get("/removed").field("content-type"), None);
    assert_eq!(client.get("/two").fields_called("vary").collect::<Vec<_>>(), ["a", "b"]);
}

/// Answers with a stream of five bytes, and with the `Content-Length` that the query names.
fn five(request: Request) -> Response {
    let pieces = ["te", "xt!"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    let response = Response::new(Body::from_stream(futures_util::stream::iter(pieces)));
    match request.query_str() {
        Some(length) => response.with_header("content-length", length),
        None => response,
    }
}

fn stream_length(backend: Backend) {
    /// Passes the response through the types of the `http` crate, as a layer of tower does.
    fn converted(request: Request) -> Response {
        Response::from_http(five(request).into_http())
    }
    let server =
        Running::serve(backend, |_| Router::new().get("/", sync(five)).get("/http", sync(converted)));
    let mut client = server.client();
    for path in ["/", "/http"] {
        for (length, framing) in [("?5", (Some("5"), None)), ("", (None, Some("chunked")))] {
            let answer = client.get(&format!("{path}{length}"));
            let fields = (answer.field("content-length"), answer.field("transfer-encoding"));
            assert_eq!((fields, answer.text()), (framing, "text!".into()), "{path}{length}");
        }
        // A wrong length is not repaired, and the peer notices.
        for length in [4, 6] {
            let mut client = server.client();
            client.send(format!("GET {path}?{length} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let mut bytes = Vec::new();
            // The connection may be reset.
            let _ = client.socket.read_to_end(&mut bytes);
            let text = String::from_utf8(bytes).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            assert!(head.is_empty() || head.contains(&format!("Content-Length: {length}")), "{head}");
            assert!(body.len() < length, "{path}?{length}: {body}");
        }
    }
}

fn redirects(backend: Backend) {
    let server = Running::serve(backend, |_| {
        let to = |request: &Request| request.query_param("to").unwrap_or_default().into_owned();
        Router::new()
            .get("/303", sync(move |request| Response::redirect(to(&request))))
            .get("/307", sync(move |request| Response::temporary_redirect(to(&request))))
            .get("/308", sync(move |request| Response::permanent_redirect(to(&request))))
            .get("/302", sync(move |request| Response::found(to(&request))))
            .get("/301", sync(move |request| Response::moved_permanently(to(&request))))
    });
    let mut client = server.client();
    for status in [303, 307, 308, 302, 301] {
        let answer = client.get(&format!("/{status}?to=/a%20%C3%BC"));
        assert_eq!((answer.status, answer.field("location")), (status, Some("/a%20%C3%BC")));
        let refused = client.get(&format!("/{status}?to=/a%0D%0ASet-Cookie:%20b=c"));
        assert_eq!((refused.status, refused.field("location")), (500, None));
        assert_eq!(refused.field("set-cookie"), None);
    }
}

fn cookies(backend: Backend) {
    let server = Running::serve(backend, |_| {
        let key = Key::from(&KEY);
        let login = key.clone();
        Router::new()
            .get(
                "/names",
                sync(|request: Request| {
                    request.cookies().map(|cookie| format!("{cookie};")).collect::<String>()
                }),
            )
            .get(
                "/login",
                sync(move |_| {
                    Response::text("welcome")
                        .with_signed_cookie(
                            &login,
                            Cookie::build(("user", "ada é")).path("/").http_only(true),
                        )
                        .with_private_cookie(&login, ("secret", "forty-two"))
                        .remove_cookie("old")
                }),
            )
            .get(
                "/user",
                sync(move |request: Request| {
                    let user = request.signed_cookie(&key, "user")?;
                    let secret = request.private_cookie(&key, "secret")?;
                    Some(format!("{} {}", user.value(), secret.value()))
                }),
            )
    });
    let mut client = server.client();
    let mut get = |path: &str, lines: &[&str]| {
        let lines: String = lines.iter().map(|line| format!("Cookie: {line}\r\n")).collect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"));
        client.answer()
    };
    assert_eq!(get("/names", &["a=1; nonsense; b=", "=x; a=2"]).said(), (200, "a=1;b=;a=2;".into()));
    let answer = get("/login", &[]);
    let set: Vec<_> = answer.fields_called("set-cookie").collect();
    let pairs: Vec<_> = set.iter().map(|field| field.split(';').next().unwrap_or_default()).collect();
    let [user, secret, "old="] = pairs[..] else { panic!("{set:?}") };
    assert!(set[0].ends_with("; HttpOnly; Path=/") && !set[1].contains("forty-two"), "{set:?}");
    assert_eq!(get("/user", &[user, secret]).said(), (200, "ada é forty-two".into()));
    assert_eq!(get("/user", &["user=ada%20%C3%A9", secret]).status, 404);
    assert_eq!(get("/user", &[user, "secret=forty-two"]).status, 404);
}

fn body_limit(backend: Backend) {
    const LIMIT: usize = 2_097_152;
    assert_eq!(Request::DEFAULT_BODY_LIMIT, LIMIT);
    let server = Running::serve(backend, |_| {
        let stream = async |request: Request| {
            let (mut body, mut len) = (request.into_body(), 0);
            while let Some(chunk) = body.chunk().await.transpose()? {
                len += chunk.len();
            }
            Ok::<_, Refusal>(len.to_string())
        };
        let text = async |request: Request| Ok::<_, Refusal>(request.text().await?.len().to_string());
        Router::new()
            .post("/bytes", async |request: Request| request.bytes().await.map(|all| all.len().to_string()))
            .post("/text", text)
            .post("/small", async |request: Request| request.with_body_limit(3).text().await)
            .post("/large", gearshift::body_limit(LIMIT + 1, text))
            .post("/stream", stream)
    });
    let post = |path: &str, len: usize, is_chunked: bool| {
        let mut client = server.client();
        let framing = match is_chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {len}"),
        };
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
        let mut socket = client.socket.try_clone().expect("a socket can be shared");
        // The server answers before the end of a body that is too large.
        let writing = std::thread::spawn(move || {
            use std::io::Write;
            let body = vec![b'x'; len];
            let _ = match is_chunked {
                true => write!(socket, "{len:x}\r\n")
                    .and_then(|()| socket.write_all(&body))
                    .and_then(|()| socket.write_all(b"\r\n0\r\n\r\n")),
                false => socket.write_all(&body),
            };
        });
        let answer = Client::answer(&mut client);
        drop(client);
        writing.join().expect("the writer does not panic");
        (answer.status, answer.text())
    };
    for is_chunked in [false, true] {
        for path in ["/bytes", "/text"] {
            assert_eq!(post(path, LIMIT, is_chunked), (200, LIMIT.to_string()), "{path}");
            assert_eq!(post(path, LIMIT + 1, is_chunked).0, 413, "{path}");
        }
        assert_eq!(post("/small", 3, is_chunked), (200, "xxx".into()));
        assert_eq!(post("/small", 4, is_chunked).0, 413);
        assert_eq!(post("/large", LIMIT + 1, is_chunked), (200, (LIMIT + 1).to_string()));
        assert_eq!(post("/large", LIMIT + 2, is_chunked).0, 413);
        assert_eq!(post("/stream", 2 * LIMIT, is_chunked), (200, (2 * LIMIT).to_string()));
    }
    // The next request of the connection, whose memory is used again, has the default limit.
    let mut client = server.client();
    for path in ["/small", "/text"] {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(client.answer().status, 200);
    }
    client.send("POST /text HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nabcd");
    assert_eq!(client.answer().said(), (200, "4".into()));
}

fn query(backend: Backend) {
    let server = Running::serve(backend, |_| {
        Router::new().get(
            "/",
            sync(|request: Request| {
                let (name, n): (String, u8) = request
                    .query::<std::collections::BTreeMap<String, u8>>()
                    .map(|pairs| pairs.into_iter().next().unwrap_or_default())?;
                Ok::<_, Refusal>(format!("{name} {n}"))
            }),
        )
    });
    let mut client = server.client();
    assert_eq!(client.get("/?a+b=%31").said(), (200, "a b 1".into()));
    assert_eq!(client.get("/").said(), (200, " 0".into()));
    assert_eq!(client.get("/?a=256").status, 400);
}

/// Counts the bytes of each field in pieces.
async fn count(request: Request) -> Result<String, Refusal> {
    let mut form = request.multipart()?.with_max_fields(3).with_field_limit(8 << 20);
    let mut counts = String::new();
    while let Some(mut field) = form.next_field().await? {
        let name =
            format!("{:?} {:?}", field.name().unwrap_or_default(), field.file_name().unwrap_or_default());
        let mut len = 0;
        while let Some(chunk) = field.chunk().await? {
            len += chunk.len();
        }
        counts += &format!("{name} {len};");
    }
    Ok(counts)
}

/// The text of the first field.
async fn first(request: Request) -> Result<String, Refusal> {
    let mut form = request.multipart()?;
    let field = form.next_field().await?.ok_or(StatusCode::NOT_FOUND)?;
    field.text().await
}

fn forms(backend: Backend) -> Running {
    Running::serve(backend, |_| Router::new().post("/count", count).post("/first", first))
}

fn form_field(head: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--X\r\nContent-Disposition: form-data; {head}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn post_form(client: &mut Client, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    client.answer().said()
}

const FORM: &str = "multipart/form-data; boundary=X";

fn multipart(backend: Backend) {
    let server = forms(backend);
    let mut client = server.client();
    let file = vec![b'\r'; 8 << 20];
    let body = [
        form_field("name=a", b"text"),
        form_field("name=f; filename=\"g.bin\"", &file),
        b"--X--\r\n".to_vec(),
    ]
    .concat();
    let expected = format!("\"a\" \"\" 4;\"f\" \"g.bin\" {};", file.len());
    assert_eq!(post_form(&mut client, "/count", FORM, &body), (200, expected.clone()));
    // What follows the field that is read does not matter.
    assert_eq!(post_form(&mut client, "/first", FORM, &body[..200]), (200, "text".into()));
    let mut client = server.client();
    client.send(format!(
        "POST /count HTTP/1.1\r\nHost: test\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    for chunk in body.chunks(100_000) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.answer().said(), (200, expected));
}

fn bad_multipart(backend: Backend) {
    let server = forms(backend);
    let status =
        |content_type: &str, body: &[u8]| post_form(&mut server.client(), "/count", content_type, body).0;
    let field = form_field("name=a", b"text");
    let form = |count: usize| [field.repeat(count), b"--X--".to_vec()].concat();
    assert_eq!(status(FORM, &form(3)), 200);
    assert_eq!(status(FORM, &form(4)), 413);
    assert_eq!(status("multipart/mixed; boundary=X", &form(1)), 415);
    assert_eq!(status("multipart/form-data", &form(1)), 400);
    assert_eq!(status(FORM, &field), 400);
    assert_eq!(status(FORM, b"nothing"), 400);
    let head = form_field(&format!("name={}", "x".repeat(Multipart::MAX_FIELD_HEAD)), b"");
    let head = [head, b"--X--".to_vec()].concat();
    assert_eq!(status(FORM, &head), 413);
    let large = form_field("name=a", &vec![b'x'; (8 << 20) + 1]);
    let mut client = server.client();
    client.send(format!(
        "POST /count HTTP/1.1\r\nHost: test\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n",
        large.len() + 5
    ));
    client.send(&large);
    assert_eq!(client.answer().status, 413);
    // The fields that are collected have the limit of a collected body.
    let large =
        [form_field("name=a", &vec![b'x'; Request::DEFAULT_BODY_LIMIT + 1]), b"--X--".to_vec()].concat();
    assert_eq!(post_form(&mut server.client(), "/first", FORM, &large).0, 413);
}

fn test_runtime(backend: Backend) {
    let runtime = TestRuntime::start(backend).expect("the runtime starts");
    let router = Router::new()
        .get("/later", async |request: Request| {
            let runtime = request.runtime();
            runtime.sleep(Duration::from_millis(1)).await;
            let task = runtime.spawn(async { "spawned" });
            let offloaded = runtime.blocking(|| "blocked").await;
            format!("{} {offloaded} on {}", task.await.unwrap_or("cancelled"), runtime.backend())
        })
        .get(
            "/blocking",
            blocking(|request: Request| {
                let runtime = request.runtime().clone();
                runtime.block_on(runtime.sleep(Duration::from_millis(1)));
                "blocked"
            }),
        )
        .get("/compute", compute(|_| "computed"))
        .post("/json", async |request: Request| {
            let numbers: Vec<u8> = request.json().await?;
            Ok::<_, Refusal>(Response::json(&numbers.len()))
        });
    let text = |request| {
        let response = runtime.call(&router, request);
        (response.status().as_u16(), runtime.block_on(response.into_body().text()).expect("text"))
    };
    let spawned = format!("spawned blocked on {backend}");
    assert_eq!(text(Request::get("/later")), (200, spawned));
    assert_eq!(text(Request::get("/blocking")), (200, "blocked".into()));
    assert_eq!(text(Request::get("/compute")), (200, "computed".into()));
    assert_eq!(text(Request::post("/json").with_json(&[1, 2, 3])), (200, "3".into()));
    assert_eq!(text(Request::post("/json").with_form(&[("a", "b")])).0, 415);
}

/// Answers with the port of the peer, in the framing that the path names.
fn framed(request: Request) -> Option<Response> {
    let port = request.peer()?.port().to_string();
    Some(match request.path() {
        "/length" => Response::text(port),
        "/chunked" => Response::new(Body::from_stream(futures_util::stream::iter([
            Ok::<_, std::io::Error>(Bytes::from(port)),
            Ok(Bytes::from_static(b"!")),
        ]))),
        "/none" => Response::status_only(StatusCode::NO_CONTENT).with_header("port", port),
        "/redirect" => Response::redirect("/length").with_header("port", port),
        _ => Response::text(port).with_status(StatusCode::INTERNAL_SERVER_ERROR),
    })
}

fn test_client(backend: Backend) {
    let router = ["/length", "/chunked", "/none", "/redirect", "/error"]
        .into_iter()
        .fold(Router::new(), |router, path| router.get(path, sync(framed)))
        .post("/echo", async |request: Request| {
            let mut fields: Vec<_> =
                request.headers().into_iter().map(|(name, _)| name.to_lowercase()).collect();
            fields.sort();
            let fields = fields.join(" ");
            Ok::<_, Refusal>((StatusCode::CREATED, [("fields", fields)], request.into_body()))
        });
    let server = TestServer::start(backend, router).expect("the server starts");
    let port = server.get("/length").text();
    assert_eq!(server.get("/chunked").text(), format!("{port}!"));
    let none = server.get("/none");
    assert_eq!((none.status().as_u16(), none.header("Port")), (204, Some(&*port)));
    assert_eq!(none.text(), "");
    let redirect = server.get("/redirect");
    assert_eq!((redirect.status().as_u16(), redirect.header("port")), (303, Some(&*port)));
    assert_eq!(redirect.bytes(), b"");
    let head = server.send(Request::head("/length"));
    assert_eq!(head.header("content-length"), Some(&*port.len().to_string()));
    assert_eq!(head.text(), "");
    let error = server.get("/error");
    assert_eq!((error.status().as_u16(), error.text()), (500, port.clone()));
    let echo = server.send(Request::post("/echo").with_header("x-a", "1").with_json(&[1, 2]));
    assert_eq!(
        (echo.status().as_u16(), echo.header("fields")),
        (201, Some("content-length content-type host x-a"))
    );
    assert_eq!(echo.json::<Vec<u8>>(), [1, 2]);
    assert_eq!(server.send(Request::post("/echo")).text(), "");
    assert_eq!(server.get("/length").text(), port);
    server.stop().expect("the server stops");
}

fn test_client_streams(backend: Backend) {
    let server = TestServer::start(
        backend,
        Router::new().get(
            "/",
            sync(|request: Request| {
                let runtime = request.runtime().clone();
                Response::new(Body::from_stream(futures_util::stream::unfold(0, move |n| {
                    let stopping = runtime.stopping();
                    async move {
                        if n > 0 {
                            stopping.await;
                        }
                        (n < 2).then(|| (Ok::<_, std::io::Error>(Bytes::from(format!("{n}"))), n + 1))
                    }
                })))
            }),
        ),
    )
    .expect("the server starts");
    let mut reader = server.get("/").into_reader();
    let mut first = [0];
    reader.read_exact(&mut first).expect("the first piece");
    assert_eq!(&first, b"0");
    server.shutdown().graceful();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "1");
}
