//! The engine of this backend: timers, connections, tasks and pools for the application.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};
use tokio::runtime::Handle;

use crate::socket::TokioSocket;

/// The engine of one server.
pub(crate) struct TokioEngine {
    /// One handle for each runtime: one in total, or one per core. Never empty.
    pub(crate) handles: Vec<Handle>,
    /// The next runtime for a call from a thread that has none.
    pub(crate) next: AtomicUsize,
    /// The pool for computations.
    pub(crate) threads: OffloadThreads,
}

impl TokioEngine {
    /// The runtime of the calling thread if it belongs to this server, otherwise each runtime of the server in turn.
    fn handle(&self) -> Handle {
        match Handle::try_current() {
            Ok(current) if self.handles.iter().any(|ours| ours.id() == current.id()) => current,
            _ => self.handles[self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len()].clone(),
        }
    }
}

impl Engine for TokioEngine {
    fn backend(&self) -> &'static str {
        crate::NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        let handle = self.handle();
        let _entered = handle.enter();
        Box::pin(tokio::time::sleep_until(until.into()))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        let handle = self.handle();
        let mut connecting = Box::pin(TokioSocket::connect(to));
        Box::pin(std::future::poll_fn(move |cx| {
            // Any thread may poll this future. The socket is registered with the reactor of this handle.
            let _entered = handle.enter();
            connecting.as_mut().poll(cx).map_ok(Stream::new)
        }))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.handle().spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        match kind {
            Work::Blocking => drop(self.handle().spawn_blocking(job)),
            Work::Compute => self.threads.run(kind, job),
        }
    }

    fn poll_inside(&self, poll: &mut dyn FnMut()) {
        let handle = self.handle();
        let _entered = handle.enter();
        poll();
    }

    fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::default();
        for metrics in self.handles.iter().map(Handle::metrics) {
            stats.workers += metrics.num_workers();
            // Tokio counts only the polls of its reactor for which a worker parks.
            stats.turns += (0..metrics.num_workers()).map(|n| metrics.worker_park_count(n)).sum::<u64>();
        }
        stats
    }
}
