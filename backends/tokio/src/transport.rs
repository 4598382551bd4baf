//! The transport of a connection on tokio's reactor.
//!
//! Tokio tracks the readiness of the socket. It clears the readiness after a read that does not fill the buffer,
//! without a second system call, so a request costs one `recv` and one `send`. The transport allocates the read buffer
//! only when the socket is readable, so an idle connection holds no buffer.
//!
//! A thread outside the runtime may poll the transport: a job or a thread of the application that reads the body of a
//! request. The socket knows its reactor, but a timer is created in the runtime of the calling thread, unless that
//! thread enters another one.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use gearshift_core::{ReadBuffer, Stream, Transport, WriteQueue};
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use crate::socket::TokioSocket;

/// Maximum number of chunks in one `writev`.
const MAX_SLICES: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct TokioTransport {
    socket: TokioSocket,
    /// The runtime that has the timers.
    runtime: Handle,
    deadline: Option<Instant>,
    reading: Timer,
    writing: Timer,
}

impl TokioTransport {
    /// Creates a transport without a deadline. Its timers belong to the runtime of the calling thread.
    ///
    /// # Panics
    /// If the calling thread is not inside a runtime.
    pub(crate) fn new(socket: TokioSocket) -> TokioTransport {
        let (reading, writing) = (Timer::default(), Timer::default());
        TokioTransport { socket, runtime: Handle::current(), deadline: None, reading, writing }
    }
}

impl Transport for TokioTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        if self.socket.poll_read_ready(cx)?.is_ready() {
            if let Poll::Ready(read) = self.socket.poll_read(cx, into.spare_mut()) {
                return Poll::Ready(read.inspect(|&n| into.filled(n)));
            }
            into.release();
        }
        let late = ready!(self.reading.poll(cx, self.deadline, &self.runtime));
        Poll::Ready(last_attempt(self.try_read(into), late))
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        let read = (&*SockRef::from(&self.socket)).read(into.spare_mut());
        match &read {
            Ok(n) => into.filled(*n),
            Err(_) => into.release(),
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        let written = if from.is_single() {
            self.socket.io().poll_write(cx, from.front())
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let n = from.slices(&mut slices);
            self.socket.io().poll_write_vectored(cx, &slices[..n])
        };
        let written = match written {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let late = ready!(self.writing.poll(cx, self.deadline, &self.runtime));
                last_attempt((&*SockRef::from(&self.socket)).write(from.front()), late)
            }
        };
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written.inspect(|&n| from.sent(n)),
        })
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.socket).shutdown(Shutdown::Write))
    }

    fn has_unread_end(&self) -> bool {
        self.socket.is_read_closed()
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        SockRef::from(&self.socket).take_error()
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        self.deadline = at;
    }

    fn into_stream(self) -> io::Result<Stream> {
        Ok(Stream::new(self.socket))
    }
}

/// Returns the result of an attempt at the deadline. The reactor may not know yet that the socket is ready. If it is
/// not ready, the result is `late`.
fn last_attempt(result: io::Result<usize>, late: io::Error) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Err(late)
        }
        result => result,
    }
}

