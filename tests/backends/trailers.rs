//! Trailers in both directions: of requests however they arrive, of responses, and through the types of `http_body`,
//! tower and hyper. The files of `tests/wire` have their syntax.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use futures_lite::{StreamExt, future, stream};
use gearshift::hyper::{Executor, Io};
use gearshift::{
    Backend, Body, BodyError, BoxError, Bytes, Config, HeaderMap, HeaderValue, Request, Response, Router,
    Runtime, blocking,
};
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::Frame;
use test_support::PATIENCE;
use test_support::app::app;
use test_support::backend::{begins_with_head, few_workers};
use test_support::client::{Answer, Client};
use test_support::server::Running;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "trailers",
    &[
        ("an_echo_carries_trailers_that_come_with_the_head", |backend| echo(backend, &[usize::MAX])),
        ("an_echo_carries_trailers_that_come_in_pieces", |backend| echo(backend, &[60, 7, 3, 5, 1])),
        ("an_echo_carries_trailers_that_come_a_byte_at_a_time", |backend| echo(backend, &[1])),
        ("an_echo_of_a_large_body_carries_trailers", large_echo),
        ("a_handler_reads_trailers_that_come_a_byte_at_a_time", read_bytewise),
        ("a_task_reads_trailers_after_the_response", read_late),
        ("a_streamed_response_ends_with_trailers_made_of_its_data", streamed),
        ("a_response_to_head_has_no_trailers", head),
        ("a_response_to_an_old_peer_has_no_trailers", old_peer),
        ("trailers_beyond_a_limit_are_answered_431", beyond_limit),
        ("trailers_beyond_a_limit_cut_an_echo", beyond_limit_of_echo),
        ("a_trailer_section_that_is_cut_is_no_end", cut),
        ("trailers_survive_the_frames_of_http_body", frames),
        ("trailers_survive_a_proxy_of_hyper", proxy),
    ],
);

/// The settings under which a body is buffered before the handler is called, if the backend does so, and those under
/// which it is read through the connection.
fn settings(backend: Backend) -> [Config; 2] {
    [few_workers(backend), begins_with_head(backend)]
}

/// Sends `request` in pieces whose lengths repeat `lengths`.
fn send_in_pieces(client: &mut Client, request: &str, lengths: &[usize]) {
    let (mut rest, mut lengths) = (request.as_bytes(), lengths.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(lengths.next().copied().unwrap_or(1)));
        client.send(piece);
        rest = after;
    }
}

fn post(path: &str, chunks: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

fn trailers(answer: &Answer) -> Vec<(&str, &str)> {
    answer.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Sends requests back to back on one connection. Trailers follow every second one.
fn echo(backend: Backend, lengths: &[usize]) {
    let with = post("/echo", "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\nX-Other:\r\n\r\n");
    let without = post("/echo", "3\r\nabc\r\n0\r\n\r\n");
    for config in settings(backend) {
        let server = Running::start(backend, config, |_| app());
        let mut client = server.client();
        send_in_pieces(&mut client, &[&*with, &without, &with, &without].concat(), lengths);
        for _ in 0..2 {
            let answer = client.answer();
            assert_eq!(answer.said(), (200, "abcde".into()));
            assert_eq!(trailers(&answer), [("X-Sum", "1"), ("X-Sum", "2"), ("X-Other", "")]);
            let answer = client.answer();
            assert_eq!(answer.said(), (200, "abc".into()));
            assert_eq!(trailers(&answer), []);
        }
    }
}

fn large_echo(backend: Backend) {
    const LEN: usize = 4 << 20;
    let server = Running::start(backend, few_workers(backend), |_| app());
    let mut client = server.client();
    let mut to = Client::new(client.socket.try_clone().expect("a socket can be shared"));
    let sending = std::thread::spawn(move || {
        to.send(post("/echo", &format!("{LEN:x}\r\n")));
        to.send(vec![b'x'; LEN]);
        to.send("\r\n0\r\nX-Sum: 1\r\n\r\n");
    });
    let answer = client.answer();
    assert!(answer.status == 200 && answer.body == vec![b'x'; LEN], "{} bytes", answer.body.len());
    assert_eq!(trailers(&answer), [("X-Sum", "1")]);
    sending.join().expect("the sender does not panic");
    assert_eq!(client.get("/plaintext").status, 200, "the connection goes on");
}

fn read_bytewise(backend: Backend) {
    for config in settings(backend) {
        let server = Running::start(backend, config, |_| app());
        let mut client = server.client();
        for path in ["/test/read-trailers", "/test/read-trailers-sync"] {
            client.send(post(path, "3\r\nabc\r\n0\r\n"));
            send_in_pieces(&mut client, "X-Sum: 1\r\nX-Other: 2\r\n\r\n", &[1]);
            assert_eq!(client.answer().said(), (200, "abc [x-other][2][x-sum][1]".into()), "{path}");
        }
    }
}

/// The trailers that came with the data stay readable after the response.
fn read_late(backend: Backend) {
    for config in settings(backend) {
        let (tell, told) = mpsc::channel();
        let server = Running::start(backend, config, move |runtime: Runtime| {
            Router::new().post("/", move |mut request: Request| {
                let (runtime, tell): (_, Sender<_>) = (runtime.clone(), tell.clone());
                async move {
                    while request.body_mut().chunk().await.transpose()?.is_some() {}
                    let mut body = request.into_body();
                    Ok::<_, BodyError>(Response::text("read").after(async move {
                        runtime.spawn(async move { tell.send(body.trailers().await) }).detach();
                    }))
                }
            })
        });
        let mut client = server.client();
        client.send(post("/", "3\r\nabc\r\n"));
        client.send("0\r\nX-Sum: 1\r\n\r\n");
        assert_eq!(client.answer().said(), (200, "read".into()));
        let trailers = told.recv_timeout(PATIENCE).expect("the task ends").expect("no error");
        assert_eq!(trailers.expect("there are trailers")["x-sum"], "1");
    }
}

/// A body of a thousand pieces, with their sum as a trailer. The sum is complete once the data has ended.
fn summed() -> Body {
    let sum = Arc::new(AtomicU64::new(0));
    let total = sum.clone();
    let pieces = stream::iter(0..1000).map(move |n: u64| {
        sum.fetch_add(n, Ordering::SeqCst);
        Ok::<_, BoxError>(Bytes::from(vec![n as u8; 1000]))
    });
    Body::from_stream(pieces).with_trailers(async move {
        future::yield_now().await;
        let sum = HeaderValue::from(total.load(Ordering::SeqCst));
        Some(Ok(HeaderMap::from_iter([("x-sum".parse().expect("a name"), sum)])))
    })
}

fn summing() -> Router {
    Router::new().any("/", async |_: Request| Response::new(summed()).with_header("trailer", "x-sum"))
}

fn streamed(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| summing());
    let mut client = server.client();
    for te in ["", "TE: trailers\r\n"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{te}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
        assert_eq!(trailers(&answer), [("X-Sum", "499500")], "{te}");
        assert_eq!(answer.field("Trailer"), Some("x-sum"));
    }
}

fn head(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| summing());
    let mut client = server.client();
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\nHEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    for _ in 0..2 {
        let answer = client.try_answer(true).expect("a head");
        assert_eq!((answer.status, answer.field("Transfer-Encoding")), (200, Some("chunked")));
    }
}

