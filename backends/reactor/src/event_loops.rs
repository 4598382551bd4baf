//! The event loops of one server, and which of them runs a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gearshift_core::EngineStats;

use crate::handle::Handle;

/// One event loop, as other threads see it. Two values are equal if they are the same loop.
pub trait EventLoop: Clone + PartialEq {
    /// The reactor in which the loop waits.
    fn handle(&self) -> &Handle;
}

/// All event loops of a server.
pub struct EventLoops<L> {
    all: Vec<L>,
    next: AtomicUsize,
}

impl<L: EventLoop> EventLoops<L> {
    /// The event loops of a server that has `all` of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(all: Vec<L>) -> Arc<EventLoops<L>> {
        assert!(!all.is_empty(), "a server has at least one event loop");
        Arc::new(EventLoops { all, next: AtomicUsize::new(0) })
    }

    /// All event loops.
    pub fn all(&self) -> &[L] {
        &self.all
    }

    /// `current`, the loop of the calling thread, if it is a loop of this server. Otherwise the next loop in turn.
    pub fn home(&self, current: Option<L>) -> L {
        current
            .filter(|current| self.all.contains(current))
            .unwrap_or_else(|| self.all[self.next.fetch_add(1, Ordering::Relaxed) % self.all.len()].clone())
    }

    /// The statistics of the loops.
    pub fn stats(&self) -> EngineStats {
        let turns = self.all.iter().map(|worker| worker.handle().turns()).sum();
        EngineStats { workers: self.all.len(), waiting: 0, turns }
    }
}
