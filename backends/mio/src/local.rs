//! The queues of the event loop that the calling thread runs. No other thread sees them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::executor::{TaskHeader, Work};
use crate::worker::Worker;

thread_local! {
    static LOCAL: RefCell<Option<LocalQueues>> = const { RefCell::new(None) };
}

/// The queues of one event loop.
pub(crate) struct LocalQueues {
    /// The same loop, as other threads see it.
    pub(crate) worker: Worker,
    /// Tasks that are ready, in order.
    pub(crate) ready: VecDeque<Arc<TaskHeader>>,
    /// New tasks, which the executor has not taken yet.
    pub(crate) spawned: Vec<Work>,
}

/// Makes the calling thread the one that runs the loop of `worker`.
pub(crate) fn enter(worker: &Worker) {
    LOCAL.set(Some(LocalQueues { worker: worker.clone(), ready: VecDeque::new(), spawned: Vec::new() }));
}

/// Reverses [`enter`], and returns the queues with what is left in them.
pub(crate) fn leave() -> Option<LocalQueues> {
    LOCAL.take()
}

/// Calls `f` with the queues of the calling thread's loop, if it runs one. `f` must neither wake nor drop a waker,
/// nor drop a task: all of these may call this function again.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&mut LocalQueues) -> T) -> Option<T> {
    LOCAL.try_with(|local| local.borrow_mut().as_mut().map(f)).ok().flatten()
}

/// Whether the calling thread runs the loop of `worker`.
#[inline]
pub(crate) fn is(worker: &Worker) -> bool {
    with(|local| local.worker == *worker).unwrap_or(false)
}

/// Runs a task on the calling thread's loop. The task is dropped if the thread runs no loop.
pub(crate) fn spawn(work: Work) {
    with(|local| local.spawned.push(work));
}
