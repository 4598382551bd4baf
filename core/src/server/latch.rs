//! A latch: it waits until the last of several guards is dropped, on any thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use slab::Slab;

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

    /// Whether nothing holds the latch.
    pub fn is_released(&self) -> bool {
        lock(&self.0).guards == 0
    }

    /// Waits until the latch has no guards. The future is ready if it has none at the time of a poll.
    pub fn released(&self) -> Released {
        Released { latch: self.clone(), key: None }
    }
}

/// Holds a [`Latch`] until it is dropped.
pub struct Guard(Latch);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.guards -= 1;
        if state.guards == 0 {
            let waiters: Vec<Waker> = state.waiters.iter().map(|(_, waiter)| waiter.clone()).collect();
            drop(state);
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

/// The future of [`Latch::released`].
#[must_use = "it waits only while it is polled"]
pub struct Released {
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
        match this.key {
            None => this.key = Some(state.waiters.insert(cx.waker().clone())),
            Some(key) if state.waiters[key].will_wake(cx.waker()) => {}
            Some(key) => {
                let old = std::mem::replace(&mut state.waiters[key], cx.waker().clone());
                // Dropping a waker can run any code, so it happens without the lock.
                drop(state);
                drop(old);
            }
        }
        Poll::Pending
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waiter = lock(&self.latch.0).waiters.remove(key);
            drop(waiter);
        }
    }
}
