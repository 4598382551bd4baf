//! The engine of this backend: timers, connections, tasks and pools for the application.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::{Background, Handle};

use crate::NAME;
use crate::worker::Worker;

/// The engine of one server.
pub(crate) struct SequentialEngine {
    worker: Arc<Worker>,
    background: Background,
    background_handle: Handle,
    /// The pools for jobs of background tasks. The jobs of a handler run on the thread of the handler.
    threads: OffloadThreads,
}

impl SequentialEngine {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        background: &Background,
        background_handle: &Handle,
        threads: OffloadThreads,
    ) -> SequentialEngine {
        SequentialEngine {
            worker: worker.clone(),
            background: background.clone(),
            background_handle: background_handle.clone(),
            threads,
        }
    }

    /// The reactor of the worker if the calling thread is the worker, otherwise the reactor of the background thread.
    /// A handler can block the worker, which would delay the events of other threads.
    fn handle(&self) -> &Handle {
        match self.worker.is_here() {
            true => self.worker.handle(),
            false => &self.background_handle,
        }
    }
}

impl Engine for SequentialEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.handle().sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.handle().clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.background.spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn threads_block(&self) -> bool {
        true
    }

    fn stats(&self) -> EngineStats {
        let turns = self.worker.handle().turns();
        EngineStats { workers: 1, waiting: self.worker.waiting(), turns }
    }
}
