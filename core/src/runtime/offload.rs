//! Offloaded work: the job that a thread of a pool runs, and the wait for its output.

use std::future::pending;

use async_task::Runnable;

use crate::runtime::handle::{Runtime, Work};
use crate::runtime::pool::Busy;
use crate::runtime::task::Contained;

/// A function for a thread of a pool to run. It does not panic.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs `work` on the calling thread if that may block, else on a thread of a pool. Returns its output, or resumes its
/// panic.
///
/// Dropping the future before a thread has started the work cancels the work.
///
/// # Errors
/// [`Busy`] if `may_refuse` is set and the queue of the pool is full.
pub(crate) async fn offload<F, R>(runtime: Runtime, kind: Work, work: F, may_refuse: bool) -> Result<R, Busy>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    if runtime.runs_in_place(kind) {
        return Ok(work());
    }
    let mut work = Contained(Some(work));
    let run = async move { Contained(work.0.take().map(|work| work())) };
    // The work never waits, so that it is scheduled only once, by the pool.
    let task = async_task::Builder::new().propagate_panic(true);
    let (runnable, output) = task.spawn(|()| run, drop::<Runnable>);
    let _place = runtime.admit(kind, Box::new(move || _ = runnable.run()), may_refuse)?;
    match output.fallible().await.and_then(|mut output| output.0.take()) {
        Some(output) => Ok(output),
        // A backend that stops has dropped the job. The backend drops this future next.
        None => pending().await,
    }
}
