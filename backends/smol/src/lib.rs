//! gearshift on smol: an executor for each core.
//!
//! **The model.** Each worker is a thread that runs a smol executor of its own inside `smol::block_on`, with listeners
//! of its own on the shared port. A connection is a task, and stays with the executor of the worker that accepted it.
//! What a handler brings along from smol's world (timers, sockets, channels) works as it is: its wakers lead back here.
//!
//! Connections are not on async-io's reactor, which registers a socket anew for each wait: they are on a
//! [`gearshift_reactor`] of the worker, and it is this one poller that waits inside async-io. One task, the same as in
//! the async-std backend, asks it for readiness between the rounds of the executor, and waits when there is none.
//!
//! **The cost.** A request takes one read and one write, and its share of one look at what became ready; when the
//! worker has nothing to do, some five system calls to wait inside async-io. An open connection is one task and
//! one slot in the reactor, and no thread.
//!
//! **When it stalls.** A handler that blocks or computes stalls every connection of its worker; wrap it in
//! [`blocking`](gearshift_core::blocking) or [`compute`](gearshift_core::compute). The kernel spreads connections by
//! hash, not by load: few of them may share one worker while others are idle.

mod runtime;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    backend, latch, lifecycle,
};
use gearshift_reactor::{Reactor, accept};
use smol::Executor;

use crate::runtime::{Loops, SmolEngine, Worker};

const NAME: &str = "smol";

/// One smol executor for each worker; see the [crate](self).
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

/// The executors of one server, a thread for each.
struct SmolWorkers {
    loops: Arc<Loops>,
    /// Dropped, it has the executors end.
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
        let pairs = executors.iter().zip(&reactors);
        let loops = Loops::new(pairs.map(|(executor, reactor)| Worker::new(executor, reactor.handle())));
        let (running, threads) = (Latch::new(), Threads::new(server.shutdown()));
        let workers = SmolWorkers { loops, running: running.guard(), threads, config };
        for (n, (reactor, executor)) in reactors.into_iter().zip(executors).enumerate() {
            let (worker, running) = (workers.loops.all()[n].clone(), running.clone());
            let run = move || run(reactor, executor, worker, &running);
            workers.threads.spawn(format!("{NAME}-{n}"), run)?;
        }
        Ok(workers)
    }
}

impl Workers for SmolWorkers {
    fn engine(&self) -> impl Engine {
        SmolEngine::new(&self.loops, &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let shares = Listener::share(listeners, self.loops.all().len())?;
        for (worker, share) in self.loops.all().iter().zip(shares) {
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

/// Runs one executor until it is told to stop.
fn run(
    mut reactor: Reactor,
    executor: Arc<Executor<'static>>,
    worker: Worker,
    running: &Latch,
) -> io::Result<()> {
    let _here = worker.enter();
    reactor.block_on(executor.run(running.released()))
}
