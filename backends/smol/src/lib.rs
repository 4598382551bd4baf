//! gearshift on smol: an executor for each core.
//!
//! # Model
//! Each worker is a thread that runs a smol executor and waits in its own reactor. It has its own listeners on
//! the shared port (`SO_REUSEPORT`), so that the kernel spreads new connections. A connection is a task, and stays on
//! the worker that accepted it.
//!
//! The executor is smol's. Read `run` below, then `worker.rs`. Readiness and timers come from [`gearshift_reactor`],
//! which registers a socket once, where smol's own reactor registers it for each wait. What a handler brings along
//! from smol (timers, sockets, channels) works as it is: smol's own reactor runs on a separate thread, and its
//! wake-ups reach the worker.
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait for all connections that became ready
//! together: 3.0 system calls with one connection, 2.0 with 64. An open connection is one task and one slot in the
//! reactor, and no thread. A timer or socket of smol's own costs a hand-over from the thread of smol's reactor.
//!
//! # When it stalls
//! A handler that blocks or computes stalls every connection of its worker, and the connections in the worker's
//! accept queue. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute). The kernel spreads connections by hash, not by load: a few connections may
//! share one worker while other workers are idle.

mod runtime;
mod worker;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    backend, latch, lifecycle,
};
use gearshift_reactor::{EventLoop as _, EventLoops, Reactor, accept};
use smol::Executor;

use crate::runtime::SmolEngine;
use crate::worker::Worker;

const NAME: &str = "smol";

/// One smol executor for each worker. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Smol;

impl Backend for Smol {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "one smol executor for each core, each with its own share of the connections"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = SmolWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The executors of one server. Each runs on a thread.
struct SmolWorkers {
    workers: Arc<EventLoops<Worker>>,
    /// Dropping it ends the executors.
    running: latch::Guard,
    threads: Threads,
    config: Config,
}

impl SmolWorkers {
    fn start(server: &Server) -> io::Result<SmolWorkers> {
        let config = server.config().clone();
        let reactors = (0..config.workers_or_cores())
            .map(|_| Reactor::new(config.shortest_timeout()))
            .collect::<io::Result<Vec<Reactor>>>()?;
        let executors: Vec<_> = reactors.iter().map(|_| Arc::new(Executor::new())).collect();
        let each = executors.iter().zip(&reactors);
        let workers = EventLoops::new(
            each.map(|(executor, reactor)| Worker::new(executor, reactor.handle())).collect(),
        );
        let (threads, latch) = (Threads::new(server.shutdown()), Latch::new());
        let running = latch.guard();
        for (n, (reactor, executor)) in reactors.into_iter().zip(executors).enumerate() {
            let (worker, latch) = (workers.all()[n].clone(), latch.clone());
            threads.spawn(format!("{NAME}-{n}"), move || run(reactor, executor, worker, &latch))?;
        }
        Ok(SmolWorkers { workers, running, threads, config })
    }
}

impl Workers for SmolWorkers {
    fn engine(&self) -> impl Engine {
        SmolEngine::new(&self.workers, &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let shares = Listener::share(listeners, self.workers.all().len())?;
        for (worker, share) in self.workers.all().iter().zip(shares) {
            for listener in share {
                let home = worker.clone();
                let begin = move |driving| home.spawn(driving);
                worker.spawn(accept(worker.handle(), listener, service, accepting, begin)?);
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        drop(self.running);
        self.threads.join()
    }
}

/// Runs one executor until the server ends.
fn run(
    mut reactor: Reactor,
    executor: Arc<Executor<'static>>,
    worker: Worker,
    running: &Latch,
) -> io::Result<()> {
    let _entered = worker.enter();
    reactor.block_on(executor.run(running.released()))
}
