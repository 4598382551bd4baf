//! The request to stop a server: a phase that any thread can advance, read and wait for.
//!
//! The phase is one atomic, so that a driver can read it between two requests at no cost. Threads and tasks that sleep
//! are woken by hooks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use slab::Slab;

use crate::runtime::task::lock;

/// The phase of a shutdown. It only moves forward, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The server runs.
    Running = 0,
    /// The server accepts the connections in the kernel's queue and no others, closes idle connections, and completes
    /// requests in flight.
    Graceful = 1,
    /// The server cuts all connections and ends.
    Forced = 2,
}

/// A handle to stop a server. Clones refer to the same server.
///
/// ```
/// use gearshift_core::{Phase, Shutdown};
///
/// let shutdown = Shutdown::new();
/// let handle = shutdown.clone();
/// handle.graceful();
/// assert_eq!(shutdown.phase(), Phase::Graceful);
/// // A wait for a phase that is reached already ends at once.
/// futures_lite::future::block_on(shutdown.reached(Phase::Graceful));
/// ```
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    phase: AtomicU8,
    hooks: Mutex<Slab<Hook>>,
}

impl Shutdown {
    /// Creates a handle in [`Phase::Running`].
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Requests a graceful stop: moves to [`Phase::Graceful`] unless that or a later phase is reached.
    pub fn graceful(&self) {
        self.advance(Phase::Graceful);
    }

    /// Requests an immediate stop: moves to [`Phase::Forced`]. Requests in flight are cut.
    pub fn force(&self) {
        self.advance(Phase::Forced);
    }

    /// The current phase.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Graceful,
            _ => Phase::Forced,
        }
    }

    /// Whether a stop of either kind was requested.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// Calls `hook` at every change of phase until the returned subscription is dropped. The call happens on the
    /// thread that requests the stop. If a stop was requested already, `hook` is also called by this method.
    ///
    /// `hook` must be quick. It may be called more than once for one phase, and also shortly after the subscription
    /// is dropped.
    pub fn subscribe(&self, hook: impl Fn() + Send + Sync + 'static) -> Subscription {
        let hook: Hook = Arc::new(hook);
        let key = self.hooks().insert(hook.clone());
        if self.is_requested() {
            hook();
        }
        Subscription { shutdown: self.clone(), key }
    }

    /// Waits until `phase` or a later phase is reached.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let waiter = Arc::new(Mutex::new(None::<Waker>));
        let hook = waiter.clone();
        let subscription = self.subscribe(move || {
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
            hooks.iter().for_each(|hook| hook());
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
        let hook = self.shutdown.hooks().try_remove(self.key);
        // The hook may hold a waker, whose drop can run any code, so it is dropped without the lock.
        drop(hook);
    }
}
