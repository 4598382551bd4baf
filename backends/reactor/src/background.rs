//! The background thread of a blocking backend. It runs background tasks, which therefore make progress while handlers
//! hold all workers.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use async_executor::Executor;
use gearshift_core::{BoxFuture, Threads};

use crate::lock;

/// The name of the thread.
const NAME: &str = "background";

/// A handle to the background thread, which runs spawned tasks until [`Background::stop`]. Clones refer to the same
/// thread.
#[derive(Clone)]
pub struct Background {
    /// The thread holds the only strong reference, so that the tasks are dropped when the thread ends.
    executor: Weak<Executor<'static>>,
    stop: Arc<Mutex<Stop>>,
}

/// The request that the thread ends.
enum Stop {
    /// There is none yet. The waker wakes the thread.
    NotRequested(Waker),
    Requested,
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
        let executor = Arc::new(Executor::new());
        let stop = Arc::new(Mutex::new(Stop::NotRequested(Waker::noop().clone())));
        let background = Background { executor: Arc::downgrade(&executor), stop: stop.clone() };
        threads.spawn(NAME.into(), move || {
            let running = executor.clone();
            let ended = run(Box::pin(async move { running.run(stopped(stop)).await }));
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
        if let Stop::NotRequested(waker) = std::mem::replace(&mut *lock(&self.stop), Stop::Requested) {
            waker.wake();
        }
    }
}

/// Waits until a stop is requested.
async fn stopped(stop: Arc<Mutex<Stop>>) {
    poll_fn(|cx| match &mut *lock(&stop) {
        Stop::Requested => Poll::Ready(()),
        Stop::NotRequested(waker) => {
            waker.clone_from(cx.waker());
            Poll::Pending
        }
    })
    .await;
}
