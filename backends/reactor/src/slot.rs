//! What is known of one registered socket: its readiness, who waits for it, and until when.
//!
//! The reactor writes readiness and takes wakers; the socket's owner takes readiness and leaves wakers. They may be
//! on different threads, so each side does its two steps in the order that cannot lose news: the reactor sets
//! bits and then looks for a waker, the owner leaves a waker and then looks at the bits again.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::lock;

/// Reading would not find nothing.
pub(crate) const READABLE: u8 = 1;
/// Writing would not find the buffer full.
pub(crate) const WRITABLE: u8 = 2;
/// The peer has ended its side, or the connection failed. The system may have reported this together with the last
/// bytes, and will not report it again, so reads go on until they have met it.
pub(crate) const CLOSED: u8 = 4;

/// One of the two things to wait for.
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
    /// In nanoseconds since the reactor's start; 0 for none.
    deadline: AtomicU64,
    wakers: Mutex<Wakers>,
    readiness: AtomicU8,
}

#[derive(Default)]
struct Wakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Slot {
    pub(crate) fn new(token: usize, readiness: u8) -> Slot {
        Slot {
            token,
            deadline: AtomicU64::new(0),
            wakers: Mutex::default(),
            readiness: AtomicU8::new(readiness),
        }
    }

    /// Whether any of `bits` is set.
    #[inline]
    pub(crate) fn is(&self, bits: u8) -> bool {
        self.readiness.load(Ordering::Acquire) & bits != 0
    }

    /// Clears `bits`, and says which of them were set. Done before the attempt that uses the readiness up, so that
    /// what the system reports during the attempt is kept.
    #[inline]
    pub(crate) fn take(&self, bits: u8) -> u8 {
        self.readiness.fetch_and(!bits, Ordering::AcqRel) & bits
    }

    /// Puts back what an attempt did not use up.
    #[inline]
    pub(crate) fn restore(&self, bits: u8) {
        self.readiness.fetch_or(bits, Ordering::AcqRel);
    }

    /// Adds to the readiness, and hands whoever waited for it to `wake`.
    pub(crate) fn announce(&self, bits: u8, mut wake: impl FnMut(Waker)) {
        self.readiness.fetch_or(bits, Ordering::AcqRel);
        let mut wakers = lock(&self.wakers);
        if bits & Direction::Read.bits() != 0 {
            wakers.read.take().map(&mut wake);
        }
        if bits & Direction::Write.bits() != 0 {
            wakers.write.take().map(&mut wake);
        }
    }

    /// Hands whoever waits to `wake`, because the deadline has passed.
    pub(crate) fn announce_due(&self, mut wake: impl FnMut(Waker)) {
        let mut wakers = lock(&self.wakers);
        wakers.read.take().map(&mut wake);
        wakers.write.take().map(&mut wake);
    }

    /// Ready once there is readiness in this direction; `TimedOut` if it is not there although the deadline is not
    /// after `swept`, up to when the reactor has looked for deadlines.
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
        let mut wakers = lock(&self.wakers);
        let place = match direction {
            Direction::Read => &mut wakers.read,
            Direction::Write => &mut wakers.write,
        };
        if !place.as_ref().is_some_and(|left| left.will_wake(waker)) {
            let old = place.replace(waker.clone());
            // What a waker does when it is dropped is not ours to do under the lock.
            drop(wakers);
            drop(old);
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

    /// Whether there is a deadline, not after `nanos`.
    #[inline]
    pub(crate) fn is_due(&self, nanos: u64) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= nanos)
    }
}
