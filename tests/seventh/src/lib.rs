//! A backend that exists for the tests: it shows what a seventh backend of gearshift consists of.
//!
//! # Model
//! All workers run one executor, [`async_executor`]. A task that is ready runs on the next worker that is free. One
//! more thread waits in the reactor, wakes the tasks, and runs none of them.
//!
//! # Cost
//! A request takes one receive and one send. Each wake-up of a task is a hand-over from the thread of the reactor to a
//! worker.
//!
//! # When it stalls
//! When all workers run handlers that block or compute. A single such handler holds one worker, and no connection is
//! tied to it.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use async_executor::Executor;
use gearshift_core::{
    App, Backend, BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Latch, Listener, Report, ServeError,
    Server, Service, Stream, Threads, Work, Workers, backend, latch, lifecycle, park, threads,
};
use gearshift_reactor::{Handle, Reactor, accept};

const NAME: &str = "seventh";

/// One executor on several threads. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Seventh;

impl Backend for Seventh {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "one executor on several threads, for the tests of gearshift"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = SeventhWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The threads of one server.
struct SeventhWorkers {
    engine: SeventhEngine,
    /// Dropping it ends the threads.
    running: latch::Guard,
    threads: Threads,
}

impl SeventhWorkers {
    fn start(server: &Server) -> io::Result<SeventhWorkers> {
        let config = server.config();
        let (threads, latch) = (Threads::new(server), Latch::new());
        let running = latch.guard();
        let executor = Arc::new(Executor::new());
        let workers = config.workers_or_cores();
        for n in 0..workers {
            let (executor, latch) = (executor.clone(), latch.clone());
            threads.spawn(format!("{NAME}-{n}"), move || {
                park::block_on_until(None, executor.run(latch.released()));
                Ok(())
            })?;
        }
        let mut reactor = Reactor::new(config.shortest_timeout())?;
        let handle = reactor.handle().clone();
        threads.spawn(format!("{NAME}-reactor"), move || reactor.block_on(latch.released()))?;
        let pools = Arc::new(threads.offload(config));
        let engine = SeventhEngine { executor: Arc::downgrade(&executor), handle, workers, pools };
        Ok(SeventhWorkers { engine, running, threads })
    }
}

impl Workers for SeventhWorkers {
    fn engine(&self) -> impl Engine {
        self.engine.clone()
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        for listener in listeners {
            let engine = self.engine.clone();
            let begin = move |driving| engine.spawn(Box::pin(driving));
            let accept = accept(&self.engine.handle, listener, service, accepting, begin)?;
            self.engine.spawn(Box::pin(accept));
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        drop(self.running);
        self.threads.join()
    }
}

/// What a handler can ask of this backend.
#[derive(Clone)]
struct SeventhEngine {
    /// Only the workers keep the executor, so that its tasks end with them.
    executor: Weak<Executor<'static>>,
    handle: Handle,
    workers: usize,
    pools: Arc<threads::OffloadThreads>,
}

impl Engine for SeventhEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.handle.sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.handle.clone().connect(to))
    }

    /// The task is dropped if the executor has ended.
    fn spawn(&self, task: BoxFuture<()>) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    fn offload(&self, kind: Work, job: Job) {
        self.pools.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        EngineStats { workers: self.workers, waiting: 0, turns: self.handle.turns() }
    }
}
