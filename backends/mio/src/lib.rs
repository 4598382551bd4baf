//! gearshift on a hand-written event loop for each core.
//!
//! # Model
//! Each worker is a thread that runs an executor and waits in a reactor of its own. It has listeners of its own on the
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
        let workers = Workers::new(reactors.iter().map(|reactor| Worker::new(reactor.handle())).collect());
        let runtime = Runtime::new(MioEngine::new(&workers, &config), &config);

        let ended = Latch::new();
        let failure = Arc::new(Mutex::new(None));
        let stop = StopOnDrop(workers.clone());
        for (n, (reactor, worker)) in reactors.into_iter().zip(workers.all()).enumerate() {
            let (worker, guard) = (worker.clone(), ended.guard());
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            thread::Builder::new().name(format!("{NAME}-{n}")).spawn(move || {
                let _guard = guard;
                let result = catch_unwind(AssertUnwindSafe(|| run(reactor, &worker)));
                if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("an event loop panicked")))
                {
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
            log::error!("a handler blocks an event loop, which was left behind");
        }
        match lock(&failure).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
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

/// Makes a worker accept from a listener. Each connection becomes a task of that worker.
fn accept(worker: &Worker, listener: Listener, service: &Arc<Service>, guard: Guard) -> io::Result<()> {
    let acceptor = Acceptor::new(worker.handle(), listener)?;
    let service = service.clone();
    worker.spawn(Box::pin(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor
            .run(service, move |transport, peer| {
                let wire = Wire::new(transport, peer, &connections);
                local::spawn(Work::Connection(Box::pin(drive(wire, connections.clone()))));
            })
            .await;
    }));
    Ok(())
}

/// Ends all event loops, on every path out of `serve`.
struct StopOnDrop(Arc<Workers<Worker>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.all().iter().for_each(Worker::stop);
    }
}

fn setting(reason: String) -> ServeError {
    ServeError::Setting { backend: NAME, reason }
}
