//! Offloaded work: the future that waits for its result, and the job that a thread of a pool runs.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::runtime::handle::{Runtime, Work};
use crate::runtime::pool::{Busy, Pool};
use crate::runtime::task::lock;

/// A function for a thread of a pool to run. It does not panic.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// The future of [`Runtime::blocking`] and [`Runtime::compute`]. Its output is that of the work, whose panic it
/// resumes.
///
/// The work starts when the future is first polled. Dropping the future before a thread has started the work cancels
/// the work.
#[must_use = "the work starts when this is awaited"]
pub struct Offloaded<F, R>(State<F, R>);

/// The future of [`Runtime::try_blocking`] and [`Runtime::try_compute`]: an [`Offloaded`] whose output is [`Busy`] if
/// the queue of the pool is full.
#[must_use = "the work starts when this is awaited"]
pub struct TryOffloaded<F, R>(State<F, R>);

enum State<F, R> {
    /// Not polled yet.
    New(Runtime, Work, F),
    /// The pool has the job, or a thread runs it.
    Queued(Ticket<F, R>),
    /// The output was returned.
    Taken,
}

/// The claim to the result of a job. Dropping it cancels the job if no thread has started it.
struct Ticket<F, R> {
    slot: Arc<Mutex<Slot<F, R>>>,
    /// The pool, and the position of the job in its queue. `None` if the job started at once.
    queued_at: Option<(Arc<Pool>, u64)>,
}

/// The state that the future and the job share.
enum Slot<F, R> {
    /// No thread has started the work.
    Waiting(F, Waker),
    /// A thread runs the work.
    Running(Waker),
    /// The work has returned or panicked.
    Done(thread::Result<R>),
    /// The future was dropped, or has taken the output.
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
        self.0.poll(cx, false).map(|outcome| outcome.expect("a job that may wait is not refused"))
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
    /// `may_refuse` says whether a full queue refuses the job.
    fn poll(&mut self, cx: &mut Context<'_>, may_refuse: bool) -> Poll<Result<R, Busy>> {
        match std::mem::replace(self, State::Taken) {
            State::New(runtime, kind, work) if runtime.runs_in_place(kind) => Poll::Ready(Ok(work())),
            State::New(runtime, kind, work) => {
                let slot = Arc::new(Mutex::new(Slot::Waiting(work, cx.waker().clone())));
                let job = slot.clone();
                match runtime.offload(kind, Box::new(move || run(&job)), may_refuse) {
                    Ok(queued_at) => *self = State::Queued(Ticket { slot, queued_at }),
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
        if let (Slot::Waiting(..), Some((pool, position))) = (&left, &self.queued_at) {
            pool.withdraw(*position);
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

/// The body of the job: runs the work unless the future was dropped.
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
