//! Work handed to other threads: the future that waits for it, and the job that a thread runs.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::runtime::pool::Busy;

use crate::runtime::handle::{Runtime, Work};
use crate::runtime::pool::Pool;
use crate::runtime::task::lock;

/// A piece of work for a thread of a pool. Running it never panics.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// The result of [`Runtime::blocking`] or [`Runtime::compute`], to be awaited.
///
/// Dropped before a thread has taken the work up, it takes the work back.
#[must_use = "the work starts when this is awaited"]
pub struct Offloaded<F, R>(State<F, R>);

/// The result of [`Runtime::try_blocking`] or [`Runtime::try_compute`], to be awaited; else as [`Offloaded`].
#[must_use = "the work starts when this is awaited"]
pub struct TryOffloaded<F, R>(State<F, R>);

enum State<F, R> {
    /// Not polled yet.
    New(Runtime, Work, F),
    /// On its way through a pool.
    Queued(Ticket<F, R>),
    /// The result was given.
    Taken,
}

/// Takes the work back when it is dropped, if that is not too late.
struct Ticket<F, R> {
    slot: Arc<Mutex<Slot<F, R>>>,
    /// Where it waits, or has waited, for a thread.
    place: Option<(Arc<Pool>, u64)>,
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
impl<F, R> Unpin for TryOffloaded<F, R> {}

impl<F, R> Offloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new(runtime: Runtime, kind: Work, work: F) -> Offloaded<F, R> {
        Offloaded(State::New(runtime, kind, work))
    }
}

impl<F, R> TryOffloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new(runtime: Runtime, kind: Work, work: F) -> TryOffloaded<F, R> {
        TryOffloaded(State::New(runtime, kind, work))
    }
}

impl<F, R> Future for Offloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        self.0.poll(cx, false).map(|outcome| outcome.expect("it waits for as long as it takes"))
    }
}

impl<F, R> Future for TryOffloaded<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = Result<R, Busy>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, Busy>> {
        self.0.poll(cx, true)
    }
}

impl<F, R> State<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>, may_refuse: bool) -> Poll<Result<R, Busy>> {
        match std::mem::replace(self, State::Taken) {
            State::New(runtime, kind, work) if runtime.runs_in_place(kind) => Poll::Ready(Ok(work())),
            State::New(runtime, kind, work) => {
                let slot = Arc::new(Mutex::new(Slot::Waiting(work, cx.waker().clone())));
                let job = slot.clone();
                match runtime.offload(kind, Box::new(move || run(&job)), may_refuse) {
                    Ok(place) => *self = State::Queued(Ticket { slot, place }),
                    Err(busy) => return Poll::Ready(Err(busy)),
                }
                Poll::Pending
            }
            State::Queued(ticket) => {
                let mut state = lock(&ticket.slot);
                match std::mem::replace(&mut *state, Slot::Abandoned) {
                    Slot::Done(Ok(output)) => return Poll::Ready(Ok(output)),
                    Slot::Done(Err(panic)) => {
                        drop(state);
                        resume_unwind(panic)
                    }
                    Slot::Waiting(work, _) => *state = Slot::Waiting(work, cx.waker().clone()),
                    Slot::Running(_) => *state = Slot::Running(cx.waker().clone()),
                    Slot::Abandoned => unreachable!("only a dropped future abandons its work"),
                }
                drop(state);
                *self = State::Queued(ticket);
                Poll::Pending
            }
            State::Taken => panic!("offloaded work was polled after it had ended"),
        }
    }
}

impl<F, R> Drop for Ticket<F, R> {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *lock(&self.slot), Slot::Abandoned);
        if let (Slot::Waiting(..), Some((pool, place))) = (&left, &self.place) {
            pool.withdraw(*place);
        }
        drop(left);
    }
}

impl<F, R> fmt::Debug for Offloaded<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Offloaded").field(&self.0).finish()
    }
}

impl<F, R> fmt::Debug for TryOffloaded<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TryOffloaded").field(&self.0).finish()
    }
}

impl<F, R> fmt::Debug for State<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::New(..) => "New",
            State::Queued(..) => "Queued",
            State::Taken => "Taken",
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
