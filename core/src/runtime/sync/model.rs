//! The model checker's counterparts of the standard library, and a system for its threads.
//!
//! The threads of a check are coroutines of one thread of the system, so a system call must not wait. [`wait`] makes
//! the call without a timeout, again after each [`interrupt`], until it finds something. The descriptors are real.
//!
//! Time stands still until the check moves it by [`advance`]. A wait of at most [`SHORT`] may be over at any time.
//!
//! | in the standard library | here |
//! | --- | --- |
//! | a `SeqCst` access | an access and a fence; see `Fences` |
//! | `thread::park` | a lock and a condition. loom's own `unpark` also ends the wait for a lock |
//! | `crossbeam_queue::SegQueue` | a queue behind a lock |
//! | `atomic_waker::AtomicWaker` | a waker behind a lock |

pub mod atomic;
mod queue;
pub mod thread;
mod waker;

pub use super::super::super::model_thread_local as thread_local;
pub use loom;
pub use loom::sync::{Condvar, Mutex, MutexGuard};
pub use queue::SegQueue;
pub use waker::AtomicWaker;

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec};

use atomic::{ARE_USED, FENCES, Fences};

use crate::runtime::sync::lock;

/// The longest wait that does not need [`advance`] to be over.
pub const SHORT: Duration = Duration::from_millis(1);
/// More steps than an execution of a check has.
const MAX_STEPS: usize = 20_000;

std::thread_local! {
    /// The time at which all checks of this thread start.
    static START: Instant = Instant::now();
    /// The time since the start of the check.
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Calls to be made once their time has come.
    static ALARMS: RefCell<Vec<(Instant, Arc<dyn Fn()>)>> = const { RefCell::new(Vec::new()) };
}

loom::lazy_static! {
    static ref SYSTEM: System = System { lock: Mutex::new(()), interrupted: Condvar::new() };
}

/// The threads that wait in the system.
struct System {
    lock: Mutex<()>,
    interrupted: Condvar,
}

/// Runs `check` in every order of its threads with at most `preemptions` switches away from a thread that could
/// continue.
///
/// # Panics
/// `check` panics, or all of its threads wait.
pub fn check(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let check = Arc::new(check);
    let other = check.clone();
    run(preemptions, Fences::BeforeLoads, move || check());
    if ARE_USED.get() {
        run(preemptions, Fences::AfterStores, move || other());
    }
}

/// As [`check()`], for code whose atomics are all `SeqCst`. It takes half the time or less.
///
/// # Panics
/// As [`check()`].
pub fn check_seq_cst(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    run(preemptions, Fences::BeforeLoads, check);
}

fn run(preemptions: usize, fences: Fences, check: impl Fn() + Sync + Send + 'static) {
    FENCES.set(fences);
    ARE_USED.set(false);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = MAX_STEPS;
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        ELAPSED.set(Duration::ZERO);
        ALARMS.take();
        check();
    });
    println!("{executions:?} executions");
}

/// The current time.
pub fn now() -> Instant {
    START.with(|start| *start) + ELAPSED.get()
}

/// The time since the start of the check.
pub fn elapsed() -> Duration {
    ELAPSED.get()
}

/// The current time as seconds and nanoseconds since the start of the check. All clocks show it.
pub fn clock_gettime(_: ClockId) -> Timespec {
    Timespec::try_from(ELAPSED.get()).expect("a short time")
}

/// A barrier; see the one of the standard library.
pub fn light_barrier() {
    loom::sync::atomic::fence(SeqCst);
}

/// A barrier; see the one of the standard library.
pub fn heavy_barrier() {
    loom::sync::atomic::fence(SeqCst);
}

/// Moves the time, and makes the calls that are due.
pub fn advance(by: Duration) {
    interrupt(|| {
        ELAPSED.set(ELAPSED.get() + by);
        ALARMS.with_borrow_mut(|alarms| {
            alarms.extract_if(.., |(at, _)| *at <= now()).for_each(|(_, call)| call());
        });
    });
}

/// Makes `call` at `at`, unless that time has passed: then it makes `call` now.
pub fn alarm(at: Instant, call: Arc<dyn Fn()>) {
    interrupt(|| match at <= now() {
        true => call(),
        false => ALARMS.with_borrow_mut(|alarms| alarms.push((at, call))),
    });
}

/// Makes a system call that waits; see the [module](self).
///
/// # Errors
/// The error of `call`.
pub fn wait(
    timeout: Option<Duration>,
    mut call: impl FnMut(Option<Duration>) -> io::Result<bool>,
) -> io::Result<()> {
    if timeout.is_some_and(|timeout| timeout <= SHORT) {
        if !call(Some(Duration::ZERO))? && timeout > Some(Duration::ZERO) {
            thread::yield_now();
            call(Some(Duration::ZERO))?;
        }
        return Ok(());
    }
    let until = timeout.map(|timeout| now() + timeout);
    let mut system = lock(&SYSTEM.lock);
    while !call(Some(Duration::ZERO))? && until.is_none_or(|until| now() < until) {
        system = SYSTEM.interrupted.wait(system).expect("a lock without poison");
    }
    Ok(())
}

/// Makes a system call that may end the [`wait`] of another thread.
pub fn interrupt<T>(call: impl FnOnce() -> T) -> T {
    let _system = lock(&SYSTEM.lock);
    let result = call();
    SYSTEM.interrupted.notify_all();
    result
}
