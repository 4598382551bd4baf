//! The demo's routes on actix-web: one worker per core, each with a current-thread tokio runtime.
//!
//! `cargo run --release -p peer-actix-web -- 8003`

use std::net::Ipv4Addr;
use std::time::Duration;

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SERVER};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer, rt};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const MAX_MILLIS: u64 = 60_000;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

fn main() -> std::io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: actix-web PORT");
    let app = || {
        App::new()
            .wrap(DefaultHeaders::new().add((SERVER, "actix-web")))
            .route("/plaintext", web::get().to(async || text(HttpResponse::Ok(), "Hello, World!")))
            .route("/json", web::get().to(json))
            .route("/sleep/{ms}", web::get().to(sleep))
            .route("/echo", web::post().to(echo))
    };
    // Without handlers, signals end the process at once.
    let server = HttpServer::new(app).tcp_nodelay(true).disable_signals();
    rt::System::new().block_on(server.bind((Ipv4Addr::LOCALHOST, port))?.run())
}

fn text(mut response: HttpResponseBuilder, text: &'static str) -> HttpResponse {
    response.insert_header((CONTENT_TYPE, TEXT)).body(text)
}

async fn json() -> HttpResponse {
    HttpResponse::Ok().json(Message { message: "Hello, World!" })
}

/// Streams the body back.
async fn echo(request: HttpRequest, body: Payload) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(content_type) = request.headers().get(CONTENT_TYPE) {
        response.insert_header((CONTENT_TYPE, content_type));
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) => response.body(SizedStream::new(length, body)),
        None => response.body(BodyStream::new(body)),
    }
}

async fn sleep(millis: web::Path<String>) -> HttpResponse {
    match millis.parse() {
        Ok(millis) if millis <= MAX_MILLIS => {
            rt::time::sleep(Duration::from_millis(millis)).await;
            text(HttpResponse::Ok(), "ok")
        }
        Ok(_) => text(HttpResponse::BadRequest(), "ms is at most 60000"),
        Err(_) => text(HttpResponse::NotFound(), "Not Found"),
    }
}
