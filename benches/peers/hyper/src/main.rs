//! The demo's routes on hyper: its HTTP/1.1 connections on tokio's work-stealing runtime, each as a task.
//!
//! `cargo run --release -p peer-hyper -- 8001`

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

type HyperResponse = Response<Either<Full<Bytes>, Incoming>>;

const MAX_MILLIS: u64 = 60_000;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: hyper PORT");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // The timer enables a deadline for request heads, which gearshift also has.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service_fn(respond));
        tokio::spawn(async move {
            // A peer that disconnects ends only its own connection.
            let _ = connection.await;
        });
    }
}

async fn respond(request: Request<Incoming>) -> Result<HyperResponse, Infallible> {
    let path = request.uri().path();
    let mut response = match (request.method(), path) {
        (&Method::GET, "/plaintext") => text(StatusCode::OK, "Hello, World!"),
        (&Method::GET, "/json") => json(),
        (&Method::POST, "/echo") => echo(request),
        (&Method::GET, _) => match path.strip_prefix("/sleep/") {
            Some(millis) => sleep(millis.parse().ok()).await,
            None => text(StatusCode::NOT_FOUND, "Not Found"),
        },
        _ => text(StatusCode::NOT_FOUND, "Not Found"),
    };
    response.headers_mut().insert(SERVER, HeaderValue::from_static("hyper"));
    Ok(response)
}

fn text(status: StatusCode, text: &'static str) -> HyperResponse {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json() -> HyperResponse {
    let body = serde_json::to_vec(&Message { message: "Hello, World!" }).expect("a string is JSON");
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Streams the body back.
fn echo(mut request: Request<Incoming>) -> HyperResponse {
    let content_type = request.headers_mut().remove(CONTENT_TYPE);
    let mut response = Response::new(Either::Right(request.into_body()));
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

async fn sleep(millis: Option<u64>) -> HyperResponse {
    match millis {
        Some(millis) if millis <= MAX_MILLIS => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            text(StatusCode::OK, "ok")
        }
        Some(_) => text(StatusCode::BAD_REQUEST, "ms is at most 60000"),
        None => text(StatusCode::NOT_FOUND, "Not Found"),
    }
}
