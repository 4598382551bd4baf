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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_std::task;
use futures_lite::future::or;
use gearshift_core::config::cores;
use gearshift_core::{
    App, Backend, Config, Listener, Report, Runtime, ServeError, Server, Service, Wire, drive,
};
use gearshift_reactor::{Acceptor, Guard, Handle, LAST_WAIT, Latch, Reactor, park, supervise, turn_forever};

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
        if config.threads.is_some() {
            return Err(setting(
                "has event loops (`workers`), no pool of threads: `threads` cannot be set".into(),
            ));
        }
        match config.workers {
            Some(workers) if workers != threads() => Err(setting(format!(
                "takes its number of workers from the environment: set {THREADS}={workers} (it would be {} now)",
                threads()
            ))),
            _ => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let (listeners, config, shutdown) = server.into_parts();
        let reactor = Reactor::new(config.shortest_timeout())?;
        let handle = reactor.handle().clone();
        let (running, ended) = (Latch::new(), Latch::new());
        let runtime = Runtime::new(AsyncStdEngine::new(&running, &handle, &config), &config);

        let failure = Arc::new(Mutex::new(None));
        let stop = running.guard();
        task::spawn({
            let guard = ended.guard();
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            async move {
                let _guard = guard;
                if let Err(error) = run(reactor, &running).await {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    shutdown.force();
                }
            }
        });
        let report = supervise(app, config, shutdown, &runtime, |service, guard| {
            for listener in listeners {
                accept(&handle, listener, service, guard())?;
            }
            Ok(())
        });
        drop(stop);
        if park::until(Some(Instant::now() + LAST_WAIT), ended.released()).is_none() {
            log::error!("the executor is stuck in handlers and was left behind");
        }
        match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
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

/// Accepts from one listener; each connection becomes a task.
fn accept(handle: &Handle, listener: Listener, service: &Arc<Service>, guard: Guard) -> io::Result<()> {
    let acceptor = Acceptor::new(handle, listener)?;
    let service = service.clone();
    task::spawn(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor
            .run(service, move |transport, peer| {
                let wire = Wire::new(transport, peer, &connections);
                task::spawn(drive(wire, connections.clone()));
            })
            .await;
    });
    Ok(())
}

/// How many threads async-std's executor has, or would have if it started now.
fn threads() -> usize {
    let set = std::env::var(THREADS).ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(cores).max(1)
}

fn setting(reason: String) -> ServeError {
    ServeError::Setting { backend: NAME, reason }
}
