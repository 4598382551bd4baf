//! The background thread of a blocking backend. It runs background tasks, which therefore make progress while handlers
//! hold all workers.

use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};

use async_executor::Executor;
use gearshift_core::sync::{Mutex, lock};
use gearshift_core::{BoxFuture, Latch, Threads, latch};

/// A handle to the background thread, which runs spawned tasks until [`Background::stop`]. Clones refer to the same
/// thread.
#[derive(Clone)]
pub struct Background {
    /// The thread holds the only strong reference, so that the tasks are dropped when the thread ends.
    executor: Weak<Executor<'static>>,
    /// Dropping the guard ends the thread.
    running: Arc<Mutex<Option<latch::Guard>>>,
}

impl Background {
    /// Starts the thread, which calls `run` with the future that runs the tasks. `run` must poll that future until it
    /// is ready.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        threads: &Threads,
        run: impl FnOnce(BoxFuture<()>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Background> {
        let (executor, latch) = (Arc::new(Executor::new()), Latch::new());
        let running = Arc::new(Mutex::new(Some(latch.guard())));
        let background = Background { executor: Arc::downgrade(&executor), running };
        threads.spawn("background".into(), move || {
            let running = executor.clone();
            let ended = run(Box::pin(async move { running.run(latch.released()).await }));
            // Dropping the executor drops the remaining tasks.
            drop(executor);
            ended
        })?;
        Ok(background)
    }

    /// Spawns `task` on the thread. If the thread has ended, `task` is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    /// Makes the thread end.
    pub fn stop(&self) {
        drop(lock(&self.running).take());
    }
}
