//! The thread of a blocking backend that runs background tasks, so that they go on while every worker is held by a
//! request.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use async_executor::Executor;
use gearshift_core::{BoxFuture, Threads};

use crate::lock;

/// The name of the thread.
const NAME: &str = "background";

/// A thread that runs the tasks that were spawned, until [`Background::stop`]. Clones share it.
#[derive(Clone)]
pub struct Background {
    /// Kept by the thread alone, so that the tasks end with it.
    executor: Weak<Executor<'static>>,
    stop: Arc<Mutex<Stop>>,
}

/// Whether the thread is to end.
enum Stop {
    NotAsked(Waker),
    Asked,
}

impl Background {
    /// Starts the thread. It calls `run` with a future, which `run` is to poll until it is ready: that future runs the
    /// tasks.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        threads: &Threads,
        run: impl FnOnce(BoxFuture<()>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Background> {
        let executor = Arc::new(Executor::new());
        let stop = Arc::new(Mutex::new(Stop::NotAsked(Waker::noop().clone())));
        let background = Background { executor: Arc::downgrade(&executor), stop: stop.clone() };
        threads.spawn(NAME.into(), move || {
            let running = executor.clone();
            let ended = run(Box::pin(async move { running.run(stopped(stop)).await }));
            // Tasks that are left are dropped here, with the executor.
            drop(executor);
            ended
        })?;
        Ok(background)
    }

    /// Runs `task` on the thread. It is dropped if the thread has ended.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    /// Has the thread end.
    pub fn stop(&self) {
        if let Stop::NotAsked(waker) = std::mem::replace(&mut *lock(&self.stop), Stop::Asked) {
            waker.wake();
        }
    }
}

/// Ready once a stop was asked for.
async fn stopped(stop: Arc<Mutex<Stop>>) {
    poll_fn(|cx| match &mut *lock(&stop) {
        Stop::Asked => Poll::Ready(()),
        Stop::NotAsked(waker) => {
            waker.clone_from(cx.waker());
            Poll::Pending
        }
    })
    .await;
}
