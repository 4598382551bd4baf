//! A connection as a plain stream of bytes, whichever backend it came from.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions: what [`Runtime::connect`](crate::Runtime::connect) gives, and what is left
/// of a connection after an upgrade.
///
/// It is `futures-io`'s `AsyncRead` and `AsyncWrite`; with the feature `tokio-io`, tokio's too.
pub struct Stream {
    /// Bytes that arrived before the stream was made; read first.
    early: Bytes,
    socket: Box<dyn Duplex>,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Stream {
    /// Wraps a stream of some runtime, one that tells its peer when it is closed.
    pub fn new(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Stream {
        Stream { early: Bytes::new(), socket: Box::new(socket) }
    }

    /// The same stream, with `early` read before anything else.
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
mod tokio_io {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::io::ReadBuf;

    use super::Stream;

    impl tokio::io::AsyncRead for Stream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let n = ready!(futures_io::AsyncRead::poll_read(self, cx, into.initialize_unfilled()))?;
            into.advance(n);
            Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for Stream {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
            futures_io::AsyncWrite::poll_write(self, cx, from)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            futures_io::AsyncWrite::poll_flush(self, cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            futures_io::AsyncWrite::poll_close(self, cx)
        }
    }
}
