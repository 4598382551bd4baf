//! The timers of a reactor, in order, and the future that waits for one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{OnceLock, atomic};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::sync::atomic::{AtomicU64, Ordering};
use gearshift_core::sync::{Mutex, lock, now};

use crate::handle::{Handle, NEVER};
use crate::reactor::Reactor;

/// When a timer is due, in the reactor's nanoseconds, and its number.
type Key = (u64, u64);

/// See the [module](self).
pub(crate) struct Timers {
    /// When the first timer is due, or [`NEVER`]. Written under the lock, read without it.
    earliest: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    wakers: BTreeMap<Key, Waker>,
    is_closed: bool,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { earliest: AtomicU64::new(NEVER), queue: Mutex::default() }
    }
}

impl Timers {
    /// When the first timer is due, or [`NEVER`].
    #[inline]
    pub(crate) fn earliest(&self) -> u64 {
        self.earliest.load(Ordering::SeqCst)
    }

    /// Sets a timer, or replaces its waker. Returns whether it is the first of all; `None` after
    /// [`close`](Timers::close).
    pub(crate) fn set(&self, key: Key, waker: &Waker) -> Option<bool> {
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            return None;
        }
        let replaced = queue.wakers.insert(key, waker.clone());
        let is_earliest = self.update_earliest(&queue) == key.0;
        // Dropping a waker may run foreign code, which must not happen under the lock.
        drop(queue);
        drop(replaced);
        Some(is_earliest)
    }

    /// Removes a timer, if it has not fired.
    pub(crate) fn remove(&self, key: Key) {
        let mut queue = lock(&self.queue);
        let removed = queue.wakers.remove(&key);
        self.update_earliest(&queue);
        drop(queue);
        drop(removed);
    }

    /// Removes all timers that are due by `now`, in order.
    pub(crate) fn take_due(&self, now: u64, woken: &mut Vec<Waker>) {
        let mut queue = lock(&self.queue);
        while let Some(first) = queue.wakers.first_entry().filter(|first| first.key().0 <= now) {
            woken.push(first.remove());
        }
        self.update_earliest(&queue);
    }

    /// Removes all timers, and lets no other be set.
    pub(crate) fn close(&self) -> impl Iterator<Item = Waker> + use<> {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        let wakers = std::mem::take(&mut queue.wakers);
        self.update_earliest(&queue);
        wakers.into_values()
    }

    fn update_earliest(&self, queue: &Queue) -> u64 {
        let earliest = queue.wakers.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        self.earliest.store(earliest, Ordering::SeqCst);
        earliest
    }
}

impl Handle {
    /// A future that is ready at `until`. Its timer is set when the future is first polled, and removed when the
    /// future is dropped. The future may be polled on any thread, and outlives the reactor.
    pub fn sleep(&self, until: Instant) -> Sleep {
        static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Sleep { handle: self.clone(), until, id, is_set: false }
    }
}

/// The future of [`Handle::sleep`].
#[must_use = "a sleep waits only while it is polled"]
pub struct Sleep {
    /// The reactor that has the timer.
    handle: Handle,
    until: Instant,
    /// Tells timers that are due at the same time from each other.
    id: u64,
    /// Whether the timer was set, and has to be removed.
    is_set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.until.saturating_duration_since(now());
        if left.is_zero() {
            self.remove();
            return Poll::Ready(());
        }
        self.is_set = true;
        if self.handle.set_timer(self.until, self.id, cx.waker()) {
            return Poll::Pending;
        }
        match successor() {
            Some(handle) if handle.set_timer(self.until, self.id, cx.waker()) => {
                self.handle = handle.clone();
                Poll::Pending
            }
            _ => {
                thread::sleep(left);
                Poll::Ready(())
            }
        }
    }
}

impl Sleep {
    fn remove(&mut self) {
        if std::mem::take(&mut self.is_set) {
            self.handle.remove_timer(self.until, self.id);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The reactor for timers that outlive their own, on a thread that runs as long as the process. It starts at first
/// use: when a server has ended, and a thread of the program still waits for a time. `None` if the system has no
/// resources for it.
fn successor() -> Option<&'static Handle> {
    static SUCCESSOR: OnceLock<Option<Handle>> = OnceLock::new();
    SUCCESSOR
        .get_or_init(|| {
            let mut reactor = Reactor::new(Duration::MAX).ok()?;
            let handle = reactor.handle().clone();
            let run = move || while reactor.turn(None).is_ok() {};
            thread::Builder::new().name("timers".into()).spawn(run).ok()?;
            Some(handle)
        })
        .as_ref()
}

#[cfg(all(test, not(gearshift_model)))]
pub(crate) mod tests;
