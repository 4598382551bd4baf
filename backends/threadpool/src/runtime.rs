//! The engine of this backend: timers, connections, tasks and pools for the application.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::Background;

use crate::NAME;
use crate::pool::Pool;

/// The engine of one server.
pub(crate) struct ThreadPoolEngine {
    pool: Arc<Pool>,
    background: Background,
    /// The pools for jobs of background tasks. The jobs of a handler run on the thread of the handler.
    threads: OffloadThreads,
}

impl ThreadPoolEngine {
    pub(crate) fn new(
        pool: &Arc<Pool>,
        background: &Background,
        threads: OffloadThreads,
    ) -> ThreadPoolEngine {
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
        let hold = Hold::new(&self.pool);
        self.background.spawn(async move {
            task.await;
            drop(hold);
        });
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn threads_block(&self) -> bool {
        true
    }

    fn wait_outside(&self, wait: &mut dyn FnMut()) {
        let _hold = Hold::new(&self.pool);
        wait();
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            workers: self.pool.threads(),
            waiting: self.pool.waiting(),
            turns: self.pool.handle().turns(),
        }
    }
}

/// Counts a background task, or a wait of a thread of the application, until it is dropped. Both may wait for events of
/// the reactor.
struct Hold(Arc<Pool>);

impl Hold {
    fn new(pool: &Arc<Pool>) -> Hold {
        pool.hold();
        Hold(pool.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}
