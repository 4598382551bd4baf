//! Tasks that belong to something, and end with it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::runtime::handle::Runtime;
use crate::runtime::task::{Cancellable, Task, Tasks};

/// Background tasks that are cancelled when this is dropped; see [`Runtime::scope`].
///
/// A handler that keeps one has its tasks end with its request: they are cancelled if the handler returns early, if its
/// peer leaves, or if its time is over. Until then they go on whether the handler waits for them or not, and may do so
/// on other threads than its own, which is what they have over a `join!` of their futures.
///
/// ```
/// # use gearshift_core::{Request, Runtime, TaskError};
/// async fn page(runtime: Runtime, _: Request) -> Result<String, TaskError> {
///     let mut scope = runtime.scope();
///     let user = scope.spawn(async { "somebody" });
///     let news = scope.spawn(async { "nothing new" });
///     Ok(format!("{}: {}", user.await?, news.await?))
/// }
/// ```
#[must_use = "its tasks are cancelled when it is dropped"]
pub struct Scope {
    runtime: Runtime,
    tasks: Tasks,
    /// Of all tasks that may not have ended.
    cancellers: Vec<Arc<dyn Cancellable>>,
    /// When to look next which have: so that their number is bounded by that of the tasks that run.
    prune_at: usize,
}

const PRUNE_AT: usize = 16;

impl Scope {
    pub(crate) fn new(runtime: Runtime) -> Scope {
        Scope { runtime, tasks: Tasks::default(), cancellers: Vec::new(), prune_at: PRUNE_AT }
    }

    /// Starts a task as [`Runtime::spawn`] does. Dropping its handle lets it run on for as long as the scope is there.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if self.cancellers.len() >= self.prune_at {
            self.cancellers.retain(|task| !task.is_finished());
            self.prune_at = PRUNE_AT.max(2 * self.cancellers.len());
        }
        let counted = self.tasks.begin();
        let task = self.runtime.spawn(async move {
            let _counted = counted;
            future.await
        });
        self.cancellers.push(task.canceller());
        task
    }

    /// How many of its tasks have not ended.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until all of its tasks have ended.
    pub async fn join(self) {
        self.tasks.ended().await;
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.cancellers.iter().for_each(|task| task.cancel());
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("running", &self.running()).finish_non_exhaustive()
    }
}
