//! The state of one registered socket: its readiness, the wakers of the tasks that wait for it, and its deadline.
//!
//! The reactor sets readiness and takes wakers. The socket's owner takes readiness and leaves wakers. They may be on
//! different threads, so each side takes its two steps in the order that cannot lose an event: the reactor sets bits
//! and then looks for a waker, the owner leaves a waker and then looks at the bits again.

use std::io;
use std::task::{Context, Poll, Waker};

#[cfg(not(gearshift_model))]
use atomic_waker::AtomicWaker;
use gearshift_core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
#[cfg(gearshift_model)]
use gearshift_core::sync::model::AtomicWaker;

/// A read may find something.
pub(crate) const READABLE: u8 = 1;
/// A write may find room in the buffer.
pub(crate) const WRITABLE: u8 = 2;
/// The peer has ended its side, or the connection failed. The system may report this together with the last bytes,
/// and does not report it again, so the owner reads until it finds the end.
pub(crate) const CLOSED: u8 = 4;

/// The readiness that an event reports.
pub(crate) fn readiness(readable: bool, writable: bool, closed: bool) -> u8 {
    (u8::from(readable) * READABLE) | (u8::from(writable) * WRITABLE) | (u8::from(closed) * CLOSED)
}

/// The direction of a wait.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    /// The readiness that ends the wait.
    fn bits(self) -> u8 {
        match self {
            Direction::Read => READABLE | CLOSED,
            Direction::Write => WRITABLE,
        }
    }
}

/// See the [module](self).
pub(crate) struct Slot {
    pub(crate) token: usize,
    /// In nanoseconds since the reactor's start. 0 if there is no deadline.
    deadline: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
    readiness: AtomicU8,
}

impl Slot {
    pub(crate) fn new(token: usize, readiness: u8) -> Slot {
        Slot {
            token,
            deadline: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            readiness: AtomicU8::new(readiness),
        }
    }

    /// Whether any of `bits` is set.
    #[inline]
    pub(crate) fn is(&self, bits: u8) -> bool {
        self.readiness.load(Ordering::Acquire) & bits != 0
    }

    /// Clears `bits`, and returns those that were set. Called before the attempt that uses the readiness up, so that
    /// an event during the attempt is kept.
    #[inline]
    pub(crate) fn take(&self, bits: u8) -> u8 {
        self.readiness.fetch_and(!bits, Ordering::AcqRel) & bits
    }

    /// Restores the bits that an attempt did not use up.
    #[inline]
    pub(crate) fn restore(&self, bits: u8) {
        self.readiness.fetch_or(bits, Ordering::AcqRel);
    }

    /// Adds `bits` to the readiness, and passes the wakers of the tasks that waited for them to `wake`.
    pub(crate) fn announce(&self, bits: u8, mut wake: impl FnMut(Waker)) {
        self.restore(bits);
        if bits & Direction::Read.bits() != 0 {
            self.reader.take().map(&mut wake);
        }
        if bits & Direction::Write.bits() != 0 {
            self.writer.take().map(&mut wake);
        }
    }

    /// Passes the wakers of all waiting tasks to `wake`, because the deadline has passed.
    pub(crate) fn announce_due(&self, mut wake: impl FnMut(Waker)) {
        self.reader.take().map(&mut wake);
        self.writer.take().map(&mut wake);
    }

    /// Ready when the socket is ready in this direction. `TimedOut` if it is not, and the deadline is not after
    /// `swept`, the time of the reactor's last sweep.
    #[inline]
    pub(crate) fn poll(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        swept: impl Fn() -> u64,
    ) -> Poll<io::Result<()>> {
        if self.is(direction.bits()) {
            return Poll::Ready(Ok(()));
        }
        self.leave_waker(direction, cx.waker());
        if self.is(direction.bits()) {
            return Poll::Ready(Ok(()));
        }
        match self.is_due(swept()) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => Poll::Pending,
        }
    }

    pub(crate) fn leave_waker(&self, direction: Direction, waker: &Waker) {
        match direction {
            Direction::Read => self.reader.register(waker),
            Direction::Write => self.writer.register(waker),
        }
    }

    #[inline]
    pub(crate) fn set_deadline(&self, nanos: u64) {
        self.deadline.store(nanos, Ordering::Release);
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::Acquire)).filter(|&nanos| nanos != 0)
    }

    /// Whether there is a deadline, and it is not after `nanos`.
    #[inline]
    pub(crate) fn is_due(&self, nanos: u64) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= nanos)
    }
}
