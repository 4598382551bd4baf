//! One small response through each bridge between this crate and tower, to compare their costs.
//!
//! `bridges native 127.0.0.1:8000`, with `native`, `middleware` (three of them), `service`, `layer`, `axum`, or `own`:
//! axum on its own server. All but the last run on the backend mio.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::routing::get;
use gearshift::middleware::{from_sync, map_request, map_response};
use gearshift::tower::service;
use gearshift::{App, Backend, Body, Config, Router, Server, StatusCode, http, sync};
use tower_http::set_header::SetResponseHeaderLayer;

const TEXT: &str = "Hello, World!";

/// The smallest service.
#[derive(Clone)]
struct Hello;

impl tower_service::Service<http::Request<Body>> for Hello {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(http::Response::new(Body::from(TEXT))))
    }
}

fn axum_app() -> axum::Router {
    axum::Router::new().route("/", get(async || TEXT))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bridge = arguments.next().ok_or("the name of a bridge is missing")?;
    let address = arguments.next().ok_or("the address is missing")?;
    let native = || Router::new().get("/", sync(|_| TEXT));
    let app: App = match &*bridge {
        "native" => native().into(),
        "middleware" => native()
            .wrap(from_sync(|request, next| next.call(request)))
            .wrap(map_request(Ok::<_, StatusCode>))
            .wrap(map_response(|response| response))
            .into(),
        "service" => App::new(|_| service(Hello)),
        "layer" => {
            let value = http::HeaderValue::from_static("text/plain");
            let layer = SetResponseHeaderLayer::if_not_present(http::header::CONTENT_TYPE, value);
            native().layer(layer).into()
        }
        "axum" => App::new(|_| service(axum_app())),
        "own" => return own(&address),
        other => return Err(format!("there is no bridge {other}").into()),
    };
    let mut config = Config::default();
    config.workers = Some(1);
    let server = Server::bind(&[address.parse()?], config)?;
    "mio".parse::<Backend>()?.serve(server, app)?;
    Ok(())
}

/// axum on its own server, with one thread.
fn own(address: &str) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, axum_app()).await
    })?;
    Ok(())
}
