//! What other threads send to an event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use gearshift_core::BoxFuture;
use gearshift_reactor::Handle;

use crate::executor::Header;

/// One message to an event loop.
pub(crate) enum Letter {
    /// A task is ready.
    Wake(Arc<Header>),
    /// A task is to be run.
    Spawn(BoxFuture<()>),
}

/// The letters that one event loop has not read.
pub(crate) struct Mailbox {
    handle: Handle,
    letters: SegQueue<Letter>,
    /// Whether the loop's wait was interrupted since it last began to read.
    notified: AtomicBool,
    stopped: AtomicBool,
    closed: AtomicBool,
}

impl Mailbox {
    /// The mailbox of a loop that waits in the reactor of `handle`.
    pub(crate) fn new(handle: &Handle) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            handle: handle.clone(),
            letters: SegQueue::new(),
            notified: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// The reactor that the loop waits in.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends a letter. It is dropped unread if the loop has ended.
    pub(crate) fn send(&self, letter: Letter) {
        self.letters.push(letter);
        if self.is_closed() {
            self.drop_letters();
        } else if !self.notified.swap(true, Ordering::AcqRel) {
            self.handle.wake();
        }
    }

    /// The next letter; only for the loop itself.
    pub(crate) fn next(&self) -> Option<Letter> {
        self.letters.pop()
    }

    /// Whether letters may have come since this was last asked; only for the loop itself.
    pub(crate) fn has_news(&self) -> bool {
        self.notified.load(Ordering::Relaxed) && self.notified.swap(false, Ordering::AcqRel)
    }

    /// Has the loop end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.handle.wake();
    }

    /// Whether the loop is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The loop has ended: letters are dropped unread from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.drop_letters();
    }

    /// Whether the loop has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn drop_letters(&self) {
        while let Some(letter) = self.next() {
            drop(letter);
        }
    }
}

/// The mailboxes of all loops of a server.
pub(crate) struct Loops {
    mailboxes: Vec<Arc<Mailbox>>,
    turn: AtomicUsize,
}

impl Loops {
    /// # Panics
    /// If there are none.
    pub(crate) fn new(mailboxes: Vec<Arc<Mailbox>>) -> Arc<Loops> {
        assert!(!mailboxes.is_empty(), "a server has at least one loop");
        Arc::new(Loops { mailboxes, turn: AtomicUsize::new(0) })
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// One of them, in turn.
    pub(crate) fn next(&self) -> Arc<Mailbox> {
        self.mailboxes[self.turn.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len()].clone()
    }
}
