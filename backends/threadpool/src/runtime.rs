//! What a handler may ask of this backend.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use gearshift_core::threads::Threads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::Background;

use crate::NAME;
use crate::pool::Pool;

/// The threads of one server, as its application sees them.
pub(crate) struct ThreadPoolEngine {
    pool: Arc<Pool>,
    background: Background,
    /// For jobs of background tasks. Jobs of handlers run in place.
    threads: Threads,
}

impl ThreadPoolEngine {
    pub(crate) fn new(pool: &Arc<Pool>, background: &Background, config: &Config) -> ThreadPoolEngine {
        let threads = Threads::new(config.compute_threads_or_cores());
        ThreadPoolEngine { pool: pool.clone(), background: background.clone(), threads }
    }
}

impl Engine for ThreadPoolEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.pool.handle().sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.pool.handle().clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        let holds = Holds::new(&self.pool);
        self.background.spawn(async move {
            task.await;
            drop(holds);
        });
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn threads_block(&self) -> bool {
        true
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            workers: self.pool.threads(),
            waiting: self.pool.waiting(),
            turns: self.pool.handle().turns(),
        }
    }
}

/// A background task that has not ended may wait for the reactor.
struct Holds(Arc<Pool>);

impl Holds {
    fn new(pool: &Arc<Pool>) -> Holds {
        pool.hold();
        Holds(pool.clone())
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        self.0.release();
    }
}
