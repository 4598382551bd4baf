//! Offloaded work: the job that a thread of a pool runs, and the wait for its output.

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use async_task::Runnable;

use crate::proto::carry_job;
use crate::runtime::contained::{Contained, discard, log_panic};
use crate::runtime::handle::{Runtime, Work};
use crate::runtime::park;
use crate::runtime::pool::{Busy, Requester};

/// A function for a thread of a pool to run. It does not panic.
///
/// ```
/// use gearshift_core::Job;
///
/// let job: Job = Box::new(|| println!("on a thread of a pool"));
/// job();
/// ```
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs `work` on the calling thread if that may block, else on a thread of a pool. Returns its output, or resumes its
/// panic.
///
/// Dropping the future before a thread has started the work cancels the work.
///
/// # Errors
/// [`Busy`] if `may_refuse` is set and the queue of the pool is full.
pub(crate) fn offload<F, R>(
    runtime: Runtime,
    kind: Work,
    work: F,
    may_refuse: bool,
) -> impl Future<Output = Result<R, Busy>> + Send + use<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let work = Contained::new(carry_job(work));
    async move {
        if runtime.runs_in_place(kind) {
            return Ok(work.take()());
        }
        let run = async move { Outcome(Some(catch_unwind(AssertUnwindSafe(work.take())))) };
        // The work never waits, so that it is scheduled only once, by the pool.
        let (runnable, outcome) = async_task::spawn(run, drop::<Runnable>);
        let requester = match park::is_event_loop() {
            true => Requester::Handler,
            false => Requester::Other,
        };
        let _position =
            runtime.pool(kind).admit(Box::new(move || _ = runnable.run()), requester, may_refuse)?;
        match outcome.fallible().await.and_then(|mut outcome| outcome.0.take()) {
            Some(Ok(output)) => Ok(output),
            Some(Err(panic)) => resume_unwind(panic),
            // A backend that stops has dropped the job. The backend drops this future next.
            None => pending().await,
        }
    }
}

/// The outcome of a job, until its requester takes it. The drop of an outcome that is left does not panic.
struct Outcome<R>(Option<thread::Result<R>>);

impl<R> Drop for Outcome<R> {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Ok(output)) => discard(output),
            Some(Err(panic)) => log_panic("a job whose requester has given up", panic),
            None => {}
        }
    }
}
