//! The bytes of an HTTP/2 connection: its transport, behind the traits that the crate `h2` reads and writes.
//!
//! What `h2` writes is collected, and leaves with few system calls: when 64 KiB are collected, and at the end of a
//! turn. The connection and `h2` share the [`Wire`], so that the connection knows how much the system has taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conn::io::MAX_PER_TURN;
use crate::conn::min_rate::{MinRate, WaitLimits};
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::write_queue::WriteQueue;
use crate::runtime::task::lock;

/// The number of bytes that are collected before they are written.
const MAX_COLLECTED: usize = 64 * 1024;

/// See the [module](self).
pub(super) struct Wire<T> {
    transport: T,
    service: Arc<Service>,
    read_buffer: ReadBuffer,
    write_queue: WriteQueue,
    /// The number of bytes that the system has taken.
    pub(super) sent: u64,
    /// The waits of the peer to receive what is collected.
    writing: MinRate,
    /// Whether bytes wait for the peer. No more are collected until all of them were taken.
    is_blocked: bool,
    /// Whether a write has failed.
    pub(super) has_failed: bool,
    /// Whether the peer has ended its sending side, or a read has failed.
    has_ended: bool,
    /// The number of bytes that were read and written in this turn.
    read: usize,
    written: usize,
}

impl<T: Transport> Wire<T> {
    /// `read_buffer` has the bytes that have arrived, and `write_queue` those that were not sent.
    pub(super) fn new(
        mut transport: T,
        read_buffer: ReadBuffer,
        write_queue: WriteQueue,
        service: &Arc<Service>,
    ) -> Wire<T> {
        // The session sets a timer instead, because the requests of one connection have many deadlines.
        transport.set_deadline(None);
        Wire {
            transport,
            service: service.clone(),
            read_buffer,
            write_queue,
            sent: 0,
            writing: MinRate::default(),
            is_blocked: false,
            has_failed: false,
            has_ended: false,
            read: 0,
            written: 0,
        }
    }

    /// Begins a turn of the connection, in which it may move [`MAX_PER_TURN`] bytes in each direction.
    pub(super) fn begin_turn(&mut self) {
        (self.read, self.written) = (0, 0);
    }

    /// The number of bytes that were collected since the connection began. Those that were not sent are the last ones.
    pub(super) fn collected(&self) -> u64 {
        self.sent + self.write_queue.len() as u64
    }

    /// Whether `h2` may keep frames that could be sent, because bytes wait for the peer.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Deadline of the wait for the peer to receive bytes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.writing.deadline()
    }

    /// Writes all that was collected.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !self.write_queue.is_empty() {
            if self.written >= MAX_PER_TURN {
                self.is_blocked = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.transport.poll_write(cx, &mut self.write_queue) {
                Poll::Ready(Ok(n)) => {
                    (self.sent, self.written) = (self.sent + n as u64, self.written + n);
                    self.service.counters().here().sent(n);
                    if self.writing.is_begun() {
                        self.writing.moved(self.service.clock.now(), n);
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.has_failed = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    self.is_blocked = true;
                    if self.writing.deadline().is_none() {
                        let config = &self.service.config;
                        let limits = WaitLimits::new(config.write_timeout, config.min_rate);
                        self.writing.wait(self.service.clock.now(), limits);
                    }
                    return Poll::Pending;
                }
            }
        }
        self.is_blocked = false;
        self.writing = MinRate::default();
        self.write_queue.release();
        Poll::Ready(Ok(()))
    }

    /// Makes room for a write of `h2`.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.is_blocked || self.write_queue.len() >= MAX_COLLECTED {
            true => self.poll_send(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Receives more, unless bytes are left. `false` at the end of the peer's sending side.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.read_buffer.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.has_ended {
            return Poll::Ready(Ok(false));
        }
        if self.read >= MAX_PER_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = self.transport.poll_read(cx, &mut self.read_buffer);
        if !matches!(read, Poll::Ready(Ok(1..))) {
            self.read_buffer.release();
        }
        let read = ready!(read);
        self.has_ended = !matches!(read, Ok(1..));
        let n = read?;
        self.read += n;
        self.service.counters().here().received(n);
        Poll::Ready(Ok(n > 0))
    }

    /// Reads and drops what the peer still sends after the connection has ended (as RFC 9112, 9.6, does). Ready once
    /// the peer has closed it, or has sent more than `left` bytes.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>, left: &mut u64) -> Poll<()> {
        while let Ok(true) = ready!(self.poll_receive(cx)) {
            let n = self.read_buffer.len();
            self.read_buffer.discard(n);
            *left = left.saturating_sub(n as u64);
            if *left == 0 {
                break;
            }
        }
        Poll::Ready(())
    }

    /// Tells the peer that the connection ends in order, and ends the sending side. All that was collected was sent.
    pub(super) fn shut_down(&mut self, cx: &mut Context<'_>) {
        self.transport.announce_end(cx);
        let _ = self.transport.poll_shutdown(cx);
    }
}

/// The half of a [`Wire`] that belongs to `h2`.
pub(super) struct Half<T>(pub(super) Arc<Mutex<Wire<T>>>);

impl<T: Transport> AsyncRead for Half<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.0);
        if ready!(wire.poll_receive(cx))? {
            let received = wire.read_buffer.as_slice();
            let n = received.len().min(into.remaining());
            into.put_slice(&received[..n]);
            wire.read_buffer.discard(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Half<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *lock(&self.0);
        ready!(wire.poll_room(cx))?;
        let tail = wire.write_queue.tail();
        let before = tail.len();
        for part in from {
            // A part that is cut is the last one of this write.
            let room = MAX_COLLECTED - (tail.len() - before);
            tail.extend_from_slice(&part[..part.len().min(room)]);
        }
        Poll::Ready(Ok(tail.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the connection sends what is collected at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends what is collected. The connection ends the sending side itself.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_send(cx)
    }
}
