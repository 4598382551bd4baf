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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use gearshift_core::{
    App, Backend, Config, Listener, Report, Runtime, ServeError, Server, Service, Wire, drive,
};
use gearshift_reactor::{Acceptor, Guard, LAST_WAIT, Latch, Reactor, park, supervise};
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
        let loops = Loops::new(
            executors
                .iter()
                .zip(&reactors)
                .map(|(executor, reactor)| Worker::new(executor, reactor.handle())),
        );
        let runtime = Runtime::new(SmolEngine::new(&loops, &config), &config);

        let (running, ended) = (Latch::new(), Latch::new());
        let failure = Arc::new(Mutex::new(None));
        let stop = running.guard();
        for (n, ((reactor, executor), worker)) in
            reactors.into_iter().zip(executors).zip(loops.all()).enumerate()
        {
            let (worker, running, guard) = (worker.clone(), running.clone(), ended.guard());
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            thread::Builder::new().name(format!("{NAME}-{n}")).spawn(move || {
                let _guard = guard;
                let result = catch_unwind(AssertUnwindSafe(|| run(reactor, executor, worker, &running)));
                if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("an executor panicked"))) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    shutdown.force();
                }
            })?;
        }
        let report = supervise(app, config, shutdown, &runtime, |service, guard| {
            for (worker, share) in loops.all().iter().zip(shares) {
                for listener in share {
                    accept(worker, listener, service, guard())?;
                }
            }
            Ok(())
        });
        drop(stop);
        if park::until(Some(Instant::now() + LAST_WAIT), ended.released()).is_none() {
            log::error!("an executor is stuck in a handler and was left behind");
        }
        match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
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

/// Has one worker accept from one listener; each connection becomes a task there.
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

/// A listener of each address for each of `workers`.
fn share(listeners: Vec<Listener>, workers: usize) -> io::Result<Vec<Vec<Listener>>> {
    let mut shares: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (share, sibling) in shares.iter_mut().zip(listener.split(workers)?) {
            share.push(sibling);
        }
    }
    Ok(shares)
}

fn setting(reason: String) -> ServeError {
    ServeError::Setting { backend: NAME, reason }
}
