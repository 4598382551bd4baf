//! The application that gearshift's tests and benches use. It has one route for each kind of work, to show the cost of
//! a concurrency model.
//!
//! `cargo run --release -p demo -- --backend mio`

mod later;
mod page;
mod streams;
mod work;

use gearshift::{
    Body, Bytes, Request, Response, Router, StatusCode, blocking, compute, header, healthz, metrics, readyz,
    sync,
};

/// The application.
pub fn app() -> Router {
    let jobs = later::Jobs::default();
    let done = jobs.clone();
    Router::new()
        .get("/", sync(|request| Response::html(page::html(request.runtime().backend()))))
        .get("/plaintext", sync(|_| "Hello, World!"))
        .get("/json", sync(|_| Response::json(&Message { message: "Hello, World!" })))
        .get("/async", async |_| "Hello, World!")
        .post("/echo", sync(echo))
        .get("/stream/{n}", sync(stream))
        .get("/sleep/{ms}", work::sleep)
        .get("/data", later::data)
        .post("/later/{ms}", sync(move |request| jobs.defer(request)))
        .get("/later", sync(move |_| done.count()))
        .get("/block/{ms}", sync(work::block))
        .get("/offload/{ms}", blocking(work::block))
        .get("/cpu/{rounds}", sync(work::hash))
        .get("/compute/{rounds}", compute(work::hash))
        .get("/ws", sync(streams::echo))
        .get("/sse", sync(streams::ticks))
        .get("/panic", sync(panic))
        .get("/metrics", metrics())
        .get("/healthz", healthz())
        .get("/readyz", readyz())
}

/// A body that is serialised for each request.
#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

/// Streams the request body back. The memory that this takes does not depend on the size of the body.
fn echo(request: Request) -> Response {
    let content_type = request.headers().value(header::CONTENT_TYPE);
    let response = Response::new(request.into_body());
    match content_type {
        Some(content_type) => response.with_header(header::CONTENT_TYPE, content_type),
        None => response,
    }
}

/// The largest number of chunks of `/stream/{n}`.
const MAX_CHUNKS: u64 = 100_000;

/// Sends `n` lines. Each line is a chunk, which the stream yields when the chunk before it was taken.
fn stream(request: Request) -> Result<Response, Refusal> {
    let n = bounded(&request, "n", MAX_CHUNKS)?;
    let lines = futures_lite::stream::unfold(0, move |line| async move {
        futures_lite::future::yield_now().await;
        (line < n).then(|| (Ok::<_, std::io::Error>(Bytes::from(format!("chunk {line}\n"))), line + 1))
    });
    Ok(Response::text(Body::from_stream(lines)))
}

#[expect(clippy::panic)]
fn panic(_: Request) -> Response {
    panic!("a handler panics, as it was asked to")
}

/// The response to an invalid parameter.
type Refusal = (StatusCode, String);

/// Reads a number from the path. Other text is a 404, a number above `max` a 400.
fn bounded(request: &Request, name: &str, max: u64) -> Result<u64, Refusal> {
    let text = request.param(name).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((StatusCode::NOT_FOUND, format!("'{text}' is not a number")));
    }
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err((StatusCode::BAD_REQUEST, format!("{name} is at most {max}"))),
    }
}
