//! What a handler can ask of this backend.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::{EventLoop as _, EventLoops};

use crate::NAME;
use crate::worker::Worker;

/// The executors of one server, as its application sees them.
pub(crate) struct SmolEngine {
    workers: Arc<EventLoops<Worker>>,
    threads: OffloadThreads,
}

impl SmolEngine {
    pub(crate) fn new(workers: &Arc<EventLoops<Worker>>, config: &Config) -> SmolEngine {
        SmolEngine {
            workers: workers.clone(),
            threads: OffloadThreads::new(config.compute_threads_or_cores()),
        }
    }

    /// The worker for what the calling thread begins.
    fn home(&self) -> Worker {
        self.workers.home(Worker::current())
    }
}

impl Engine for SmolEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.home().handle().sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.home().handle().clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.home().spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        self.workers.stats()
    }
}
