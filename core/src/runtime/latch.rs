//! A latch: it waits until the last of several guards is dropped, on any thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::runtime::sync::{Mutex, lock};

/// A counter of guards that can be awaited until it is 0. Clones refer to the same counter. It may be held again
/// after it was released.
///
/// ```
/// use gearshift_core::Latch;
///
/// let latch = Latch::new();
/// let guard = latch.guard();
/// std::thread::spawn(move || drop(guard));
/// futures_lite::future::block_on(latch.released());
/// ```
#[derive(Clone, Default)]
pub struct Latch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    guards: usize,
    /// One waker for each future that waits for the release.
    waiters: Slab<Waker>,
}

impl Latch {
    /// Creates a latch without guards.
    pub fn new() -> Latch {
        Latch::default()
    }

    /// Creates a guard that holds the latch until it is dropped.
    pub fn guard(&self) -> Guard {
        lock(&self.0).guards += 1;
        Guard(self.clone())
    }

    /// The number of guards. At 0, the latch is released.
    pub fn guards(&self) -> usize {
        lock(&self.0).guards
    }

    /// Waits until the latch has no guards. The future is ready if it has none at the time of a poll.
    pub fn released(&self) -> impl Future<Output = ()> + Send + use<> {
        Released { latch: self.clone(), key: None }
    }
}

/// Holds a [`Latch`] until it is dropped.
///
/// ```
/// use gearshift_core::Latch;
/// use gearshift_core::latch::Guard;
///
/// let latch = Latch::new();
/// let guard: Guard = latch.guard();
/// assert_eq!(latch.guards(), 1);
/// drop(guard);
/// assert_eq!(latch.guards(), 0);
/// ```
pub struct Guard(Latch);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.guards -= 1;
        if state.guards == 0 {
            let waiters: Vec<Waker> = state.waiters.iter().map(|(_, waiter)| waiter.clone()).collect();
            // Waking or dropping a waker can run any code, so it happens without the lock.
            drop(state);
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

/// The future of [`Latch::released`]. Its drop removes its waker: a latch may outlive many futures.
struct Released {
    latch: Latch,
    /// The key of its waker in [`State::waiters`].
    key: Option<usize>,
}

impl Future for Released {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = lock(&this.latch.0);
        if state.guards == 0 {
            return Poll::Ready(());
        }
        let key = *this.key.get_or_insert_with(|| state.waiters.insert(cx.waker().clone()));
        let waiter = &mut state.waiters[key];
        if !waiter.will_wake(cx.waker()) {
            let old = std::mem::replace(waiter, cx.waker().clone());
            drop(state);
            drop(old);
        }
        Poll::Pending
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        let waiter = self.key.map(|key| lock(&self.latch.0).waiters.remove(key));
        drop(waiter);
    }
}

#[cfg(all(test, not(gearshift_model)))]
mod tests {
    use std::pin::pin;
    use std::task::Wake;

    use super::*;

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_latch_keeps_no_waker_of_a_future_that_was_dropped() {
        let (latch, counted) = (Latch::new(), Arc::new(Counted));
        let guard = latch.guard();
        let waker = Waker::from(counted.clone());
        for _ in 0..2 {
            let mut released = pin!(latch.released());
            assert!(released.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(Arc::strong_count(&counted), 3);
        }
        assert_eq!(Arc::strong_count(&counted), 2);
        drop(guard);
    }
}
