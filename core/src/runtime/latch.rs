//! A latch: it waits until the last of several guards is dropped, on any thread.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::runtime::task::lock;

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
    /// The wakers of the futures that wait for the release, without duplicates.
    waiters: Vec<Waker>,
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
        let latch = self.clone();
        poll_fn(move |cx| {
            let mut state = lock(&latch.0);
            if state.guards == 0 {
                return Poll::Ready(());
            }
            if !state.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                state.waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// Holds a [`Latch`] until it is dropped.
pub struct Guard(Latch);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.guards -= 1;
        if state.guards == 0 {
            let waiters = std::mem::take(&mut state.waiters);
            // Waking or dropping a waker can run any code, so it happens without the lock.
            drop(state);
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}
