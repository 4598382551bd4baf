//! Structured concurrency: a group of background tasks that ends with its owner.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::runtime::handle::Runtime;
use crate::runtime::latch::Latch;
use crate::runtime::task::{Cancellable, Task};

/// A group of background tasks, from [`Runtime::scope`]. Dropping the scope cancels its tasks.
///
/// A handler that owns a scope has its tasks cancelled when it returns, when it is cancelled because its peer has
/// left, and when it times out. Unlike the futures of a `join!`, the tasks run while the handler does other work, and
/// may run on other threads.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Request, Runtime, TaskError};
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
    tasks: Latch,
    /// The tasks that had not ended when `cancellers` was pruned last, and all later tasks.
    cancellers: Vec<Arc<dyn Cancellable + Send + Sync>>,
    /// The length of `cancellers` at which ended tasks are removed. It bounds the length to twice the number of
    /// running tasks, but at least [`PRUNE_AT`].
    prune_at: usize,
}

/// The smallest value of [`Scope::prune_at`].
const PRUNE_AT: usize = 16;

impl Scope {
    pub(crate) fn new(runtime: Runtime) -> Scope {
        Scope { runtime, tasks: Latch::new(), cancellers: Vec::new(), prune_at: PRUNE_AT }
    }

    /// Starts a task of the scope, as [`Runtime::spawn`] does. Dropping its handle does not cancel the task.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        if self.cancellers.len() >= self.prune_at {
            self.cancellers.retain(|task| !task.is_finished());
            self.prune_at = PRUNE_AT.max(2 * self.cancellers.len());
        }
        let counted = self.tasks.guard();
        let task = self.runtime.spawn(async move {
            let _counted = counted;
            future.await
        });
        self.cancellers.push(task.canceller());
        task
    }

    /// The number of tasks of the scope that have not ended.
    pub fn running(&self) -> usize {
        self.tasks.guards()
    }

    /// Waits until all tasks of the scope have ended. Dropping the returned future cancels them.
    pub async fn join(self) {
        self.tasks.released().await;
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
