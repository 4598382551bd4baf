//! A connection on a reactor: the driver's transport, the byte stream after an upgrade, and the stream to another
//! server.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};
use gearshift_core::{Endpoint, ReadBuffer, Stream, Transport, WriteQueue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use crate::handle::Handle;
use crate::slot::{CLOSED, Direction, READABLE, Slot, WRITABLE};

/// The largest number of pieces that one system call writes.
const SLICES: usize = 32;

/// A non-blocking socket, TCP or Unix, that is registered with a reactor.
///
/// A write to a peer that has left is an error if the program ignores `SIGPIPE`, as a Rust program does by default.
pub struct ReactorTransport {
    slot: Arc<Slot>,
    handle: Handle,
    socket: Socket,
}

impl ReactorTransport {
    /// Registers a connection, which counts as ready for `readiness` until an attempt shows that it is not.
    ///
    /// # Errors
    /// Errors of the system.
    pub(crate) fn new(handle: &Handle, socket: Socket, readiness: u8) -> io::Result<ReactorTransport> {
        let slot = handle.register(socket.as_fd(), readiness)?;
        Ok(ReactorTransport { slot, handle: handle.clone(), socket })
    }

    /// Asks the system whether the peer has ended its side. The reactor reports that with its next turn, which may come
    /// after the request has begun.
    pub(crate) fn find_end(&self) {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut asked = [PollFd::new(&self.socket, ends)];
        if matches!(poll(&mut asked, Some(&Timespec::default())), Ok(1..)) {
            self.slot.restore(CLOSED);
        }
    }

    /// Ready when the socket is ready, or with `TimedOut`.
    #[inline]
    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.slot.poll(direction, cx, || self.handle.swept())
    }

    /// Calls `attempt` to receive, and waits for the socket if the attempt finds nothing. At the deadline there is one
    /// more attempt: the system may not have reported bytes that have arrived.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let ready = ready!(self.poll_ready(Direction::Read, cx));
            match (attempt(self), ready) {
                (Err(error), Ok(())) if error.kind() == io::ErrorKind::WouldBlock => {}
                (Err(error), Err(late)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(late));
                }
                (received, _) => return Poll::Ready(received),
            }
        }
    }

    /// One read. The socket stays readable after a read that filled its buffer, or that came with the end: there may
    /// be more.
    #[inline]
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.slot.take(READABLE | CLOSED);
        let received = retry(|| (&self.socket).read(into));
        match &received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(n) if *n > 0 && *n < into.len() && taken & CLOSED == 0 => {}
            _ => self.slot.restore(taken | READABLE),
        }
        received
    }

    /// Calls `attempt` to write, and waits for the socket if the attempt finds no room. At the deadline there is one
    /// more attempt.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let attempt = || match retry(|| attempt(&self.socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            sent => Some(sent),
        };
        loop {
            let ready = ready!(self.poll_ready(Direction::Write, cx));
            if let Some(sent) = attempt() {
                return Poll::Ready(sent);
            }
            ready?;
            // A second attempt finds room that appeared before the bit was cleared. Room that appears later sets it.
            self.slot.take(WRITABLE);
            if let Some(sent) = attempt() {
                self.slot.restore(WRITABLE);
                return Poll::Ready(sent);
            }
        }
    }
}

impl Transport for ReactorTransport {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        self.poll_receive(cx, |transport| transport.try_read(into))
    }

    #[inline]
    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        let read = self.receive(into.spare_mut());
        match &read {
            Ok(n) => into.filled(*n),
            Err(_) => into.release(),
        }
        read
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        let sent = ready!(self.poll_send(cx, |socket| match from.is_single() {
            true => socket.send(from.front()),
            false => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let n = from.slices(&mut slices);
                socket.send_vectored(&slices[..n])
            }
        }))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        from.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    fn has_unread_end(&self) -> bool {
        self.slot.is(CLOSED)
    }

    #[inline]
    fn set_deadline(&mut self, at: Option<Instant>) {
        self.handle.set_deadline(&self.slot, at);
    }

    fn into_stream(mut self) -> io::Result<Stream> {
        self.set_deadline(None);
        if let Some(other) = self.handle.0.streams.get().cloned() {
            self.handle.deregister(&self.slot, self.socket.as_fd())?;
            // The other reactor has reported nothing of this socket, so it counts as ready at first.
            self.slot = other.register(self.socket.as_fd(), READABLE | WRITABLE)?;
            self.handle = other;
        }
        Ok(Stream::new(Plain(self)))
    }
}

impl Drop for ReactorTransport {
    fn drop(&mut self) {
        self.handle.forget(&self.slot);
    }
}

/// Repeats a system call that a signal interrupted.
#[inline]
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Handle {
    /// Connects to `to`, without blocking.
    ///
    /// # Errors
    /// Errors of the system. For a Unix socket whose queue is full that is `WouldBlock`.
    pub async fn connect(self, to: Endpoint) -> io::Result<Stream> {
        let socket = match to {
            Endpoint::Tcp(address) => {
                let socket = Socket::from(TcpStream::from(mio::net::TcpStream::connect(address)?));
                socket.set_tcp_nodelay(true)?;
                socket
            }
            Endpoint::Unix(path) => Socket::from(UnixStream::from(mio::net::UnixStream::connect(path)?)),
        };
        // The registration follows the call, because the system reports a socket that does not connect yet as
        // closed. It reports the state at the registration as the first event.
        let transport = ReactorTransport::new(&self, socket, 0)?;
        poll_fn(|cx| transport.poll_ready(Direction::Write, cx)).await?;
        match transport.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(Stream::new(Plain(transport))),
        }
    }
}

/// The same connection as a byte stream without deadlines.
struct Plain(ReactorTransport);

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_receive(cx, |transport| transport.receive(into))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, |socket| socket.send(from))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, |socket| socket.send_vectored(from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.socket.shutdown(Shutdown::Write))
    }
}

#[cfg(all(test, not(gearshift_model)))]
mod tests;