/// A timer for a deadline that moves often and is seldom reached.
///
/// The first wait creates the timer. It is reset only if it fires before the deadline, or if the deadline is earlier
/// than the timer, so most requests change no timer. Reading and writing have one timer each, because each wakes its
/// own waker.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns `TimedOut` once `deadline` has passed. Any thread may call this.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>, runtime: &Handle) -> Poll<io::Error> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| {
            let _entered = runtime.enter();
            Box::pin(sleep_until(deadline))
        });
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if deadline <= sleep.deadline() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    /// Creates a transport and the socket of its peer.
    fn pair() -> (TokioTransport, UnixStream) {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        here.set_nonblocking(true).expect("the socket works");
        let socket = tokio::net::UnixStream::from_std(here).expect("a reactor");
        (TokioTransport::new(TokioSocket::Unix(socket)), there)
    }

    /// Writes until the queue is empty.
    fn write_all(
        transport: &mut TokioTransport,
        cx: &mut Context<'_>,
        from: &mut WriteQueue,
    ) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            ready!(transport.poll_write(cx, from))?;
        }
        Poll::Ready(Ok(()))
    }

    fn run(test: impl AsyncFnOnce(TokioTransport, UnixStream, ReadBuffer)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (transport, peer) = pair();
            test(transport, peer, ReadBuffer::new()).await;
        });
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    /// A time at which the timer of the transport's deadline has fired.
    fn late_enough(transport: &TokioTransport) -> tokio::time::Instant {
        (transport.deadline.expect("a deadline") + Duration::from_millis(20)).into()
    }

    fn late() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_thread_outside_the_runtime_may_poll() {
        run(async |mut transport, _peer, mut read_buffer| {
            transport.set_deadline(soon());
            let outside = std::thread::spawn(move || {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
                let mut write_queue = WriteQueue::new();
                write_queue.push(vec![0; 8 << 20].into());
                assert!(transport.poll_write(&mut cx, &mut write_queue).is_pending());
                drop(transport);
            });
            outside.join().expect("the thread does not panic");
        });
    }

    #[test]
    fn a_read_fails_at_its_deadline_even_if_that_was_moved_earlier() {
        for first in [None, late()] {
            run(async |mut transport, _peer, mut read_buffer| {
                if first.is_some() {
                    transport.set_deadline(first);
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
                }
                transport.set_deadline(soon());
                let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
                assert_eq!(read.expect_err("no byte has arrived").kind(), io::ErrorKind::TimedOut);
            });
        }
    }

    #[test]
    fn a_read_does_not_fail_at_a_deadline_that_was_moved_later() {
        run(async |mut transport, mut peer, mut read_buffer| {
            let early = soon();
            transport.set_deadline(early);
            let mut polls = 0;
            let read = poll_fn(|cx| {
                polls += 1;
                let read = transport.poll_read(cx, &mut read_buffer);
                match polls {
                    1 => transport.set_deadline(late()),
                    // The timer of the earlier deadline has fired.
                    2 => {
                        assert!(read.is_pending() && Some(Instant::now()) >= early);
                        peer.write_all(b"late").expect("the socket works");
                    }
                    _ => {}
                }
                read
            });
            assert_eq!(read.await.expect("bytes have arrived"), 4);
        });
    }

    #[test]
    fn a_write_fails_at_its_deadline_if_the_peer_receives_nothing() {
        run(async |mut transport, _peer, _| {
            let mut write_queue = WriteQueue::new();
            write_queue.push(vec![0; 8 << 20].into());
            transport.set_deadline(soon());
            let written = poll_fn(|cx| write_all(&mut transport, cx, &mut write_queue)).await;
            assert_eq!(written.expect_err("the peer reads nothing").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_read_at_its_deadline_finds_bytes_that_the_reactor_has_not_reported() {
        run(async |mut transport, mut peer, mut read_buffer| {
            let mut cx = Context::from_waker(Waker::noop());
            transport.set_deadline(soon());
            assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
            tokio::time::sleep_until(late_enough(&transport)).await;
            peer.write_all(b"news").expect("the socket works");
            let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
            assert_eq!(read.expect("bytes have arrived"), 4);
            let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
            assert_eq!(read.expect_err("the deadline has passed").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_write_at_its_deadline_uses_room_that_the_reactor_has_not_reported() {
        run(async |mut transport, mut peer, _| {
            const LENGTH: usize = 8 << 20;
            let mut cx = Context::from_waker(Waker::noop());
            let mut write_queue = WriteQueue::new();
            write_queue.push(vec![0; LENGTH].into());
            transport.set_deadline(soon());
            assert!(write_all(&mut transport, &mut cx, &mut write_queue).is_pending());
            let left = write_queue.len();
            tokio::time::sleep_until(late_enough(&transport)).await;
            peer.read_exact(&mut vec![0; LENGTH - left]).expect("the socket works");
            let written = poll_fn(|cx| write_all(&mut transport, cx, &mut write_queue)).await;
            assert_eq!(written.expect_err("there is not room for all").kind(), io::ErrorKind::TimedOut);
            assert!(write_queue.len() < left);
        });
    }

    #[test]
    fn try_read_sees_bytes_that_the_reactor_has_not_reported() {
        run(async |mut transport, mut peer, mut read_buffer| {
            let nothing = transport.try_read(&mut read_buffer).expect_err("no byte has arrived");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            peer.write_all(b"news").expect("the socket works");
            assert_eq!(transport.try_read(&mut read_buffer).expect("bytes have arrived"), 4);
            assert_eq!(read_buffer.as_slice(), b"news");
        });
    }

    #[test]
    fn the_end_behind_unread_bytes_is_reported() {
        run(async |mut transport, mut peer, mut read_buffer| {
            assert!(!transport.has_unread_end());
            peer.write_all(b"unread").expect("the socket works");
            peer.shutdown(Shutdown::Write).expect("the socket works");
            while !transport.has_unread_end() {
                tokio::task::yield_now().await;
            }
            assert_eq!(poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await.ok(), Some(6));
        });
    }

    #[test]
    fn a_read_is_possible_after_a_shutdown() {
        run(async |mut transport, mut peer, mut read_buffer| {
            poll_fn(|cx| transport.poll_shutdown(cx)).await.expect("the socket works");
            assert_eq!(peer.read(&mut [0]).expect("the socket works"), 0);
            peer.write_all(b"more").expect("the socket works");
            let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
            assert_eq!(read.expect("bytes have arrived"), 4);
        });
    }
}
