//! The request to stop a server: a phase that any thread can advance, read and wait for.
//!
//! The phase is one atomic, so that a driver can read it between two requests at no cost. Threads and tasks that sleep
//! are woken by hooks.
//!
//! A server with a drain delay announces its stop first. The phase stays [`Phase::Running`] for the delay, so that
//! everything but readiness is as before.
//!
//! Two threads may request a stop at the same time. One of them calls the hooks for both, one hook after the other, so
//! that no hook reads an earlier phase than the hook before it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::runtime::clock::after;
use crate::runtime::contained::{contain, discard};
use crate::runtime::sync::atomic::{AtomicU8, Ordering};
use crate::runtime::sync::{Mutex, MutexGuard, lock};

/// The phase of a shutdown. It only moves forward, in this order.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Phase, Shutdown};
///
/// let shutdown = Shutdown::new();
/// assert_eq!(shutdown.phase(), Phase::Running);
/// shutdown.graceful();
/// assert!(shutdown.phase() >= Phase::Graceful);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The server runs.
    Running = 0,
    /// The server accepts the connections that the kernel has begun and no others. It completes requests in flight and
    /// the first request of each connection, and closes idle connections.
    Graceful = 1,
    /// The server cuts all connections and ends.
    Forced = 2,
}

/// A handle to stop a server. Clones refer to the same server.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Phase, Shutdown};
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
    /// [`Config::drain_delay`](crate::Config::drain_delay).
    delay: Duration,
    /// The time at which a stop was announced. It is not set if the phase changed without that.
    announced: OnceLock<Instant>,
    /// The times at which `Graceful` and `Forced` were reached. A time is set before the phase.
    times: [OnceLock<Instant>; 2],
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    subscribed: Slab<Hook>,
    /// The calls that are due, in order.
    calls: VecDeque<Hook>,
    /// Whether a thread makes the calls. It also makes those that are added before it ends.
    is_calling: bool,
}

impl Shutdown {
    /// Creates a handle in [`Phase::Running`].
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Creates a handle whose graceful stop begins after a delay.
    pub(crate) fn with_delay(delay: Duration) -> Shutdown {
        Shutdown(Arc::new(Inner { delay, ..Inner::default() }))
    }

    /// Requests a graceful stop: moves to [`Phase::Graceful`] unless that or a later phase is reached.
    ///
    /// If the server has a [`Config::drain_delay`](crate::Config::drain_delay), the stop is only announced now:
    /// [`Shutdown::is_announced`] is true, and the phase changes when the delay is over.
    pub fn graceful(&self) {
        if self.0.delay.is_zero() {
            return self.drain();
        }
        let mut is_first = false;
        self.0.announced.get_or_init(|| {
            is_first = true;
            Instant::now()
        });
        if is_first {
            self.call_all();
        }
    }

    /// Moves to [`Phase::Graceful`] without a delay, or ends a delay that has begun.
    pub fn drain(&self) {
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

    /// Whether a stop of either kind was requested, with one whose drain delay is not over. Readiness ends with this.
    pub fn is_announced(&self) -> bool {
        self.0.announced.get().is_some() || self.is_requested()
    }

    /// The end of the drain delay of a stop that was announced, or `None` if the stop has no delay.
    pub(crate) fn drains_at(&self) -> Option<Instant> {
        self.0.announced.get().map(|at| after(*at, self.0.delay))
    }

    /// The time at which `phase` or a later phase was requested; `None` if none was.
    pub(crate) fn reached_at(&self, phase: Phase) -> Option<Instant> {
        self.0.times[(phase as usize).checked_sub(1)?].get().copied()
    }

    /// Calls `hook` at every change of phase, and when a stop is announced, until the returned subscription is dropped.
    /// If a stop was announced or requested already, `hook` is also called for that. The call happens on a thread that
    /// requests a stop or subscribes, mostly before its own call of this type returns. Two calls of hooks never
    /// overlap, so the last call of a hook reads the latest phase.
    ///
    /// `hook` must be quick. It may be called more than once for one phase, and also shortly after the subscription
    /// is dropped. A panic of `hook` is logged.
    pub fn subscribe(&self, hook: impl Fn() + Send + Sync + 'static) -> Subscription {
        let hook: Hook = Arc::new(hook);
        let key = self.hooks().subscribed.insert(hook.clone());
        if self.is_announced() {
            self.call(|_| [hook].into());
        }
        Subscription { shutdown: self.clone(), key }
    }

    /// Waits until `phase` or a later phase is reached.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        self.until(move |shutdown| shutdown.phase() >= phase)
    }

    /// Waits until [`Shutdown::is_announced`] is true.
    pub fn announced(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(Shutdown::is_announced)
    }

