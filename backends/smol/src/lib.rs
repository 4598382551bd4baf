//! gearshift on smol: an executor for each core.
//!
//! # Model
//! Each worker is a thread that runs a smol executor and waits in a reactor of its own. It has listeners of its own on
//! the shared port (`SO_REUSEPORT`), so that the kernel spreads new connections. A connection is a task, and stays on
//! the worker that accepted it.
//!
//! The executor is smol's. Read `run` below, then `worker.rs`. Readiness and timers come from [`gearshift_reactor`],
//! which registers a socket once, where smol's own reactor registers it for each wait. What a handler brings along
//! from smol (timers, sockets, channels) works as it is: smol's own reactor runs on a thread of its own, and its
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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use gearshift_core::{
    App, Backend, Config, Listener, Report, Runtime, ServeError, Server, Service, Wire, drive,
};
use gearshift_reactor::{
    Acceptor, Guard, LAST_WAIT, Latch, Reactor, Worker as _, Workers, lock, park, share, supervise,
};
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
        match config.threads {
            Some(_) => Err(setting(
                "has event loops (`workers`), no pool of threads: `threads` cannot be set".into(),
            )),
            None => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let (listeners, config, shutdown) = server.into_parts();
        let shares = share(listeners, config.workers_or_cores())?;
        let reactors = shares
            .iter()
            .map(|_| Reactor::new(config.shortest_timeout()))
            .collect::<io::Result<Vec<Reactor>>>()?;
        let executors: Vec<_> = shares.iter().map(|_| Arc::new(Executor::new())).collect();
        let each = executors.iter().zip(&reactors);
        let workers =
            Workers::new(each.map(|(executor, reactor)| Worker::new(executor, reactor.handle())).collect());
        let runtime = Runtime::new(SmolEngine::new(&workers, &config), &config);

        let (running, ended) = (Latch::new(), Latch::new());
        let failure = Arc::new(Mutex::new(None));
        let stop = running.guard();
        for (n, ((reactor, executor), worker)) in
            reactors.into_iter().zip(executors).zip(workers.all()).enumerate()
        {
            let (worker, running, guard) = (worker.clone(), running.clone(), ended.guard());
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            thread::Builder::new().name(format!("{NAME}-{n}")).spawn(move || {
                let _guard = guard;
                let result = catch_unwind(AssertUnwindSafe(|| run(reactor, executor, worker, &running)));
                if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("an executor panicked"))) {
                    *lock(&failure) = Some(error);
                    shutdown.force();
                }
            })?;
        }
        let report = supervise(app, config, shutdown, &runtime, |service, guard| {
            for (worker, share) in workers.all().iter().zip(shares) {
                for listener in share {
                    accept(worker, listener, service, guard())?;
                }
            }
            Ok(())
        });
        drop(stop);
        if park::until(Some(Instant::now() + LAST_WAIT), ended.released()).is_none() {
            log::error!("a handler blocks an executor, which was left behind");
        }
        match lock(&failure).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
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

/// Makes a worker accept from a listener. Each connection becomes a task of that worker.
fn accept(worker: &Worker, listener: Listener, service: &Arc<Service>, guard: Guard) -> io::Result<()> {
    let acceptor = Acceptor::new(worker.handle(), listener)?;
    let service = service.clone();
    let home = worker.clone();
    worker.spawn(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor
            .run(service, move |transport, peer| {
                let wire = Wire::new(transport, peer, &connections);
                home.spawn(drive(wire, connections.clone()));
            })
            .await;
    });
    Ok(())
}

fn setting(reason: String) -> ServeError {
    ServeError::Setting { backend: NAME, reason }
}
