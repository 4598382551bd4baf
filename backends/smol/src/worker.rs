//! One executor, as other threads see it: its tasks, and the reactor in which its thread waits.

use std::cell::RefCell;
use std::future::Future;
use std::sync::{Arc, Weak};

use gearshift_reactor::Handle;
use smol::Executor;

thread_local! {
    static CURRENT: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// One executor, as other threads see it.
#[derive(Clone)]
pub(crate) struct Worker {
    /// Only the worker's thread keeps the executor, so that the tasks end with the thread.
    executor: Weak<Executor<'static>>,
    handle: Handle,
}

impl Worker {
    pub(crate) fn new(executor: &Arc<Executor<'static>>, handle: &Handle) -> Worker {
        Worker { executor: Arc::downgrade(executor), handle: handle.clone() }
    }

    /// The executor that the calling thread runs.
    pub(crate) fn current() -> Option<Worker> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs a task on the executor. The task is dropped if the executor has ended.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    /// Makes the calling thread the one that runs the executor, until the guard is dropped.
    pub(crate) fn enter(self) -> Entered {
        CURRENT.set(Some(self));
        Entered
    }
}

impl gearshift_reactor::EventLoop for Worker {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl PartialEq for Worker {
    fn eq(&self, other: &Worker) -> bool {
        self.executor.ptr_eq(&other.executor)
    }
}

/// See [`Worker::enter`].
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
