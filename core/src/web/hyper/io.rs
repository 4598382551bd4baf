//! A [`Stream`] with hyper's I/O traits.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_lock::SemaphoreGuardArc;
use futures_io::{AsyncRead, AsyncWrite};
use http::Extensions;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};

use crate::proto::stream::Stream;

/// The largest number of bytes that one read returns.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    /// The buffer that reads of this thread go through, because safe code cannot pass hyper's uninitialized buffer to a
    /// stream. It is zeroed once and costs an idle connection no memory.
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A [`Stream`] that hyper reads and writes.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::hyper::Io;
/// use gearshift::{Bytes, Stream};
/// use http_body_util::Empty;
/// use hyper::client::conn::http1;
///
/// async fn handshake(stream: Stream) -> hyper::Result<http1::SendRequest<Empty<Bytes>>> {
///     let (sender, connection) = http1::handshake(Io::new(stream)).await?;
///     // An executor has to run `connection`.
/// #   drop(connection);
///     Ok(sender)
/// }
/// # drop(handshake);
/// ```
#[derive(Debug)]
pub struct Io {
    stream: Stream,
    info: ConnectionInfo,
    /// The connector's permit for this connection.
    _permit: Option<SemaphoreGuardArc>,
}

impl Io {
    /// Wraps `stream`.
    pub fn new(stream: Stream) -> Io {
        Io { stream, info: ConnectionInfo::default(), _permit: None }
    }

    pub(super) fn with_permit(stream: Stream, permit: SemaphoreGuardArc) -> Io {
        Io { _permit: Some(permit), ..Io::new(stream) }
    }

    /// The stream. Bytes that hyper has read and not used are not in it; hyper returns them when it gives up an
    /// upgraded connection.
    pub fn into_inner(self) -> Stream {
        self.stream
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Taken for the time of the read: the stream may itself be made of another `Io`.
        let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
        let len = buffer.len().min(into.remaining());
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer[..len]);
        if let Poll::Ready(Ok(n @ 1..)) = read {
            into.put_slice(&buffer[..n]);
            self.info.received.store(true, Ordering::Relaxed);
        }
        BUFFER.set(Some(buffer));
        read.map_ok(|_| ())
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl Connection for Io {
    /// A connection to the origin server, without a proxy, with its [`ConnectionInfo`] as extra information.
    fn connected(&self) -> Connected {
        Connected::new().extra(self.info.clone())
    }
}

/// Information about a connection that hyper-util's client used. It is an extension of each response.
///
/// A service may close an idle connection at the moment a request is sent on it. hyper-util then returns an error,
/// because it does not know whether the request may be repeated. The caller does:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::Bytes;
/// use gearshift::http::{Response, Uri};
/// use gearshift::hyper::{ConnectionInfo, Connector};
/// use http_body_util::Empty;
/// use hyper::body::Incoming;
/// use hyper_util::client::legacy::{Client, Error};
///
/// /// GET is idempotent: a request that failed on a reused connection is sent once more (RFC 9112, 9.3.1).
/// async fn get(client: &Client<Connector, Empty<Bytes>>, uri: Uri) -> Result<Response<Incoming>, Error> {
///     match client.get(uri.clone()).await {
///         Err(error) if ConnectionInfo::of(&error).is_some_and(|info| info.has_received()) => {
///             client.get(uri).await
///         }
///         response => response,
///     }
/// }
/// # drop(get);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    received: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// The information about the connection on which a request failed. `None` if the request had no connection, or one
    /// of another connector.
    pub fn of(error: &legacy::Error) -> Option<ConnectionInfo> {
        let mut extensions = Extensions::new();
        error.connect_info()?.get_extras(&mut extensions);
        extensions.remove()
    }

    /// Whether the peer has sent any byte on this connection. If a request got no response, this is true for a
    /// connection that was used before, and false for a new one.
    pub fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }
}
