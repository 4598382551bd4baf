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
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    backend, lifecycle,
};
use gearshift_reactor::{Reactor, accept};

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
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = MioWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The event loops of one server, a thread for each.
struct MioWorkers {
    loops: Arc<Loops>,
    threads: Threads,
    config: Config,
}

impl MioWorkers {
    fn start(server: &Server) -> io::Result<MioWorkers> {
        let config = server.config().clone();
        let reactors = (0..config.workers_or_cores())
            .map(|_| Reactor::new(config.shortest_timeout()))
            .collect::<io::Result<Vec<Reactor>>>()?;
        let loops = Loops::new(reactors.iter().map(|reactor| Mailbox::new(reactor.handle())).collect());
        let threads = Threads::new(server.shutdown());
        let workers = MioWorkers { loops, threads, config };
        for (n, (reactor, mailbox)) in reactors.into_iter().zip(workers.loops.all()).enumerate() {
            let mailbox = mailbox.clone();
            workers.threads.spawn(format!("{NAME}-{n}"), move || run(reactor, &mailbox))?;
        }
        Ok(workers)
    }
}

impl Workers for MioWorkers {
    fn engine(&self) -> impl Engine {
        MioEngine::new(&self.loops, &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let shares = Listener::share(listeners, self.loops.all().len())?;
        for (mailbox, share) in self.loops.all().iter().zip(shares) {
            for listener in share {
                let begin = |driving| here::spawn(Work::Connection(Box::new(driving)));
                let accepting = accept(mailbox.handle(), listener, service, accepting, begin)?;
                mailbox.send(Letter::Spawn(Box::pin(accepting)));
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        self.loops.all().iter().for_each(|mailbox| mailbox.stop());
        self.threads.join()
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
