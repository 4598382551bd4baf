//! The timers of one event loop, in order, and the future that waits for one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use crate::here;
use crate::mailbox::{Letter, Loops, Mailbox};

/// When a timer is due, and which one it is.
pub(crate) type Key = (Instant, u64);

/// Who is to be woken when.
#[derive(Default)]
pub(crate) struct Timers(BTreeMap<Key, Waker>);

impl Timers {
    /// Sets a timer, or whom it wakes; gives back whom it woke before.
    pub(crate) fn set(&mut self, key: Key, waker: &Waker) -> Option<Waker> {
        match self.0.get(&key) {
            Some(set) if set.will_wake(waker) => None,
            _ => self.0.insert(key, waker.clone()),
        }
    }

    /// Removes a timer, if it is still there.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waker> {
        self.0.remove(&key)
    }

    /// When the earliest is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes one that is due.
    pub(crate) fn take_due(&mut self) -> Option<Waker> {
        let first = self.0.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    /// Removes all of them.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.0).into_values()
    }
}

/// Ready once its time has come. Its timer is on the loop that polls it first, or on any loop if that is another
/// thread, and goes away with it.
pub(crate) struct Sleep {
    key: Key,
    loops: Arc<Loops>,
    /// The loop that has the timer.
    home: Option<Arc<Mailbox>>,
}

impl Sleep {
    /// Waits for `until`.
    pub(crate) fn new(until: Instant, loops: Arc<Loops>) -> Sleep {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Sleep { key: (until, NEXT.fetch_add(1, Ordering::Relaxed)), loops, home: None }
    }

    fn leave_home(&mut self) {
        let Some(home) = self.home.take() else { return };
        if here::is(&home) {
            let waker = here::with(|here| here.timers.remove(self.key));
            drop(waker);
        } else {
            home.send(Letter::Forget(self.key));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.key.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.leave_home();
            return Poll::Ready(());
        }
        let home = self.home.take().filter(|home| !home.is_closed());
        let home = home.or_else(here::mailbox).unwrap_or_else(|| self.loops.next());
        if here::is(&home) {
            let replaced = here::with(|here| here.timers.set(self.key, cx.waker()));
            drop(replaced);
        } else if home.is_closed() {
            // The server has ended, and this is a thread of the program's own that waits all the same.
            thread::sleep(left);
            return Poll::Ready(());
        } else {
            home.send(Letter::Timer(self.key, cx.waker().clone()));
        }
        self.home = Some(home);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave_home();
    }
}
