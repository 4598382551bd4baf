//! A connection on tokio's reactor.
//!
//! Readiness is tokio's: a read that leaves room clears it without a second system call, so that a request costs
//! one `recv` and one `send`. The read_buffer is not touched before something is readable, so an idle connection holds
//! no buffer.

use std::future::Future;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use gearshift_core::{ReadBuffer, Stream, Transport, WriteQueue};
use socket2::SockRef;
use tokio::time::Sleep;

use crate::socket::TokioSocket;

/// How many chunks one `writev` sends.
const SLICES: usize = 32;

/// One connection; see the [module](self).
#[derive(Debug)]
pub(crate) struct TokioTransport {
    socket: TokioSocket,
    deadline: Option<Instant>,
    reading: Timer,
    writing: Timer,
}

impl TokioTransport {
    /// A transport with no deadline.
    pub(crate) fn new(socket: TokioSocket) -> TokioTransport {
        let (reading, writing) = (Timer::default(), Timer::default());
        TokioTransport { socket, deadline: None, reading, writing }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>, from: &WriteQueue) -> Poll<io::Result<usize>> {
        let written = if from.is_single() {
            ready!(self.socket.poll_write(cx, from.front()))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = from.slices(&mut slices);
            ready!(self.socket.poll_write_vectored(cx, &slices[..n]))
        };
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        })
    }
}

impl Transport for TokioTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        if self.socket.poll_read_ready(cx)?.is_ready() {
            match self.socket.poll_read(cx, into.spare_mut()) {
                Poll::Ready(Ok(n)) => {
                    into.filled(n);
                    return Poll::Ready(Ok(n));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => into.release(),
            }
        }
        self.reading.poll(cx, self.deadline).map(Err)
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        match (&*SockRef::from(&self.socket)).read(into.spare_mut()) {
            Ok(n) => {
                into.filled(n);
                Ok(n)
            }
            Err(error) => {
                into.release();
                Err(error)
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            match self.poll_written(cx, from) {
                Poll::Ready(Ok(n)) => from.sent(n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.writing.poll(cx, self.deadline).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.socket).shutdown(Shutdown::Write))
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

/// A deadline that moves often and is seldom reached.
///
/// The timer behind it is made at the first wait and touched only when it fires too early or has to fire sooner,
/// so that a request costs no timer operation. Reading and writing have one each, for each wakes its own waker.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready, with the error to fail with, once `deadline` has passed.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<io::Error> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
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
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use std::time::Duration;

    use super::*;

    /// A transport, and the peer's end of it.
    fn pair() -> (TokioTransport, UnixStream) {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        here.set_nonblocking(true).expect("a socket");
        let socket = tokio::net::UnixStream::from_std(here).expect("a reactor");
        (TokioTransport::new(TokioSocket::Unix(socket)), there)
    }

    fn run(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test());
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_read_fails_at_its_deadline() {
        run(async || {
            let (mut transport, _peer) = pair();
            let mut read_buffer = ReadBuffer::new();
            transport.set_deadline(soon());
            let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
            assert_eq!(read.expect_err("nothing came").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_deadline_that_moved_on_is_not_kept_early() {
        run(async || {
            let (mut transport, mut peer) = pair();
            let mut read_buffer = ReadBuffer::new();
            let (early, late) = (soon(), Instant::now() + Duration::from_secs(60));
            transport.set_deadline(early);
            let mut polls = 0;
            let read = poll_fn(|cx| {
                polls += 1;
                let read = transport.poll_read(cx, &mut read_buffer);
                match polls {
                    1 => transport.set_deadline(Some(late)),
                    // The old timer fired.
                    2 => {
                        assert!(read.is_pending() && Some(Instant::now()) >= early);
                        peer.write_all(b"late").expect("a socket");
                    }
                    _ => {}
                }
                read
            });
            assert_eq!(read.await.expect("bytes came"), 4);
        });
    }

    #[test]
    fn a_deadline_that_moved_up_is_kept() {
        run(async || {
            let (mut transport, _peer) = pair();
            let mut read_buffer = ReadBuffer::new();
            transport.set_deadline(Some(Instant::now() + Duration::from_secs(60)));
            poll_fn(|cx| {
                assert!(transport.poll_read(cx, &mut read_buffer).is_pending());
                Poll::Ready(())
            })
            .await;
            transport.set_deadline(soon());
            let read = poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await;
            assert_eq!(read.expect_err("nothing came").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_write_fails_when_the_peer_takes_nothing() {
        run(async || {
            let (mut transport, _peer) = pair();
            let mut write_queue = WriteQueue::new();
            write_queue.push(vec![0; 8 << 20].into());
            transport.set_deadline(soon());
            let written = poll_fn(|cx| transport.poll_write(cx, &mut write_queue)).await;
            assert_eq!(written.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn sees_bytes_that_no_news_came_of() {
        run(async || {
            let (mut transport, mut peer) = pair();
            let mut read_buffer = ReadBuffer::new();
            let nothing = transport.try_read(&mut read_buffer).expect_err("nothing came");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            peer.write_all(b"news").expect("a socket");
            assert_eq!(transport.try_read(&mut read_buffer).expect("bytes came"), 4);
            assert_eq!(read_buffer.as_slice(), b"news");
        });
    }

    #[test]
    fn reading_goes_on_after_a_shutdown() {
        run(async || {
            let (mut transport, mut peer) = pair();
            let mut read_buffer = ReadBuffer::new();
            poll_fn(|cx| transport.poll_shutdown(cx)).await.expect("a socket");
            assert_eq!(peer.read(&mut [0]).expect("a socket"), 0);
            peer.write_all(b"more").expect("a socket");
            assert_eq!(poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)).await.expect("bytes came"), 4);
        });
    }
}
