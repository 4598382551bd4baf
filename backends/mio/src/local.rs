//! The queue of the event loop that the calling thread runs. No other thread sees it.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::worker::{Command, Worker};

thread_local! {
    static LOCAL: RefCell<Option<LocalQueue>> = const { RefCell::new(None) };
}

/// The queue of one event loop.
pub(crate) struct LocalQueue {
    /// The same loop, as other threads see it.
    pub(crate) worker: Worker,
    /// Tasks that are ready, in order.
    pub(crate) ready: VecDeque<Command>,
}

/// Makes the calling thread the one that runs the loop of `worker`.
pub(crate) fn enter(worker: &Worker) {
    LOCAL.set(Some(LocalQueue { worker: worker.clone(), ready: VecDeque::new() }));
}

/// Reverses [`enter`], and returns the queue with what is left in it.
pub(crate) fn leave() -> Option<LocalQueue> {
    LOCAL.take()
}

/// Calls `f` with the queue of the calling thread's loop, if it runs one. `f` must neither wake nor drop a waker, nor
/// drop a task: all of these may call this function again.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&mut LocalQueue) -> T) -> Option<T> {
    LOCAL.try_with(|local| local.borrow_mut().as_mut().map(f)).ok().flatten()
}
