//! What a handler can ask of this backend.

use std::io;
use std::time::Instant;

use async_std::task;
use futures_lite::future::or;
use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Latch, Stream, Work};
use gearshift_reactor::Handle;

use crate::NAME;

/// async-std's executor, as the application of one server sees it.
pub(crate) struct AsyncStdEngine {
    /// Released when the server has ended. The executor outlives the server, so that background tasks have to be
    /// ended one by one.
    running: Latch,
    reactor: Handle,
    threads: OffloadThreads,
}

impl AsyncStdEngine {
    pub(crate) fn new(running: &Latch, reactor: &Handle, config: &Config) -> AsyncStdEngine {
        let threads = OffloadThreads::new(config.compute_threads_or_cores());
        AsyncStdEngine { running: running.clone(), reactor: reactor.clone(), threads }
    }
}

impl Engine for AsyncStdEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.reactor.sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.reactor.clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        task::spawn(or(self.running.released(), task));
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        EngineStats { workers: crate::threads(), waiting: 0, turns: self.reactor.turns() }
    }
}
