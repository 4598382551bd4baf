//! The client of HTTP/2 in the tests: that of the crate `h2`, in a runtime of the test.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;

use gearshift::{Bytes, HeaderMap, StatusCode};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request};
use test_support::PATIENCE;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use gearshift::http;

/// Runs a test, which has a deadline.
pub(super) fn run<F: Future>(test: F) -> F::Output {
    // The connection is polled on another thread, so that the test may block.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(async { tokio::time::timeout(2 * PATIENCE, test).await });
    outcome.expect("the test ends within its deadline")
}

/// A connection.
pub(super) struct Peer {
    pub(super) send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(super) fn said(&self) -> (u16, &str) {
        (self.status.as_u16(), self.text())
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("a field in ASCII"))
    }
}

pub(super) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://test{path}")).body(()).expect("a valid request")
}

pub(super) fn with(mut request: Request<()>, name: &'static str, value: &'static str) -> Request<()> {
    request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    request
}

impl Peer {
    pub(super) async fn connect(to: SocketAddr) -> Peer {
        let mut builder = Builder::new();
        Peer::connect_with(to, builder.initial_max_send_streams(100)).await
    }

    pub(super) async fn connect_with(to: SocketAddr, builder: &Builder) -> Peer {
        let socket = TcpStream::connect(to).await.expect("the server listens");
        socket.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
        Peer::over(socket, builder).await
    }

    pub(super) async fn over(socket: TcpStream, builder: &Builder) -> Peer {
        let (send, connection) = builder.handshake(socket).await.expect("the handshake of HTTP/2");
        Peer { send, connection: tokio::spawn(connection) }
    }

    /// Sends the head of a request whose body follows.
    pub(super) async fn begin(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.ready().await;
        self.send.send_request(request, false).expect("the connection is open")
    }

    /// Sends a request without a body.
    pub(super) async fn send(&mut self, request: Request<()>) -> ResponseFuture {
        self.ready().await;
        self.send.send_request(request, true).expect("the connection is open").0
    }

    async fn ready(&mut self) {
        poll_fn(|cx| self.send.poll_ready(cx)).await.expect("the server takes requests");
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        let response = self.send(request(Method::GET, path)).await;
        answer(response).await.expect("a response")
    }

    /// Sends a request with a body.
    pub(super) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let (response, mut stream) = self.begin(request(Method::POST, path)).await;
        send_all(&mut stream, body.into(), true).await.expect("the server reads");
        answer(response).await.expect("a response")
    }

    /// Waits for the end of the connection. Returns the reason of an end that was not in order.
    pub(super) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        self.connection.await.expect("the task of the connection")
    }

    /// Waits for the end of the connection, while this side would send more.
    pub(super) async fn closed(&mut self) -> Result<(), h2::Error> {
        (&mut self.connection).await.expect("the task of the connection")
    }
}

/// Sends a body, as the windows of the server admit it.
pub(super) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut body: Bytes,
    is_end: bool,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => drop(room?),
                None => return Err(h2::Reason::STREAM_CLOSED.into()),
            }
        }
        let part = body.split_to(stream.capacity().min(body.len()));
        stream.send_data(part, is_end && body.is_empty())?;
    }
    Ok(())
}

pub(super) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, body) = response.await?.into_parts();
    let (body, trailers) = read_all(body).await?;
    Ok(Answer { status: head.status, fields: head.headers, body, trailers })
}

/// Reads a body and its trailers.
pub(super) async fn read_all(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, body.trailers().await?))
}
