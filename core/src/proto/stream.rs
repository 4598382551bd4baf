//! A connection as a stream of bytes. It hides the socket type of the backend.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions: an outgoing connection from [`Runtime::connect`](crate::Runtime::connect), or an
/// incoming connection after an upgrade.
///
/// `Stream` implements `AsyncRead` and `AsyncWrite` of `futures-io`, and with the feature `tokio-io` also those of
/// tokio.
///
/// ```
/// use gearshift_core::Response;
/// use gearshift_core::header::HeaderValue;
///
/// // A handler that answers with 101 and echoes all further bytes.
/// fn echo() -> Response {
///     Response::upgrade(HeaderValue::from_static("echo"), |stream| async move {
///         use futures_lite::{AsyncReadExt, AsyncWriteExt};
///         let mut stream = stream;
///         let mut bytes = [0; 1024];
///         while let Ok(n @ 1..) = stream.read(&mut bytes).await {
///             if stream.write_all(&bytes[..n]).await.is_err() {
///                 break;
///             }
///         }
///     })
/// }
/// assert_eq!(echo().status(), 101);
/// ```
pub struct Stream {
    /// Bytes that were received before the stream was created. They are read first.
    early: Bytes,
    socket: Box<dyn Duplex>,
}

/// The bounds of a socket of any backend.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Stream {
    /// Wraps the socket of a backend. Closing or dropping `socket` must end the stream for the peer.
    pub fn new(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Stream {
        Stream { early: Bytes::new(), socket: Box::new(socket) }
    }

    /// Makes `early` the first bytes that are read from the stream.
    pub fn with_early(mut self, early: Bytes) -> Stream {
        self.early = early;
        self
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("early", &self.early.len()).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let n = self.early.len().min(into.len());
            self.early.copy_to_slice(&mut into[..n]);
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(self, cx, into.initialize_unfilled()).map_ok(|n| into.advance(n))
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(self, cx)
    }
}
