//! gearshift on a hand-written event loop for each core.
//!
//! # Model
//! Each worker is a thread that runs an executor and waits in its own reactor. It has its own listeners on the shared
//! port (`SO_REUSEPORT`), so that the kernel spreads new connections. A Unix or inherited socket has one queue for all
//! workers: a connection goes to the worker that has waited longest. A connection is a task, and stays on the worker
//! that accepted it. Workers share nothing with each other while they serve requests.
//!
//! The executor is in this crate. Read `run` below, then `executor.rs` and `worker.rs`. The threads, readiness and
//! timers come from [`gearshift_reactor`].
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait for all connections that became ready
//! together: 3.0 system calls with one connection, 2.0 to 2.3 with 64. An open connection is one task and one slot in
//! the reactor, and no thread.
//!
//! # When it stalls
//! A handler that blocks or computes stalls every connection of its worker, and the connections in the worker's
//! accept queue. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute). The kernel spreads connections by hash, not by load: a few connections may
//! share one worker while other workers are idle.

mod executor;
#[cfg(all(test, gearshift_model))]
mod model_checks;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gearshift_core::{App, Backend, Config, Latch, Report, ServeError, Server, backend, lifecycle};
use gearshift_reactor::{EventLoop as _, EventLoops, Reactor};

use crate::executor::Executor;
use crate::worker::{CommandQueue, Worker};

const NAME: &str = "mio";

/// One event loop for each worker. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Mio;

impl Backend for Mio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "a hand-written event loop for each worker, with its share of the connections"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = server.config().workers_or_cores();
        let loops = EventLoops::start(&server, NAME, workers, |handle, running| {
            let (queue, running) = (CommandQueue::new(handle), running.clone());
            (Worker::of(&queue), move |reactor| run(reactor, queue, running))
        })?;
        lifecycle::run(server, app, loops)
    }
}

/// Runs one event loop until `running` is released.
fn run(mut reactor: Reactor, queue: Arc<CommandQueue>, running: Latch) -> io::Result<()> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let stopping = is_stopped.clone();
    Worker::of(&queue).spawn(Box::pin(async move {
        running.released().await;
        stopping.store(true, Ordering::Relaxed);
    }));
    let mut executor = Executor::enter(queue);
    // The round comes last, so that no turn waits after the task has ended.
    while !is_stopped.load(Ordering::Relaxed) {
        reactor.turn(executor.idle_for())?;
        executor.round();
    }
    Ok(())
}
