//! Asking a server to stop, from anywhere, and being told when that was asked.
//!
//! A [`Shutdown`] only ever moves forward: running, then graceful, then forced. The phase is one atomic, so that
//! a driver can look at it between any two requests for nothing; whoever sleeps is woken by a hook.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use slab::Slab;

use crate::runtime::task::lock;

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Nothing was asked for.
    Running = 0,
    /// Accept nothing, close what is idle, finish what is in flight.
    Graceful = 1,
    /// End at once.
    Forced = 2,
}

/// A clonable handle to stop a server; see [`Phase`].
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

type Hook = Arc<dyn Fn(Phase) + Send + Sync>;

#[derive(Default)]
struct Inner {
    phase: AtomicU8,
    hooks: Mutex<Slab<Hook>>,
}

impl Shutdown {
    /// A handle on which nothing was asked for yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Asks for a graceful stop. Asking again changes nothing.
    pub fn graceful(&self) {
        self.advance(Phase::Graceful);
    }

    /// Asks to stop at once: what is in flight is cut.
    pub fn force(&self) {
        self.advance(Phase::Forced);
    }

    /// How far it has come.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Graceful,
            _ => Phase::Forced,
        }
    }

    /// Whether any stop was asked for.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// Calls `hook` at every change of phase, on the thread that asks for it, until the subscription is dropped;
    /// at once if a stop was already asked for. A hook must be quick and must not touch this `Shutdown`'s
    /// subscriptions.
    pub fn subscribe(&self, hook: impl Fn(Phase) + Send + Sync + 'static) -> Subscription {
        let hook: Hook = Arc::new(hook);
        let key = self.hooks().insert(hook.clone());
        if self.is_requested() {
            hook(self.phase());
        }
        Subscription { shutdown: self.clone(), key }
    }

    /// Waits until `phase` is reached.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let waiter = Arc::new(Mutex::new(None::<Waker>));
        let hook = waiter.clone();
        let subscription = self.subscribe(move |_| {
            let waiter = lock(&hook).take();
            waiter.into_iter().for_each(Waker::wake);
        });
        poll_fn(move |cx| {
            *lock(&waiter) = Some(cx.waker().clone());
            match subscription.shutdown.phase() >= phase {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    fn advance(&self, to: Phase) {
        if self.0.phase.fetch_max(to as u8, Ordering::AcqRel) < to as u8 {
            let hooks: Vec<Hook> = self.hooks().iter().map(|(_, hook)| hook.clone()).collect();
            for hook in hooks {
                hook(to);
            }
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Slab<Hook>> {
        lock(&self.0.hooks)
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

/// Keeps a hook of [`Shutdown::subscribe`] in place until it is dropped.
#[derive(Debug)]
#[must_use = "the hook is removed when this is dropped"]
pub struct Subscription {
    shutdown: Shutdown,
    key: usize,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shutdown.hooks().try_remove(self.key);
    }
}
