//! A socket as a stream for handlers: async-io's, with a close that the peer is told of.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::{Async, IoSafe};
use futures_lite::{AsyncRead, AsyncWrite};
use gearshift_core::Stream;
use socket2::SockRef;

/// Makes a stream of a socket. Closing it ends the writing side, as on every backend; async-io would only flush.
pub(crate) fn stream<S>(socket: Async<S>) -> Stream
where
    S: AsFd + io::Read + io::Write + IoSafe + Send + Unpin + 'static,
{
    Stream::new(Duplex(socket))
}

struct Duplex<S>(Async<S>);

impl<S: io::Read + IoSafe + Unpin> AsyncRead for Duplex<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsFd + io::Write + IoSafe + Unpin> AsyncWrite for Duplex<S> {
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
        Poll::Ready(SockRef::from(self.0.get_ref()).shutdown(Shutdown::Write))
    }
}
