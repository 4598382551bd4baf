//! How a blocking server is doing, for its statistics.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use gearshift_core::EngineStats;

/// What the engine says of the server that it belongs to.
#[derive(Default)]
pub struct Pulse {
    turns: AtomicU64,
    workers: OnceLock<(usize, Box<Waiting>)>,
}

/// Says how many connections wait for a worker.
type Waiting = dyn Fn() -> usize + Send + Sync;

impl Pulse {
    /// The server has so many workers now, and who waits for one is counted by `waiting`.
    pub fn started(&self, workers: usize, waiting: impl Fn() -> usize + Send + Sync + 'static) {
        // It starts once.
        let _ = self.workers.set((workers, Box::new(waiting)));
    }

    /// The poller was asked for news.
    pub(crate) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn engine_stats(&self) -> EngineStats {
        let (workers, waiting) = match self.workers.get() {
            Some((workers, waiting)) => (*workers, waiting()),
            None => (0, 0),
        };
        EngineStats { workers, waiting, turns: self.turns.load(Ordering::Relaxed) }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.engine_stats()).finish()
    }
}
