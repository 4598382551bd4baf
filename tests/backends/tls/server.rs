//! The server of the tests of TLS, and its application.

use std::io;
use std::sync::Arc;

use futures_lite::{AsyncReadExt, AsyncWriteExt, io as async_io, stream};
use gearshift::rustls::ClientConfig;
use gearshift::ws::{Message, WebSocket};
use gearshift::{
    Backend, Body, Bytes, Config, HeaderValue, Request, RequestContext, Response, Router, Runtime, Stream,
    TlsConfig, sync,
};
use test_support::backend::few_workers;
use test_support::server::Running;

use super::peer::{self, Peer, VERSIONS, connect};
use super::pki::{Authority, Certified};

pub(super) const LARGE: usize = 8 << 20;

/// An authority, a certificate for `localhost` and 127.0.0.1, and a server with it.
pub(super) struct Fixture {
    pub(super) authority: Authority,
    pub(super) server: Running,
}

impl Fixture {
    pub(super) fn start(backend: Backend) -> Fixture {
        Fixture::with(backend, few_workers(backend))
    }

    pub(super) fn with(backend: Backend, config: Config) -> Fixture {
        let authority = Authority::new();
        let tls = localhost(&authority);
        Fixture { server: serve(backend, config, tls), authority }
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        peer::client(&self.authority, VERSIONS[1], None)
    }

    pub(super) fn connect(&self) -> Peer {
        connect(self.server.addr(), &self.client(), "localhost")
    }
}

pub(super) fn localhost(authority: &Authority) -> TlsConfig {
    let Certified { pem, key_pem, .. } = authority.issue(&["localhost", "127.0.0.1"]);
    TlsConfig::from_pem(pem, key_pem).expect("a certificate and its key")
}

pub(super) fn serve(backend: Backend, mut config: Config, tls: TlsConfig) -> Running {
    config.tls = Some(tls);
    Running::start(backend, config, app)
}

pub(super) fn app(runtime: Runtime) -> Router {
    Router::new()
        .get("/", sync(|_| "hello"))
        .get("/large", sync(|_| vec![b'x'; LARGE]))
        .get(
            "/client",
            sync(|request: Request| {
                let client = request.client();
                format!("{} {:?} {:?}", client.scheme(), client.address(), request.peer())
            }),
        )
        .post("/echo", async |request: Request| request.into_body().bytes(LARGE).await)
        .get(
            "/tls",
            sync(|request: Request| {
                let on_request = request.tls().cloned();
                let request = request.into_http().expect("a request of the http crate");
                let context =
                    RequestContext::of(request.extensions()).expect("it was a request of this crate");
                let tls = context.tls().expect("the connection speaks TLS");
                assert_eq!(on_request.as_ref(), Some(tls));
                let alpn = tls.alpn().map(String::from_utf8_lossy).unwrap_or_default();
                let name = tls.server_name().unwrap_or("-");
                format!("{} {name} {alpn} {}", tls.version(), tls.peer_certificates().len())
            }),
        )
        .get(
            "/cut",
            sync(|_| {
                let pieces = [Ok(Bytes::from_static(b"begun")), Err(io::Error::other("cut on purpose"))];
                Response::new(Body::from_stream(stream::iter(pieces)))
            }),
        )
        .get("/loud", sync(|_| Response::upgrade(HeaderValue::from_static("loud"), loud)))
        .get(
            "/flood",
            sync(move |_| {
                let runtime = runtime.clone();
                Response::upgrade(HeaderValue::from_static("flood"), async move |stream| {
                    flood(runtime, stream).await
                })
            }),
        )
        .get(
            "/ws",
            sync(|request: Request| request.websocket().map(|upgrade| upgrade.on_upgrade(echo_messages))),
        )
}

/// A protocol that echoes all bytes in capitals.
async fn loud(mut stream: Stream) {
    let mut room = [0; 1000];
    loop {
        let Ok(n) = stream.read(&mut room).await else { return };
        if n == 0 {
            break;
        }
        room[..n].make_ascii_uppercase();
        if stream.write_all(&room[..n]).await.is_err() {
            return;
        }
    }
    let _ = stream.close().await;
}

/// A protocol that sends and receives at the same time, in two tasks.
async fn flood(runtime: Runtime, stream: Stream) {
    let (mut from, mut to) = async_io::split(stream);
    let receive = runtime.spawn(async move {
        let mut received = 0;
        let mut room = vec![0; 10_000];
        while received < LARGE {
            received += from.read(&mut room).await.expect("the peer sends all");
        }
    });
    to.write_all(&vec![b'f'; LARGE]).await.expect("the peer receives all");
    receive.await.expect("the task does not panic");
    to.close().await.expect("the connection is open");
}

async fn echo_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
