//! Model checks of the shutdown, the latch and the waits for them, with the threads in every order.
//!
//! ARCHITECTURE.md says how they are run. Each check names a change of the code that it finds.

use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::runtime::latch::Latch;
use crate::runtime::park::{self, Park, block_on_until};
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::runtime::sync::model::check;
use crate::runtime::sync::{Mutex, lock, thread};

/// Finds a look at the phase that precedes the subscription.
#[test]
fn a_hook_is_called_for_a_stop_at_any_time() {
    check(3, || {
        let (shutdown, calls) = (Shutdown::new(), Arc::new(AtomicUsize::new(0)));
        let other = shutdown.clone();
        let stopping = thread::spawn(move || other.graceful());
        let counted = calls.clone();
        let _subscription = shutdown.subscribe(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        stopping.join().unwrap();
        assert_ne!(calls.load(Ordering::Relaxed), 0);
    });
}

/// Finds a hook that is called before the phase changes, and a waker that is stored after the look at the phase.
#[test]
fn a_wait_for_a_phase_ends_with_the_phase() {
    check(3, || {
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.clone(), shutdown.clone());
        let threads = [thread::spawn(move || first.graceful()), thread::spawn(move || second.force())];
        block_on_until(None, shutdown.reached(Phase::Forced));
        assert_eq!(shutdown.phase(), Phase::Forced);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Finds hooks that two threads call at the same time.
#[test]
fn a_subscriber_sees_the_later_of_two_phases_last() {
    check(3, || {
        let shutdown = Shutdown::new();
        let (seen, of) = (Arc::new(Mutex::new(Phase::Running)), shutdown.clone());
        let store = seen.clone();
        let _subscription = shutdown.subscribe(move || {
            let phase = of.phase();
            *lock(&store) = phase;
        });
        let (first, second) = (shutdown.clone(), shutdown);
        let threads = [thread::spawn(move || first.graceful()), thread::spawn(move || second.force())];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock(&seen), Phase::Forced);
    });
}

/// Finds a phase that is read or changed with a weaker ordering: the hook sees the change of phase, and not what the
/// stopping thread did before.
#[test]
fn what_precedes_a_stop_is_seen_with_the_phase() {
    check(3, || {
        let (shutdown, done) = (Shutdown::new(), Arc::new(AtomicBool::new(false)));
        let (other, before) = (shutdown.clone(), done.clone());
        let stopping = thread::spawn(move || {
            before.store(true, Ordering::Relaxed);
            other.graceful();
        });
        if shutdown.is_requested() {
            assert!(done.load(Ordering::Relaxed));
        }
        stopping.join().unwrap();
    });
}

/// Finds a release by another guard than the last, a last guard that wakes nobody, and a waker that is left after the
/// look at the guards.
#[test]
fn a_latch_is_released_by_its_last_guard() {
    check(3, || {
        let (latch, dropped) = (Latch::new(), Arc::new(AtomicUsize::new(0)));
        let threads = [latch.guard(), latch.guard()].map(|guard| {
            let dropped = dropped.clone();
            thread::spawn(move || {
                dropped.fetch_add(1, Ordering::Relaxed);
                drop(guard);
            })
        });
        block_on_until(None, latch.released());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The wait of a worker on the thread itself.
struct ThreadPark(thread::Thread);

impl Park for ThreadPark {
    fn park(&self) {
        thread::park();
    }

    fn unpark(&self) {
        self.0.unpark();
    }
}

/// Finds a wait that begins after a poll whose waker was not the worker's.
#[test]
fn a_worker_waits_until_its_future_wakes_it() {
    check(3, || {
        let _role = park::enter_worker(Arc::new(ThreadPark(thread::current())));
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let other = shared.clone();
        let waking = thread::spawn(move || {
            let mut shared = lock(&other);
            shared.0 = true;
            let waker = shared.1.take();
            drop(shared);
            waker.into_iter().for_each(Waker::wake);
        });
        park::block_on(|cx| {
            let mut shared = lock(&shared);
            shared.1 = Some(cx.waker().clone());
            match shared.0 {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        waking.join().unwrap();
    });
}
