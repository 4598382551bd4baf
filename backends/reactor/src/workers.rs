//! The event loops of one server: which of them runs a task, and which listeners each accepts from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gearshift_core::{Listener, Vitals};

use crate::handle::Handle;

/// One event loop, as other threads see it. Two values are equal if they are the same loop.
pub trait Worker: Clone + PartialEq {
    /// The reactor in which the loop waits.
    fn handle(&self) -> &Handle;
}

/// All event loops of a server.
pub struct Workers<W> {
    all: Vec<W>,
    next: AtomicUsize,
}

impl<W: Worker> Workers<W> {
    /// The event loops of a server that has `all` of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(all: Vec<W>) -> Arc<Workers<W>> {
        assert!(!all.is_empty(), "a server has at least one event loop");
        Arc::new(Workers { all, next: AtomicUsize::new(0) })
    }

    /// All event loops.
    pub fn all(&self) -> &[W] {
        &self.all
    }

    /// `current`, the loop of the calling thread, if it is a loop of this server. Otherwise the next loop in turn.
    pub fn home(&self, current: Option<W>) -> W {
        current
            .filter(|current| self.all.contains(current))
            .unwrap_or_else(|| self.all[self.next.fetch_add(1, Ordering::Relaxed) % self.all.len()].clone())
    }

    /// The statistics of the loops.
    pub fn vitals(&self) -> Vitals {
        let turns = self.all.iter().map(|worker| worker.handle().turns()).sum();
        Vitals { workers: self.all.len(), waiting: 0, turns }
    }
}

/// Splits listeners among `workers` event loops: each loop gets a listener for each address.
///
/// # Errors
/// Errors of the system when it binds another listener to the same address.
pub fn share(listeners: Vec<Listener>, workers: usize) -> io::Result<Vec<Vec<Listener>>> {
    let mut shares: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (share, sibling) in shares.iter_mut().zip(listener.split(workers)?) {
            share.push(sibling);
        }
    }
    Ok(shares)
}
