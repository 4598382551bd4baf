//! A service of gRPC, whose messages `prost` encodes, and a foreign client that calls it.
//!
//! A message on the wire is a byte that says whether it is compressed, its length, and its encoding. The status of a
//! call is a trailer.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use futures_lite::stream;
use gearshift::{Backend, Body, Bytes, HeaderMap, HeaderValue, Request, Response, Router, StatusCode};
use prost::Message;
use prost::bytes::BufMut;
use test_support::server::Running;

use super::app::patient;
use crate::tls::programs::run;

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Greeting {
    #[prost(string, tag = "1")]
    text: String,
}

const INVALID_ARGUMENT: u16 = 3;
const UNIMPLEMENTED: u16 = 12;

fn frame(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.put_u32(u32::try_from(message.encoded_len()).expect("a short message"));
    message.encode(&mut bytes).expect("memory has room");
    bytes.into()
}

async fn receive<M: Message + Default>(request: &mut Request) -> Option<M> {
    let bytes = std::mem::take(request.body_mut()).bytes(16 << 20).await.ok()?;
    let message = bytes.strip_prefix(&[0])?.get(4..)?;
    M::decode(message).ok()
}

/// The fields that end a call.
fn status(code: u16, why: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from(code));
    fields.insert("grpc-message", HeaderValue::try_from(why).expect("a short text"));
    fields
}

fn reply(body: Body, end: HeaderMap) -> Response {
    let body = body.with_trailers(async { Some(Ok(end)) });
    Response::new(body).with_header("content-type", "application/grpc")
}

async fn say(mut request: Request) -> Response {
    let tag = request.headers().value("x-tag");
    let Some(Name { name }) = receive(&mut request).await else {
        return reply(Body::empty(), status(INVALID_ARGUMENT, "no message"));
    };
    match name.as_str() {
        "" => reply(Body::empty(), status(INVALID_ARGUMENT, "no name")),
        "slow" => {
            request.runtime().sleep(Duration::from_secs(600)).await;
            reply(Body::empty(), status(0, ""))
        }
        name => {
            let mut end = status(0, "");
            if let Some(tag) = tag {
                end.insert("x-tag", tag);
            }
            reply(frame(&Greeting { text: format!("Hello, {name}") }).into(), end)
        }
    }
}

async fn count(mut request: Request) -> Response {
    let to = receive::<Name>(&mut request).await.and_then(|to| to.name.parse::<u32>().ok()).unwrap_or(0);
    let runtime = request.runtime().clone();
    let messages = stream::unfold(1, move |at| {
        let runtime = runtime.clone();
        async move {
            runtime.sleep(Duration::from_millis(1)).await;
            let message = frame(&Greeting { text: at.to_string() });
            (at <= to).then_some((Ok::<_, Infallible>(message), at + 1))
        }
    });
    reply(Body::from_stream(messages), status(0, ""))
}

/// The interpreter of Python that has gRPC: `GRPC_PYTHON`, or `python3`.
pub(super) fn python(backend: Backend) {
    let interpreter = std::env::var("GRPC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    match run(&interpreter, &["-c", "import grpc"], "", false) {
        Some((true, ..)) => {}
        _ => return eprintln!("{interpreter} has no gRPC, so nothing is tested"),
    }
    let server = Running::start(backend, patient(backend), |_| {
        Router::new().post("/test.Greeter/Say", say).post("/test.Greeter/Count", count).fallback(
            async |_: Request| {
                // The head is the whole response, so the status is a header field.
                let mut response =
                    Response::status_only(StatusCode::OK).with_header("content-type", "application/grpc");
                for (name, value) in &status(UNIMPLEMENTED, "no such method") {
                    response = response.with_header(name, value);
                }
                response
            },
        )
    });
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/h2/grpc_client.py");
    let args = [&client.display().to_string()[..], &server.addr().to_string()];
    let (is_success, out, err) = run(&interpreter, &args, "", false).expect("it is installed");
    let lines: Vec<_> = out.lines().map(str::trim_end).collect();
    let expected = [
        "unary Hello, Ada OK 7",
        "large True",
        "stream 1 2 3 4 5",
        "error INVALID_ARGUMENT no name",
        "error DEADLINE_EXCEEDED",
        "error UNIMPLEMENTED",
    ];
    assert!(is_success && lines == expected, "{out}\n{err}");
}