    fn until<F>(&self, is_reached: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Fn(&Shutdown) -> bool + Send,
    {
        let waiter = Arc::new(Mutex::new(None::<Waker>));
        let hook = waiter.clone();
        let subscription = self.subscribe(move || {
            let waiter = lock(&hook).take();
            waiter.into_iter().for_each(Waker::wake);
        });
        poll_fn(move |cx| {
            *lock(&waiter) = Some(cx.waker().clone());
            match is_reached(&subscription.shutdown) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    fn advance(&self, to: Phase) {
        for time in &self.0.times[..to as usize] {
            time.get_or_init(Instant::now);
        }
        if self.0.phase.fetch_max(to as u8, Ordering::AcqRel) < to as u8 {
            self.call_all();
        }
    }

    fn call_all(&self) {
        self.call(|hooks| hooks.subscribed.iter().map(|(_, hook)| hook.clone()).collect());
    }

    /// Adds calls of hooks, and makes all calls that are due, unless another thread or a caller of this method makes
    /// them. A hook may use this `Shutdown`, so it is called without the lock.
    fn call(&self, due: impl FnOnce(&Hooks) -> Vec<Hook>) {
        let mut hooks = self.hooks();
        let due = due(&hooks);
        hooks.calls.extend(due);
        if std::mem::replace(&mut hooks.is_calling, true) {
            return;
        }
        while let Some(hook) = hooks.calls.pop_front() {
            drop(hooks);
            let _ = contain("a hook of the shutdown", || hook());
            discard(hook);
            hooks = self.hooks();
        }
        hooks.is_calling = false;
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        lock(&self.0.hooks)
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

/// Keeps a hook of [`Shutdown::subscribe`] in place until it is dropped.
///
/// ```
/// use gearshift_core::Shutdown;
/// use gearshift_core::shutdown::Subscription;
///
/// let shutdown = Shutdown::new();
/// let subscription: Subscription = shutdown.subscribe(|| println!("the phase has changed"));
/// shutdown.graceful();
/// drop(subscription);
/// ```
#[derive(Debug)]
#[must_use = "the hook is removed when this is dropped"]
pub struct Subscription {
    shutdown: Shutdown,
    key: usize,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The hook may own anything, so it is dropped without the lock.
        let hook = self.shutdown.hooks().subscribed.try_remove(self.key);
        drop(hook);
    }
}

#[cfg(all(test, not(gearshift_model)))]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    /// A hook that stores the phase it reads. Between the two it lets other threads run.
    fn storing(shutdown: &Shutdown) -> (Arc<Mutex<Phase>>, impl Fn() + Send + Sync + use<>) {
        let seen = Arc::new(Mutex::new(Phase::Running));
        let (store, of) = (seen.clone(), shutdown.clone());
        let hook = move || {
            let phase = of.phase();
            thread::yield_now();
            *lock(&store) = phase;
        };
        (seen, hook)
    }

    #[test]
    fn a_subscriber_sees_the_later_of_two_phases_last() {
        for _ in 0..2_000 {
            let shutdown = Shutdown::new();
            let (early, early_hook) = storing(&shutdown);
            let (late, late_hook) = storing(&shutdown);
            let subscribed = shutdown.subscribe(early_hook);
            let start = Barrier::new(3);
            let late_subscribed = thread::scope(|scope| {
                for stop in [Shutdown::graceful, Shutdown::force] {
                    let (shutdown, start) = (&shutdown, &start);
                    scope.spawn(move || {
                        start.wait();
                        stop(shutdown);
                    });
                }
                start.wait();
                shutdown.subscribe(late_hook)
            });
            assert_eq!((*lock(&early), *lock(&late)), (Phase::Forced, Phase::Forced));
            drop((subscribed, late_subscribed));
        }
    }

    #[test]
    fn an_announced_stop_changes_no_phase() {
        let shutdown = Shutdown::with_delay(Duration::from_secs(3600));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let subscribed = shutdown.subscribe(move || _ = counted.fetch_add(1, Ordering::SeqCst));
        assert!(!shutdown.is_announced());
        shutdown.graceful();
        shutdown.graceful();
        assert_eq!(calls.load(Ordering::SeqCst), 1, "the second request changes nothing");
        assert_eq!((shutdown.phase(), shutdown.is_announced()), (Phase::Running, true));
        shutdown.drain();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(shutdown.phase(), Phase::Graceful);
        drop(subscribed);
        // Without a delay, and by force, a stop is announced by its phase.
        for stop in [Shutdown::graceful, Shutdown::force] {
            let shutdown = Shutdown::new();
            stop(&shutdown);
            assert!(shutdown.is_announced() && shutdown.is_requested());
        }
    }

    #[test]
    fn a_hook_may_stop_subscribe_and_unsubscribe() {
        let shutdown = Shutdown::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let (of, counted) = (shutdown.clone(), calls.clone());
        let subscribed = shutdown.subscribe(move || {
            of.force();
            drop(of.subscribe(|| {}));
            counted.fetch_add(1, Ordering::SeqCst);
        });
        shutdown.graceful();
        assert_eq!(calls.load(Ordering::SeqCst), 2, "once for each phase");
        assert_eq!(shutdown.phase(), Phase::Forced);
        drop(subscribed);
        assert!(shutdown.hooks().subscribed.is_empty());
    }

    #[test]
    #[expect(clippy::panic)]
    fn a_hook_that_panics_prevents_no_other() {
        let shutdown = Shutdown::new();
        let (seen, hook) = storing(&shutdown);
        let subscribed =
            (shutdown.subscribe(|| panic!("a hook panics, as it was asked to")), shutdown.subscribe(hook));
        shutdown.graceful();
        assert_eq!(*lock(&seen), Phase::Graceful);
        shutdown.force();
        assert_eq!(*lock(&seen), Phase::Forced);
        drop(subscribed);
    }
}
