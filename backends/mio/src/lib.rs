//! gearshift on a hand-written event loop for each core.
//!
//! # Model
//! Each worker is a thread that runs an executor and waits in its own reactor. It has its own listeners on the
//! shared port (`SO_REUSEPORT`), so that the kernel spreads new connections. A connection is a task, and stays on the
//! worker that accepted it. Workers share nothing with each other while they serve requests.
//!
//! The executor is in this crate. Read `run` below, then `executor.rs`, `local.rs` and `worker.rs`. Readiness and
//! timers come from [`gearshift_reactor`].
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait for all connections that became ready
//! together: 3.0 system calls with one connection, 2.0 with 64. It takes no allocation, no lock that another thread
//! wants, no timer and no registration. An open connection is one task, whose future is one allocation, and one slot
//! in the reactor, and no thread.
//!
//! # When it stalls
//! A handler that blocks or computes stalls every connection of its worker, and the connections in the worker's
//! accept queue. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute). The kernel spreads connections by hash, not by load: a few connections may
//! share one worker while other workers are idle.

mod executor;
mod local;
mod runtime;
mod worker;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    backend, lifecycle,
};
use gearshift_reactor::{EventLoop as _, EventLoops, Reactor, accept};

use crate::executor::{Executor, Work};
use crate::runtime::MioEngine;
use crate::worker::Worker;

const NAME: &str = "mio";

/// One event loop for each worker. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Mio;

impl Backend for Mio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "one hand-written event loop for each core, each with its own share of the connections"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = MioWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The event loops of one server. Each runs on a thread.
struct MioWorkers {
    workers: Arc<EventLoops<Worker>>,
    threads: Threads,
    config: Config,
}

impl MioWorkers {
    fn start(server: &Server) -> io::Result<MioWorkers> {
        let config = server.config().clone();
        let reactors = (0..config.workers_or_cores())
            .map(|_| Reactor::new(config.shortest_timeout()))
            .collect::<io::Result<Vec<Reactor>>>()?;
        let workers = EventLoops::new(reactors.iter().map(|reactor| Worker::new(reactor.handle())).collect());
        let threads = Threads::new(server.shutdown());
        for (n, (reactor, worker)) in reactors.into_iter().zip(workers.all()).enumerate() {
            let worker = worker.clone();
            threads.spawn(format!("{NAME}-{n}"), move || run(reactor, &worker))?;
        }
        Ok(MioWorkers { workers, threads, config })
    }
}

impl Workers for MioWorkers {
    fn engine(&self) -> impl Engine {
        MioEngine::new(&self.workers, &self.config)
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
                let begin = |driving| local::spawn(Work::Connection(Box::new(driving)));
                worker.spawn(Box::pin(accept(worker.handle(), listener, service, accepting, begin)?));
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        self.workers.all().iter().for_each(Worker::stop);
        self.threads.join()
    }
}

/// Runs one event loop until the server ends.
fn run(mut reactor: Reactor, worker: &Worker) -> io::Result<()> {
    let mut executor = Executor::enter(worker);
    while !worker.is_stopped() {
        executor.round();
        reactor.turn(executor.idle_for())?;
    }
    Ok(())
}
