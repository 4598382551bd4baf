//! gearshift on a hand-written event loop for each core.
//!
//! **The model.** Each worker is a thread with an epoll of its own, listeners of its own on the shared port
//! (`SO_REUSEPORT`, so that the kernel spreads new connections), and a small executor. A connection stays
//! on the loop that accepted it, and no loop shares anything with another while requests are served. All of it is
//! here, to be read in this order: `run` below, `executor.rs`, `here.rs`, `mailbox.rs`; the readiness and the
//! timers they live on are [`gearshift_reactor`]'s.
//!
//! **The cost.** A request takes one read and one write, and its share of one wait for all connections that became
//! ready together: no allocation, no lock that another thread wants, no timer, no registration. An open connection
//! is one task (its future in one allocation), one slot in the reactor, and no thread.
//!
//! **When it stalls.** A handler that blocks or computes stalls every connection of its loop, those in the loop's own
//! accept queue too; wrap it in [`blocking`](gearshift_core::blocking) or [`compute`](gearshift_core::compute). The
//! kernel spreads connections by hash, not by load: few of them may share one loop while others are idle.

mod executor;
mod here;
mod mailbox;
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

use crate::executor::{Executor, Work};
use crate::mailbox::{Letter, Loops, Mailbox};
use crate::runtime::MioEngine;

const NAME: &str = "mio";

/// One event loop for each worker; see the [crate](self).
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
        let loops = Loops::new(reactors.iter().map(|reactor| Mailbox::new(reactor.handle())).collect());
        let runtime = Runtime::new(MioEngine::new(&loops, &config), &config);

        let ended = Latch::new();
        let failure = Arc::new(Mutex::new(None));
        let stop = StopOnDrop(loops.clone());
        for (n, (reactor, mailbox)) in reactors.into_iter().zip(loops.all()).enumerate() {
            let (mailbox, guard) = (mailbox.clone(), ended.guard());
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            thread::Builder::new().name(format!("{NAME}-{n}")).spawn(move || {
                let _guard = guard;
                let result = catch_unwind(AssertUnwindSafe(|| run(reactor, &mailbox)));
                if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("an event loop panicked")))
                {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    shutdown.force();
                }
            })?;
        }
        let report = supervise(app, config, shutdown, &runtime, |service, guard| {
            for (mailbox, share) in loops.all().iter().zip(shares) {
                for listener in share {
                    accept(mailbox, listener, service, guard())?;
                }
            }
            Ok(())
        });
        drop(stop);
        if park::until(Some(Instant::now() + LAST_WAIT), ended.released()).is_none() {
            log::error!("an event loop is stuck in a handler and was left behind");
        }
        match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
    }
}

/// Runs one event loop until it is told to stop.
fn run(mut reactor: Reactor, mailbox: &Arc<Mailbox>) -> io::Result<()> {
    let mut executor = Executor::enter(mailbox);
    while !mailbox.is_stopped() {
        executor.round();
        reactor.turn(executor.idle_for())?;
    }
    Ok(())
}

/// Has one loop accept from one listener; each connection becomes a task there.
fn accept(mailbox: &Mailbox, listener: Listener, service: &Arc<Service>, guard: Guard) -> io::Result<()> {
    let acceptor = Acceptor::new(mailbox.handle(), listener)?;
    let service = service.clone();
    mailbox.send(Letter::Spawn(Box::pin(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor
            .run(service, move |transport, peer| {
                let wire = Wire::new(transport, peer, &connections);
                here::spawn(Work::Connection(Box::pin(drive(wire, connections.clone()))));
            })
            .await;
    })));
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

/// Has all loops end, also when the server did not come to run.
struct StopOnDrop(Arc<Loops>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.all().iter().for_each(|mailbox| mailbox.stop());
    }
}
