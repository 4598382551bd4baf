//! A connected socket of tokio, TCP or Unix. It is also a `futures-io` stream, for upgrades and outgoing connections.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use gearshift_core::{Endpoint, Peer};
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket of either family.
#[derive(Debug)]
pub(crate) enum TokioSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Both directions of a socket of tokio.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> ReadWrite for S {}

impl TokioSocket {
    /// Registers a non-blocking socket with the reactor of the current runtime. `peer` is `None` for a Unix socket.
    ///
    /// # Errors
    /// The reactor refuses the socket.
    pub(crate) fn accepted(socket: Socket, peer: Peer) -> io::Result<TokioSocket> {
        match peer {
            Some(_) => TcpStream::from_std(socket.into()).map(TokioSocket::Tcp),
            None => UnixStream::from_std(socket.into()).map(TokioSocket::Unix),
        }
    }

    /// Moves the registration of the socket to the reactor of the current runtime.
    ///
    /// # Errors
    /// The reactor refuses the socket.
    pub(crate) fn register_again(self) -> io::Result<TokioSocket> {
        match self {
            TokioSocket::Tcp(stream) => TcpStream::from_std(stream.into_std()?).map(TokioSocket::Tcp),
            TokioSocket::Unix(stream) => UnixStream::from_std(stream.into_std()?).map(TokioSocket::Unix),
        }
    }

    /// Connects to `to`. A TCP socket sends small writes without a delay (`TCP_NODELAY`).
    ///
    /// # Errors
    /// The connection cannot be established.
    pub(crate) async fn connect(to: Endpoint) -> io::Result<TokioSocket> {
        match to {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(TokioSocket::Tcp(stream))
            }
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(TokioSocket::Unix),
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            TokioSocket::Tcp(stream) => stream.poll_read_ready(cx),
            TokioSocket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether the reactor has seen the end of the peer's sending side, also behind bytes that were not read.
    pub(crate) fn is_read_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = match self {
            TokioSocket::Tcp(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            TokioSocket::Unix(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
        };
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// The socket, for reading and writing.
    pub(crate) fn io(&mut self) -> Pin<&mut dyn ReadWrite> {
        match self {
            TokioSocket::Tcp(stream) => Pin::new(stream),
            TokioSocket::Unix(stream) => Pin::new(stream),
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(self.io().poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl AsFd for TokioSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            TokioSocket::Tcp(stream) => stream.as_fd(),
            TokioSocket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl futures_io::AsyncRead for TokioSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        TokioSocket::poll_read(self.get_mut(), cx, into)
    }
}

impl futures_io::AsyncWrite for TokioSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().io().poll_write(cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().io().poll_write_vectored(cx, from)
    }

    /// Does nothing, because the socket has no buffer.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_shutdown(cx)
    }
}