fn old_peer(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| summing());
    let mut client = server.client();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.len(), answer.closes()), (200, 1_000_000, true));
    assert_eq!(trailers(&answer), []);
    client.expect_end();
}

/// Trailer sections within and beyond `Limits::fields`, `Limits::field_line` and `Limits::head`, under the settings of
/// [`limited`].
fn sections() -> [(String, bool); 6] {
    [
        ("X: y\r\n".repeat(20), true),
        ("X: y\r\n".repeat(21), false),
        (format!("X: {}\r\n", "y".repeat(97)), true),
        (format!("X: {}\r\n", "y".repeat(98)), false),
        (format!("X: {}\r\n", "y".repeat(78)).repeat(6) + "X: y\r\n", true),
        (format!("X: {}\r\n", "y".repeat(78)).repeat(6) + "X: yy\r\n", false),
    ]
}

fn limited(mut config: Config) -> Config {
    (config.limits.fields, config.limits.field_line, config.limits.head) = (20, 100, 6 * 83 + 6 + 2);
    config
}

fn beyond_limit(backend: Backend) {
    for config in settings(backend) {
        let server = Running::start(backend, limited(config), |_| app());
        for path in ["/test/read-trailers", "/test/read-trailers-sync"] {
            for (section, is_within) in sections() {
                for is_split in [false, true] {
                    let mut client = server.client();
                    client.send(post(path, if is_split { "1\r\na\r\n" } else { "" }));
                    let rest = if is_split { "" } else { "1\r\na\r\n" };
                    client.send(format!("{rest}0\r\n{section}\r\n"));
                    let answer = client.answer();
                    match is_within {
                        true => assert!(answer.text().starts_with("a [x][y"), "{section}: {answer:?}"),
                        false => {
                            assert_eq!(answer.status, 431, "{section}: {answer:?}");
                            client.expect_end();
                        }
                    }
                }
            }
        }
    }
}

fn beyond_limit_of_echo(backend: Backend) {
    let server = Running::start(backend, limited(begins_with_head(backend)), |_| app());
    for (section, is_within) in sections() {
        let mut client = server.client();
        client.send(post("/echo", "1\r\na\r\n"));
        // The echo has begun.
        let mut seen = client.exactly(1).expect("a response");
        while !seen.ends_with(b"\r\n\r\n1\r\na\r\n") {
            seen.extend(client.exactly(1).expect("the first chunk"));
        }
        client.send(format!("0\r\n{section}\r\n"));
        client.half_close();
        let rest = client.rest();
        let expected = if is_within { format!("0\r\n{section}\r\n") } else { String::new() };
        assert_eq!(String::from_utf8_lossy(&rest), expected);
    }
}

