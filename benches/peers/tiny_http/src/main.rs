//! The demo's routes on tiny_http, a blocking server: it has one thread per connection, and here 16 threads per core
//! handle the requests, as many as gearshift's thread pool has.
//!
//! `cargo run --release -p peer-tiny_http -- 8004`

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

const MAX_MILLIS: u64 = 60_000;
const THREADS: usize = 16;
/// Longest body of an echo; gearshift has the same default.
const MAX_BYTES: u64 = 2 << 30;

type TextResponse = Response<io::Cursor<Vec<u8>>>;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: tiny_http PORT");
    let server = Server::http((Ipv4Addr::LOCALHOST, port)).map_err(io::Error::other)?;
    let server = Arc::new(server);
    let threads: Vec<_> = (0..THREADS * thread::available_parallelism()?.get())
        .map(|_| {
            let server = server.clone();
            thread::spawn(move || server.incoming_requests().for_each(serve))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no handler panics"));
    Ok(())
}

fn serve(mut request: Request) {
    let path = request.url().to_owned();
    let response = match (request.method(), path.as_str()) {
        (Method::Get, "/plaintext") => text(200, "Hello, World!"),
        (Method::Get, "/json") => json(),
        (Method::Post, "/echo") => echo(&mut request),
        (Method::Get, path) => match path.strip_prefix("/sleep/") {
            Some(millis) => sleep(millis.parse().ok()),
            None => text(404, "Not Found"),
        },
        _ => text(404, "Not Found"),
    };
    // Fails if the peer has disconnected. The threshold keeps large responses from being chunked.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}

fn field(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("both are ASCII")
}

fn text(status: u16, text: &str) -> TextResponse {
    Response::from_string(text).with_status_code(StatusCode(status))
}

fn json() -> TextResponse {
    let body = serde_json::to_vec(&Message { message: "Hello, World!" }).expect("a string is JSON");
    Response::from_data(body).with_header(field("Content-Type", "application/json"))
}

/// Returns the body. tiny_http cannot respond before the request was read, so the body is buffered.
fn echo(request: &mut Request) -> TextResponse {
    let content_type = request.headers().iter().find(|field| field.field.equiv("Content-Type")).cloned();
    let mut body = Vec::new();
    if request.as_reader().take(MAX_BYTES).read_to_end(&mut body).is_err() {
        return text(400, "Bad Request");
    }
    let response = Response::from_data(body);
    match content_type {
        Some(content_type) => response.with_header(content_type),
        None => response,
    }
}

fn sleep(millis: Option<u64>) -> TextResponse {
    match millis {
        Some(millis) if millis <= MAX_MILLIS => {
            thread::sleep(Duration::from_millis(millis));
            text(200, "ok")
        }
        Some(_) => text(400, "ms is at most 60000"),
        None => text(404, "Not Found"),
    }
}
