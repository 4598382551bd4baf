//! A pooled keep-alive client to one service: hyper's client connection, which knows no runtime, on
//! [`Runtime::connect`] and [`Runtime::spawn`]. So it is the same client on every backend.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_lock::Semaphore;
use futures_io::{AsyncRead, AsyncWrite};
use gearshift::{Bytes, Runtime, StatusCode, Stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::ReadBufCursor;
use hyper::{Request, Response, header};

use crate::Refusal;

/// Connections to a service at once; who needs one more waits.
const CONNECTIONS: usize = 64;
/// Bytes of an answer.
const MOST_BYTES: usize = 1 << 20;

type Sender = SendRequest<Empty<Bytes>>;

/// A service, and connections to it.
pub(crate) struct Client {
    authority: String,
    /// One for each request that has a connection or makes one. As it makes one only while none is idle, or for
    /// one that failed, there are never more connections than permits.
    permits: Semaphore,
    idle: Mutex<Vec<Sender>>,
}

impl Client {
    pub(crate) fn new(authority: String) -> Client {
        Client { authority, permits: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    /// The body of a successful answer; everything else is 502.
    pub(crate) async fn get(&self, runtime: &Runtime, path: &str) -> Result<Bytes, Refusal> {
        let request = Request::get(path).header(header::HOST, &self.authority).body(Empty::new());
        let request = request.map_err(|error| self.failed(error))?;
        let _permit = self.permits.acquire().await;
        let (sender, response) = self.send(runtime, request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| self.failed(error))?.to_bytes();
        self.idle().push(sender);
        if status.is_success() { Ok(body) } else { Err(self.failed(status)) }
    }

    /// Sends on an idle connection, or else on a new one.
    ///
    /// The service may close a connection at the moment a request is sent on it. One that may be repeated is then sent
    /// once more, on a connection that nobody has used (RFC 9112, section 9.3.1).
    async fn send(
        &self,
        runtime: &Runtime,
        request: Request<Empty<Bytes>>,
    ) -> Result<(Sender, Response<Incoming>), Refusal> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok((sender, response)),
                Err(_) if request.method().is_idempotent() => break,
                Err(error) => return Err(self.failed(error)),
            }
        }
        let stream = runtime.connect(&self.authority).await.map_err(|error| self.failed(error))?;
        let connected = http1::handshake(HyperStream(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| self.failed(error))?;
        runtime.spawn(connection).detach();
        let response = sender.send_request(request).await.map_err(|error| self.failed(error))?;
        Ok((sender, response))
    }

    /// Closes the idle connections, whose tasks would keep a stopping server waiting.
    pub(crate) fn close(&self) {
        self.idle().clear();
    }

    /// The connection that was used last, so that those in excess are left to time out.
    fn take_idle(&self) -> Option<Sender> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: impl Display) -> Refusal {
        (StatusCode::BAD_GATEWAY, format!("{}: {why}", self.authority))
    }
}

/// A stream as hyper takes it. What is read goes through a buffer on the stack, which needs no `unsafe`.
struct HyperStream(Stream);

impl hyper::rt::Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = [0; 8192];
        let room = buffer.len().min(into.remaining());
        let n = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer[..room]))?;
        into.put_slice(&buffer[..n]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
