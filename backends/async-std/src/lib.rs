//! gearshift on async-std, whose upstream is discontinued.
//!
//! **Discontinued.** async-std has had no maintainer since March 2025 (RUSTSEC-2025-0052), and points to smol. This
//! backend is for applications that have code for it; new ones are better off with the smol backend.
//!
//! **The model.** async-std has one executor for the whole process, whose threads take tasks from each other; its
//! thread count is not ours to choose but comes from `ASYNC_STD_THREAD_COUNT`, or the number of cores. A connection
//! is a task there, and moves between threads as the load does. There is one listener for each address.
//!
//! Connections are not on async-io's reactor, which registers a socket anew for each wait: they are on one
//! [`gearshift_reactor`], and it is this one poller that waits inside async-io. One task, the same as in the smol
//! backend, asks it for readiness between the rounds of the executor, and waits when there is none.
//!
//! **The cost.** A request takes one read and one write, and its share of one look at what became ready; when there is
//! nothing to do, some five system calls to wait inside async-io. Tasks change threads, so that a request also
//! pays for cache misses that the smol and mio backends do not have. An open connection is one task and one slot
//! in the reactor, and no thread.
//!
//! **When it stalls.** A handler that blocks or computes occupies one thread of the executor, and the connections go
//! on with the others; as many such handlers as there are threads stall all of them, and whatever else in the
//! process is on async-std. Wrap them in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute).

mod runtime;

use std::io;
use std::sync::Arc;

use async_std::task;
use futures_lite::future::or;
use gearshift_core::config::cores;
use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    backend, latch, lifecycle,
};
use gearshift_reactor::{Handle, Reactor, accept, turn_forever};

use crate::runtime::AsyncStdEngine;

const NAME: &str = "async-std";
/// What async-std takes its number of threads from.
const THREADS: &str = "ASYNC_STD_THREAD_COUNT";

/// async-std's executor; see the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

impl Backend for AsyncStd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "async-std's one executor, whose threads share all connections (discontinued upstream, RUSTSEC-2025-0052)"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)?;
        match config.workers {
            Some(workers) if workers != threads() => Err(ServeError::Setting {
                backend: NAME,
                reason: format!(
                    "takes its number of workers from the environment: set {THREADS}={workers} (it would be {} now)",
                    threads()
                ),
            }),
            _ => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = AsyncStdWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The part of one server in the executor of the process.
struct AsyncStdWorkers {
    handle: Handle,
    running: Latch,
    /// Dropped, it has the tasks of the server end.
    stop: latch::Guard,
    threads: Threads,
    config: Config,
}

impl AsyncStdWorkers {
    fn start(server: &Server) -> io::Result<AsyncStdWorkers> {
        let config = server.config().clone();
        let reactor = Reactor::new(config.shortest_timeout())?;
        let (handle, running) = (reactor.handle().clone(), Latch::new());
        let (stop, threads) = (running.guard(), Threads::new(server.shutdown()));
        let (watch, turning) = (threads.watch(), running.clone());
        task::spawn(async move { watch.ended(run(reactor, &turning).await) });
        Ok(AsyncStdWorkers { handle, running, stop, threads, config })
    }
}

impl Workers for AsyncStdWorkers {
    fn engine(&self) -> impl Engine {
        AsyncStdEngine::new(&self.running, &self.handle, &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        for listener in listeners {
            let begin = |driving| drop(task::spawn(driving));
            task::spawn(accept(&self.handle, listener, service, accepting, begin)?);
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        drop(self.stop);
        self.threads.join()
    }
}

/// Turns the reactor until it is told to stop.
async fn run(reactor: Reactor, running: &Latch) -> io::Result<()> {
    or(turn_forever(reactor), async {
        running.released().await;
        Ok(())
    })
    .await
}

/// How many threads async-std's executor has, or would have if it started now.
fn threads() -> usize {
    let set = std::env::var(THREADS).ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(cores).max(1)
}
