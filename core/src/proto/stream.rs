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
/// # extern crate gearshift_core as gearshift;
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use gearshift::{Request, Stream};
///
/// // Asks a service for one line.
/// async fn ask(request: Request) -> std::io::Result<String> {
///     let mut stream: Stream = request.runtime().connect("127.0.0.1:7").await?;
///     stream.write_all(b"hello\n").await?;
///     let mut answer = vec![0; 6];
///     stream.read_exact(&mut answer).await?;
///     Ok(String::from_utf8_lossy(&answer).into_owned())
/// }
/// # drop(ask);
/// ```
///
/// [`Response::upgrade`](crate::Response::upgrade) has an example of a stream after an upgrade, which ends when the
/// server stops.
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
