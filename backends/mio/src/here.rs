//! The event loop that the calling thread runs: what code can reach of it while one of its tasks is polled.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::executor::{Header, Work};
use crate::mailbox::Mailbox;

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The queues of the calling thread's loop; no other thread sees them.
pub(crate) struct Here {
    pub(crate) mailbox: Arc<Mailbox>,
    /// Tasks that are ready, in order.
    pub(crate) ready: VecDeque<Arc<Header>>,
    /// Tasks that have no place among the loop's tasks yet.
    pub(crate) spawned: Vec<Work>,
}

/// Makes the calling thread the one that runs the loop of `mailbox`.
pub(crate) fn enter(mailbox: &Arc<Mailbox>) {
    let here = Here { mailbox: mailbox.clone(), ready: VecDeque::new(), spawned: Vec::new() };
    HERE.set(Some(here));
}

/// Ends what [`enter`] began, and gives back what was left.
pub(crate) fn leave() -> Option<Here> {
    HERE.take()
}

/// Calls `f` with the calling thread's loop, if it runs one. `f` must neither wake nor drop a waker, nor drop a task:
/// these may come back here.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&mut Here) -> T) -> Option<T> {
    HERE.try_with(|here| here.borrow_mut().as_mut().map(f)).ok().flatten()
}

/// The mailbox of the calling thread's loop.
pub(crate) fn mailbox() -> Option<Arc<Mailbox>> {
    with(|here| here.mailbox.clone())
}

/// Whether the calling thread runs the loop of `mailbox`.
#[inline]
pub(crate) fn is(mailbox: &Arc<Mailbox>) -> bool {
    with(|here| Arc::ptr_eq(&here.mailbox, mailbox)).unwrap_or(false)
}

/// Runs a task on the calling thread's loop; drops it if there is none.
pub(crate) fn spawn(work: Work) {
    with(|here| here.spawned.push(work));
}
