//! The conversion of a runtime's socket into a [`Stream`].

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use socket2::SockRef;

use crate::proto::stream::Stream;

impl Stream {
    /// Wraps a socket whose `poll_close` only flushes. Closing the stream also shuts down the sending side of the
    /// socket, so that the peer sees the end.
    pub fn from_socket(socket: impl AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static) -> Stream {
        Stream::new(Closing(socket))
    }
}

/// A socket that shuts down its sending side when it is closed.
struct Closing<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Closing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Closing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(SockRef::from(&self.0).shutdown(Shutdown::Write))
    }
}
