//! gearshift on [tokio](https://docs.rs/tokio): tasks on a work-stealing scheduler, or on an event loop for each
//! core.
//!
//! # The model
//! Each connection is a task for life. [`Tokio::work_stealing`] runs all of them on one runtime, whose threads
//! take tasks from each other when they have none of their own. [`Tokio::per_core`] gives each thread a runtime
//! and, where the kernel can spread connections (`SO_REUSEPORT`), a listener of its own; a connection stays where
//! it was accepted. With one worker the two are the same thing, and are run as the second, since nobody is there
//! to steal from.
//!
//! # What it costs
//! A connection costs a task and a registration with the reactor; while it is idle it holds no buffer, and its
//! one timer is touched when it fires, not for each request. A request costs one `recv` and one `send`, and its
//! share of an `epoll_wait`; a work-stealing scheduler adds the wake-ups of threads that look for work.
//!
//! # When it stalls
//! A handler that blocks or burns CPU holds up every connection of its thread, and those that wait for the
//! reactor if it is that thread's turn to poll it. Stealing hides one such handler, not as many as there are
//! threads. [`Runtime::blocking`] takes it to tokio's own blocking threads, [`Runtime::compute`] to a pool with a
//! thread for each core.
//!
//! Handlers run inside the runtime, so that libraries which insist on tokio work as they are.

mod accept;
mod runtime;
mod socket;
mod transport;
mod workers;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use gearshift_core::backend::OnStop;
use gearshift_core::{
    App, Backend, BoxError, Config, Handler, Listener, Report, Runtime, ServeError, Server,
};
use gearshift_core::{Phase, Service};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use accept::Acceptor;
use runtime::TokioEngine;
use workers::Workers;

/// The name this backend is selected by.
const NAME: &str = "tokio";

/// How long what was forced to end gets to do so.
const ENDING: Duration = Duration::from_secs(1);

/// The tokio backend; see the [crate](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokio {
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    WorkStealing,
    PerCore,
}

impl Tokio {
    /// One runtime, whose threads share all connections. The default.
    pub const fn work_stealing() -> Tokio {
        Tokio { shape: Shape::WorkStealing }
    }

    /// A runtime for each thread; a connection stays on the thread that accepted it.
    pub const fn per_core() -> Tokio {
        Tokio { shape: Shape::PerCore }
    }

    fn workers(self, config: &Config) -> io::Result<Workers> {
        let (n, blocking) = (config.workers_or_cores(), config.blocking_threads);
        match self.shape {
            Shape::WorkStealing if n > 1 => Workers::stealing(n, blocking),
            _ => Workers::per_core(n, blocking),
        }
    }
}

impl Backend for Tokio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        match self.shape {
            Shape::WorkStealing => "tasks on tokio's work-stealing threads",
            Shape::PerCore => "tasks on a tokio event loop for each core",
        }
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        match config.threads {
            None => Ok(()),
            Some(_) => Err(ServeError::Setting {
                backend: NAME,
                reason: "has no pool of request threads to set the size of; set the number of workers".into(),
            }),
        }
    }

    /// Blocks the calling thread, which only waits; everything runs on threads of this backend's own.
    ///
    /// # Panics
    /// On a thread that is inside a tokio runtime.
    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = self.workers(server.config())?;
        let control = Builder::new_current_thread().enable_time().build()?;
        control.block_on(run(server, app, workers.handles()))
    }
}

/// A server's life, seen from a thread that no handler can hold up.
async fn run(server: Server, app: App, handles: Vec<Handle>) -> Result<Report, ServeError> {
    let (listeners, config, shutdown) = server.into_parts();
    let grace = config.graceful_timeout;
    let (phases, mut phase) = watch::channel(Phase::Running);
    let _subscription = shutdown.subscribe(move |phase| {
        phases.send_replace(phase);
    });
    let runtime = Runtime::new(TokioEngine::new(handles.clone(), &config), &config);

    let mut starting = handles[0].spawn(start(app, runtime.clone()));
    let started = future::or(async { Some((&mut starting).await) }, async {
        reached(&mut phase, Phase::Graceful).await;
        None
    });
    let (handler, on_stop) = match started.await {
        Some(Ok(started)) => started.map_err(ServeError::Start)?,
        Some(Err(panic)) => return Err(ServeError::Start(panic.into())),
        None => {
            starting.abort();
            return Ok(Report::default());
        }
    };

    let service = Service::new(handler, config, shutdown.clone(), runtime.clone());
    let accepting = accept_on_all(listeners, &handles, &service, &phase)?;
    reached(&mut phase, Phase::Graceful).await;

    let deadline = Instant::now() + grace;
    let mut closing = pin!(async {
        for acceptor in accepting {
            let _ = acceptor.await;
        }
        service.connections_until(|open| open == 0).await;
    });
    if !within_grace(closing.as_mut(), &mut phase, deadline).await {
        shutdown.force();
        let _ = timeout(ENDING, closing).await;
    }
    let mut stopping = handles[0].spawn(async move {
        on_stop.run().await;
        runtime.tasks_ended().await;
    });
    if !within_grace(&mut stopping, &mut phase, deadline).await && timeout(ENDING, stopping).await.is_err() {
        log::warn!(
            "what the application does at its end, or in the background, has not ended and is dropped"
        );
    }
    Ok(service.report())
}

/// Starts the application, inside the runtime that will run it.
async fn start(app: App, runtime: Runtime) -> Result<(Arc<dyn Handler>, OnStop), BoxError> {
    let (starting, on_stop) = app.into_parts(runtime);
    Ok((starting.await?, on_stop))
}

/// Accepts on every listener; where there are many runtimes, on each of them.
fn accept_on_all(
    listeners: Vec<Listener>,
    handles: &[Handle],
    service: &Arc<Service>,
    phase: &watch::Receiver<Phase>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut accepting = Vec::new();
    for listener in listeners {
        for (listener, handle) in listener.split(handles.len())?.into_iter().zip(handles) {
            let _entered = handle.enter();
            let acceptor = Acceptor::new(listener, service.clone())?;
            accepting.push(tokio::spawn(acceptor.run(phase.clone())));
        }
    }
    Ok(accepting)
}

/// Waits for shutdown to come as far as `phase`.
async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    // It fails once nobody can ask for a stop any more, and then there is nothing to go on for.
    let _ = phases.wait_for(|now| *now >= phase).await;
}

/// Waits for `ending` until `deadline`, or until shutdown is forced; says whether it came first.
async fn within_grace(
    ending: impl Future<Output: Sized>,
    phases: &mut watch::Receiver<Phase>,
    deadline: Instant,
) -> bool {
    let ended = async {
        ending.await;
        true
    };
    let over = async {
        let _ = timeout_at(deadline.into(), reached(phases, Phase::Forced)).await;
        false
    };
    future::or(ended, over).await
}
