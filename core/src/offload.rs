//! Work handed to other threads: the future that waits for it, and the job that a thread runs.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::runtime::{Runtime, Work};
use crate::task::lock;

/// A piece of work for a thread of a pool. Running it never panics.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// The result of [`Runtime::blocking`] or [`Runtime::compute`], to be awaited.
///
/// Dropped before a thread has taken the work up, it takes the work back.
#[must_use = "the work starts when this is awaited"]
pub struct Offloaded<F, R>(State<F, R>);

enum State<F, R> {
    /// Not polled yet.
    New(Runtime, Work, F),
    /// On its way through a pool.
    Queued(Arc<Mutex<Slot<F, R>>>),
    /// The result was given.
    Taken,
}

/// What the waiting future and the working thread share.
enum Slot<F, R> {
    /// No thread has taken the work up.
    Waiting(F, Waker),
    /// A thread is at it.
    Running(Waker),
    /// It has ended, or panicked.
    Done(thread::Result<R>),
    /// Nobody waits for the result.
    Abandoned,
}

impl<F, R> Unpin for Offloaded<F, R> {}

impl<F, R> Offloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new(runtime: Runtime, kind: Work, work: F) -> Offloaded<F, R> {
        Offloaded(State::New(runtime, kind, work))
    }
}

impl<F, R> Future for Offloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        match std::mem::replace(&mut self.0, State::Taken) {
            State::New(runtime, _, work) if runtime.runs_in_place() => Poll::Ready(work()),
            State::New(runtime, kind, work) => {
                let slot = Arc::new(Mutex::new(Slot::Waiting(work, cx.waker().clone())));
                self.0 = State::Queued(slot.clone());
                runtime.offload(kind, Box::new(move || run(&slot)));
                Poll::Pending
            }
            State::Queued(slot) => {
                let mut state = lock(&slot);
                match std::mem::replace(&mut *state, Slot::Abandoned) {
                    Slot::Done(Ok(output)) => return Poll::Ready(output),
                    Slot::Done(Err(panic)) => {
                        drop(state);
                        resume_unwind(panic)
                    }
                    Slot::Waiting(work, _) => *state = Slot::Waiting(work, cx.waker().clone()),
                    Slot::Running(_) => *state = Slot::Running(cx.waker().clone()),
                    Slot::Abandoned => unreachable!("only a dropped future abandons its work"),
                }
                drop(state);
                self.0 = State::Queued(slot);
                Poll::Pending
            }
            State::Taken => panic!("offloaded work was polled after it had ended"),
        }
    }
}

impl<F, R> Drop for Offloaded<F, R> {
    fn drop(&mut self) {
        if let State::Queued(slot) = &self.0 {
            let left = std::mem::replace(&mut *lock(slot), Slot::Abandoned);
            drop(left);
        }
    }
}

impl<F, R> fmt::Debug for Offloaded<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::New(..) => "Offloaded(new)",
            State::Queued(_) => "Offloaded(queued)",
            State::Taken => "Offloaded(taken)",
        })
    }
}

/// The job: takes the work up unless nobody waits for it any more.
fn run<F: FnOnce() -> R, R>(slot: &Mutex<Slot<F, R>>) {
    let mut state = lock(slot);
    let work = match std::mem::replace(&mut *state, Slot::Abandoned) {
        Slot::Waiting(work, waker) => {
            *state = Slot::Running(waker);
            work
        }
        _ => return,
    };
    drop(state);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let mut state = lock(slot);
    if let Slot::Running(waker) = std::mem::replace(&mut *state, Slot::Abandoned) {
        *state = Slot::Done(outcome);
        drop(state);
        waker.wake();
    }
}
