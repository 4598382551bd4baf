//! A wait for the end of several tasks or threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::runtime::task::lock;

/// Held by its guards. A wait for the latch ends when there is no guard.
#[derive(Clone, Default)]
pub struct Latch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    guards: usize,
    waiters: Slab<Waker>,
}

impl Latch {
    /// A latch that nothing holds.
    pub fn new() -> Latch {
        Latch::default()
    }

    /// Holds the latch until the guard is dropped.
    pub fn guard(&self) -> Guard {
        lock(&self.0).guards += 1;
        Guard(self.clone())
    }

    /// Whether nothing holds the latch.
    pub fn is_released(&self) -> bool {
        lock(&self.0).guards == 0
    }

    /// Ready once nothing holds the latch.
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
    /// The index of its waker in the latch.
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
                // Dropping a waker may run foreign code, which must not happen under the lock.
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
