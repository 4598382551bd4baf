//! gearshift on smol: an executor for each core.
//!
//! # Model
//! Each worker is a thread that runs a smol executor and waits in its own reactor. It has its own listeners on the
//! shared port (`SO_REUSEPORT`), so that the kernel spreads new connections. A Unix or inherited socket has one queue
//! for all workers: a connection goes to the worker that has waited longest. A connection is a task, and stays on the
//! worker that accepted it. Workers share nothing with each other while they serve requests.
//!
//! The executor is smol's. The threads, readiness and timers come from [`gearshift_reactor`], which registers a socket
//! once, where smol's own reactor registers it for each wait. What a handler brings along from smol (timers, sockets,
//! channels) works as it is: smol's own reactor runs on a separate thread, and its wake-ups reach the worker.
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait for all connections that became ready
//! together: 3.0 system calls with one connection, 2.0 to 2.3 with 64. An open connection is one task and one slot in
//! the reactor, and no thread. A timer or socket of smol's own costs a hand-over from the thread of smol's reactor.
//!
//! # When it stalls
//! A handler that blocks or computes stalls every connection of its worker, and the connections in the worker's
//! accept queue. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute). The kernel spreads connections by hash, not by load: a few connections may
//! share one worker while other workers are idle.

use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};

use gearshift_core::{
    App, Backend, BoxFuture, Config, Driving, Latch, Report, ServeError, Server, backend, lifecycle,
};
use gearshift_reactor::{EventLoop, EventLoops, Reactor, ReactorTransport};
use smol::Executor;

const NAME: &str = "smol";

/// One smol executor for each worker. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Smol;

impl Backend for Smol {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "a smol executor for each worker, with its share of the connections"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = server.config().workers_or_cores();
        let loops = EventLoops::start(&server, NAME, workers, |_, running| {
            let (executor, running) = (Arc::new(Executor::new()), running.clone());
            (Worker(Arc::downgrade(&executor)), move |reactor| run(reactor, executor, running))
        })?;
        lifecycle::run(server, app, loops)
    }
}

/// One executor, as other threads see it. Only the worker's thread keeps it, so that the tasks end with the thread.
#[derive(Clone)]
struct Worker(Weak<Executor<'static>>);

impl Worker {
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = self.0.upgrade() {
            executor.spawn(task).detach();
        }
    }
}

impl EventLoop for Worker {
    fn spawn(&self, task: BoxFuture<()>) {
        self.run(task);
    }

    fn drive(&self, connection: Driving<ReactorTransport>) {
        self.run(connection);
    }
}

/// Runs one executor until `running` is released.
fn run(mut reactor: Reactor, executor: Arc<Executor<'static>>, running: Latch) -> io::Result<()> {
    reactor.block_on(executor.run(running.released()))
}