/// A peer that stops in its trailer section. Neither a handler nor a peer of an echo takes the rest for the whole.
fn cut(backend: Backend) {
    for config in settings(backend) {
        let server = Running::start(backend, config, |_| app());
        for section in ["", "X: y", "X: y\r\n", "X: y\r\n\r"] {
            for path in ["/test/read-trailers", "/test/read-trailers-sync"] {
                let mut client = server.client();
                client.send(post(path, &format!("1\r\na\r\n0\r\n{section}")));
                client.half_close();
                let answer = client.final_answer();
                assert_eq!(answer.said(), (400, "the body was cut short".into()), "{path}, {section:?}");
                client.expect_end();
            }
            let mut client = server.client();
            client.send(post("/echo", &format!("1\r\na\r\n0\r\n{section}")));
            client.half_close();
            let seen = client.rest();
            let seen = String::from_utf8_lossy(&seen);
            assert!(!seen.contains("\r\n0\r\n"), "an echo that was cut looks complete: {seen}");
        }
    }
}

/// A layer as those of tower: it maps the data of both bodies and knows nothing of trailers.
fn in_capitals(body: Body) -> Body {
    Body::from_http(
        body.map_frame(|frame| frame.map_data(|data: Bytes| Bytes::from(data.to_ascii_uppercase()))),
    )
}

fn frames(backend: Backend) {
    let router = |_| {
        Router::new()
            .post("/map", async |request: Request| {
                let request = request.into_http()?.map(in_capitals);
                let response = gearshift::http::Response::new(request.into_body());
                Ok::<_, BoxError>(Response::from_http(response))
            })
            .post("/collect", async |request: Request| {
                let all: Collected<Bytes> = BodyExt::collect(request.into_body()).await?;
                let trailers = all.trailers().cloned().unwrap_or_default();
                let frames = [Frame::data(all.to_bytes()), Frame::trailers(trailers)];
                let frames = stream::iter(frames.map(Ok::<_, BodyError>));
                Ok::<_, BodyError>(Response::new(in_capitals(Body::from_http(StreamBody::new(frames)))))
            })
            .post(
                "/blocking",
                blocking(|request: Request| {
                    let trailers = request.into_body().reader().trailers()?;
                    Ok::<_, std::io::Error>(Response::new(
                        Body::from("ABC").with_trailers(async { trailers.map(Ok) }),
                    ))
                }),
            )
    };
    for config in settings(backend) {
        let server = Running::start(backend, config, router);
        for path in ["/map", "/collect", "/blocking"] {
            let mut client = server.client();
            for is_split in [false, true] {
                let chunks = "3\r\nabc\r\n0\r\nX-Sum: one\r\n\r\n";
                let request = post(path, chunks);
                let lengths = if is_split { [request.len() - chunks.len(), 9] } else { [request.len(); 2] };
                send_in_pieces(&mut client, &request, &lengths);
                let answer = client.answer();
                assert_eq!(answer.said(), (200, "ABC".into()), "{path}");
                assert_eq!(trailers(&answer), [("X-Sum", "one")], "{path}");
            }
        }
    }
}

/// A proxy: the body of a request goes through hyper's client to another server, and its response goes back. hyper
/// sends the trailers that a field `Trailer` announces.
fn proxy(backend: Backend) {
    let origin = Running::start(backend, few_workers(backend), |_| app());
    let (address, errors) = (origin.addr().to_string(), Arc::new(Mutex::new(Vec::new())));
    let failed = errors.clone();
    let server = Running::start(backend, begins_with_head(backend), move |runtime: Runtime| {
        Router::new().post("/", move |request: Request| {
            let (runtime, address, failed) = (runtime.clone(), address.clone(), failed.clone());
            async move {
                let forwarded = async {
                    let stream = runtime.connect(&address).await?;
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(Io::new(stream)).await?;
                    hyper::rt::Executor::execute(&Executor::new(&runtime), connection);
                    let request = gearshift::http::Request::post("/echo")
                        .header("host", "origin")
                        .header("trailer", "x-sum")
                        .body(request.into_body())?;
                    Ok::<_, BoxError>(sender.send_request(request).await?)
                };
                match forwarded.await {
                    Ok(response) => Response::from_http(response),
                    Err(error) => {
                        failed.lock().expect("no panic").push(error.to_string());
                        Response::status_only(gearshift::StatusCode::BAD_GATEWAY)
                    }
                }
            }
        })
    });
    let mut client = server.client();
    for lengths in [&[usize::MAX][..], &[70, 9]] {
        send_in_pieces(&mut client, &post("/", "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"), lengths);
        let answer = client.answer();
        assert_eq!(answer.said(), (200, "abc".into()), "{:?}", errors.lock().expect("no panic"));
        assert_eq!(trailers(&answer), [("X-Sum", "1")]);
    }
}
