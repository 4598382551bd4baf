//! The demo's routes on axum: `axum::serve` on tokio's work-stealing runtime.
//!
//! `cargo run --release -p peer-axum -- 8002`

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use tokio::net::TcpListener;

const MAX_MILLIS: u64 = 60_000;
/// The field that the other servers send by default.
const NAME: [(HeaderName, HeaderValue); 1] = [(SERVER, HeaderValue::from_static("axum"))];

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: axum PORT");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> std::io::Result<()> {
    let app = Router::new()
        .route("/plaintext", get(async || (NAME, "Hello, World!")))
        .route("/json", get(async || (NAME, Json(Message { message: "Hello, World!" }))))
        .route("/sleep/{ms}", get(sleep))
        .route("/echo", post(echo));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|socket| {
        // It fails for a closed socket, which the next read reports.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

/// Streams the body back.
async fn echo(mut request: Request) -> (HeaderMap, Body) {
    let mut fields = HeaderMap::from_iter(NAME);
    if let Some(content_type) = request.headers_mut().remove(CONTENT_TYPE) {
        fields.insert(CONTENT_TYPE, content_type);
    }
    (fields, request.into_body())
}

async fn sleep(Path(millis): Path<String>) -> impl IntoResponse {
    let response = match millis.parse() {
        Ok(millis) if millis <= MAX_MILLIS => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            (StatusCode::OK, "ok")
        }
        Ok(_) => (StatusCode::BAD_REQUEST, "ms is at most 60000"),
        Err(_) => (StatusCode::NOT_FOUND, "Not Found"),
    };
    (NAME, response)
}
