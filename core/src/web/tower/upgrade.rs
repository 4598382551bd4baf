//! Upgrades of services that know hyper alone: the extension `hyper::upgrade::OnUpgrade`, which only hyper can make.
//!
//! A connection of hyper therefore takes part in the handshake. It reads a request of this module from memory, calls
//! the service, and writes the head of the response, which is dropped: the server sends the response of the service by
//! itself. The stream behind hyper's connection is empty until then. Afterwards it is that of the server, so that
//! limits, statistics and a stop apply as to any other upgrade.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;

use crate::conn::handler::Answer;
use crate::proto::body::Body;
use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::proto::stream::Stream;
use crate::runtime::task::lock;
use crate::web::hyper::Io;
use crate::web::tower::HttpService;

/// The request that hyper reads. Its fields are of no importance: the service gets those of the peer.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
/// The end of the head that hyper writes.
const END: &[u8] = b"\r\n\r\n";

/// Whether the peer offers another protocol (RFC 9110, 7.8).
pub(super) fn is_offered(request: &http::Request<Body>) -> bool {
    request.version() == Version::HTTP_11
        && request.method() != Method::CONNECT
        && request.headers().contains_key(header::UPGRADE)
}

/// The answer of a service to a request with an offer.
pub(super) fn answer(service: &impl HttpService, mut request: http::Request<Body>) -> Answer {
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    let (attach, end) = (Attach(pipe.clone()), Stream::new(End(pipe)));
    let on_upgrade = Arc::new(Mutex::new(None));
    let may_switch = Arc::new(AtomicBool::new(false));
    let (given, is_allowed) = (on_upgrade.clone(), may_switch.clone());
    let switches = service_fn(move |mut request: hyper::Request<Incoming>| {
        *lock(&given) = Some(hyper::upgrade::on(&mut request));
        let is_allowed = is_allowed.clone();
        poll_fn(move |_| match is_allowed.load(Ordering::Acquire) {
            true => Poll::Ready(Ok::<_, Infallible>(switching())),
            false => Poll::Pending,
        })
    });
    let mut connection =
        Box::pin(http1::Builder::new().serve_connection(Io::new(end), switches).with_upgrades());
    // The connection reads the request from memory, and calls `switches`.
    let _ = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    if let Some(on_upgrade) = lock(&on_upgrade).take() {
        request.extensions_mut().insert::<OnUpgrade>(on_upgrade);
    }
    let response = service.answer(request);
    Answer::later(async move {
        let response = Response::from_http(response.await);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || response.extra.is_some() {
            return response;
        }
        may_switch.store(true, Ordering::Release);
        if let Err(error) = connection.await {
            log::error!("an upgrade failed: {error}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        response.with_upgrade(move |stream| attach.attach(stream))
    })
}

/// The response that hyper writes.
fn switching() -> http::Response<Empty<Bytes>> {
    let mut response = http::Response::new(Empty::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("x"));
    response
}

/// The state of the stream behind hyper's connection.
struct Pipe {
    /// The rest of [`REQUEST`].
    request: &'static [u8],
    /// The number of bytes of [`END`] that the head ends with which hyper writes. All of them once it is complete.
    head_end: usize,
    stream: Option<Stream>,
    /// Whether there will be no stream.
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Default for Pipe {
    fn default() -> Pipe {
        Pipe { request: REQUEST, head_end: 0, stream: None, is_closed: false, reader: None, writer: None }
    }
}

impl Pipe {
    /// Drops the part of `bytes` that belongs to the head. Returns its length.
    fn drop_head(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.head_end == END.len() {
                return at;
            }
            let matches = |len: usize| END[len] == *byte;
            self.head_end = match self.head_end {
                len if matches(len) => len + 1,
                _ => usize::from(matches(0)),
            };
        }
        bytes.len()
    }
}

/// Attaches the stream of the server. Dropping it without that closes the stream behind hyper's connection.
struct Attach(Arc<Mutex<Pipe>>);

impl Attach {
    async fn attach(self, stream: Stream) {
        lock(&self.0).stream = Some(stream);
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.is_closed = pipe.stream.is_none();
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        drop(pipe);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// The end of the pipe that hyper has.
struct End(Arc<Mutex<Pipe>>);

impl End {
    /// Calls `poll` with the stream, once there is one. `waker` selects the place for the waker of the wait.
    fn poll_stream<R>(
        &self,
        cx: &mut Context<'_>,
        waker: fn(&mut Pipe) -> &mut Option<Waker>,
        poll: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let mut pipe = lock(&self.0);
        if pipe.is_closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(stream) = &mut pipe.stream {
            return poll(Pin::new(stream), cx);
        }
        *waker(&mut pipe) = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0);
        if !pipe.request.is_empty() {
            let n = pipe.request.len().min(into.len());
            let (read, rest) = pipe.request.split_at(n);
            into[..n].copy_from_slice(read);
            pipe.request = rest;
            return Poll::Ready(Ok(n));
        }
        drop(pipe);
        self.poll_stream(cx, |pipe| &mut pipe.reader, |stream, cx| stream.poll_read(cx, into))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let n = lock(&self.0).drop_head(from);
        if n > 0 {
            return Poll::Ready(Ok(n));
        }
        self.poll_stream(cx, |pipe| &mut pipe.writer, |stream, cx| stream.poll_write(cx, from))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is queued before there is a stream.
        match &mut lock(&self.0).stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_stream(cx, |pipe| &mut pipe.writer, |stream, cx| stream.poll_close(cx))
    }
}
