//! The lifecycle of a server: start, serve, drain and stop, equal on every backend.
//!
//! | state | begins when | action |
//! | --- | --- | --- |
//! | starting | `serve` is called | the application's start runs; connections wait in the kernel's queue |
//! | serving | the application has started | connections are accepted and driven |
//! | draining | [`Shutdown::graceful`] | the connections in the kernel's queue are accepted, then the listeners close; idle connections close; requests in flight are answered, the last of each connection with `Connection: close` |
//! | cut | the end of the grace period, or [`Shutdown::force`] | connections are closed; the futures of handlers are dropped |
//! | stopping | no connection is open, or the open ones have not ended within [`LAST_WAIT`] | the application's `on_stop` runs; background tasks get the rest of the grace period |
//! | stopped | `on_stop` and the tasks have ended, or the time is over | the backend's threads end; a thread that a handler holds is left behind |
//!
//! The grace period ([`Config::graceful_timeout`](crate::Config::graceful_timeout)) is one deadline for all states from
//! draining on. After it, connections, `on_stop` and threads get up to [`LAST_WAIT`] each to end. The thread that runs
//! the lifecycle only waits, so a handler that holds a worker does not delay the stop.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::conn::service::Service;
use crate::runtime::clock::Clock;
use crate::runtime::handle::{Engine, Runtime, before};
use crate::runtime::latch::Latch;
use crate::runtime::park::block_on_until;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::task::{TaskError, lock};
use crate::server::backend::{App, Report, ServeError, Server};
use crate::server::listener::Listener;

/// Time that connections, `on_stop` and threads get to end after the grace period.
pub const LAST_WAIT: Duration = Duration::from_secs(1);

/// The threads of a backend, which run the tasks and connections of one server.
pub trait Workers {
    /// Returns the engine of the application's [`Runtime`].
    fn engine(&self) -> impl Engine;

    /// Makes the threads accept connections from `listeners` and drive them, until the server stops. Each task that
    /// accepts holds a guard of `accepting`. The call does not wait for connections.
    ///
    /// # Errors
    /// The system refuses a resource, such as the registration of a listener.
    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()>;

    /// Ends the threads and drops the remaining tasks.
    ///
    /// # Errors
    /// The error of a thread that has failed.
    fn stop(self) -> io::Result<()>;
}

/// Runs a server on threads that are running already; see the table in the [module](self). The call blocks until the
/// server has stopped.
///
/// # Errors
/// [`ServeError::Start`] if the application did not start, [`ServeError::System`] if a thread failed or the system
/// refused a resource.
pub fn run(server: Server, app: App, mut workers: impl Workers) -> Result<Report, ServeError> {
    let served = serve(server, app, &mut workers);
    let stopped = workers.stop();
    let report = served?;
    stopped?;
    Ok(report)
}

fn serve(server: Server, app: App, workers: &mut impl Workers) -> Result<Report, ServeError> {
    let (listeners, config, shutdown) = server.into_parts();
    let grace = config.graceful_timeout;
    let runtime = Runtime::new(workers.engine(), &config, shutdown.clone());

    // Starting.
    let parts = catch_unwind(AssertUnwindSafe(|| app.into_parts(runtime.clone())));
    let Ok((start, on_stop)) = parts else { return Err(ServeError::Start(TaskError::Panicked.into())) };
    let mut start = runtime.spawn(start);
    let started =
        block_on_until(None, before(&mut start, shutdown.reached(Phase::Graceful))).flatten().or_else(|| {
            block_on_until(end_of(grace), before(&mut start, shutdown.reached(Phase::Forced))).flatten()
        });
    let handler = match started {
        Some(Ok(started)) => started.map_err(ServeError::Start)?,
        Some(Err(error)) => return Err(ServeError::Start(error.into())),
        None => {
            log::warn!("the application was still starting when it was time to stop");
            start.cancel();
            return Ok(Report::default());
        }
    };

    // Serving.
    let service = Service::new(handler, config, shutdown.clone(), runtime.clone(), Clock::System);
    let accepting = Latch::new();
    workers.accept(listeners, &service, &accepting)?;
    block_on_until(None, shutdown.reached(Phase::Graceful));

    // Draining.
    let deadline = end_of(grace);
    let drained = async {
        accepting.released().await;
        service.connections_until(|open| open == 0).await;
    };
    let in_time = block_on_until(deadline, before(drained, shutdown.reached(Phase::Forced))).flatten();

    // Cut.
    if in_time.is_none() {
        shutdown.force();
        block_on_until(end_of(LAST_WAIT), service.connections_until(|open| open == 0));
    }
    let deadline = match shutdown.phase() {
        Phase::Forced => end_of(Duration::ZERO),
        _ => deadline,
    };

    // Stopping.
    let stopping = runtime.spawn(on_stop);
    let at_least = end_of(LAST_WAIT);
    match block_on_until(deadline.map(|at| at.max(at_least.unwrap_or(at))), stopping) {
        Some(Ok(())) | Some(Err(TaskError::Panicked)) => {}
        _ => log::warn!("the application did not stop in time"),
    }
    block_on_until(deadline, runtime.tasks_ended());
    match runtime.tasks() {
        0 => {}
        tasks => log::warn!("{tasks} background tasks were still running"),
    }
    Ok(Report::of(&service))
}

/// Returns the instant `after` from now; `None` if the clock cannot represent it.
fn end_of(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

/// The running threads of a backend, for [`Workers::stop`] to wait for. A thread that fails stops the server by force.
pub struct Threads {
    ended: Latch,
    failure: Arc<Mutex<Option<io::Error>>>,
    shutdown: Shutdown,
}

impl Threads {
    /// Creates an empty set for the server that `shutdown` stops.
    pub fn new(shutdown: Shutdown) -> Threads {
        Threads { ended: Latch::new(), failure: Arc::default(), shutdown }
    }

    /// Starts a thread that runs `run`. The thread fails if `run` returns an error or panics.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn spawn(
        &self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (failure, shutdown) = (self.failure.clone(), self.shutdown.clone());
        let running = self.ended.guard();
        thread::Builder::new().name(name).spawn(move || {
            let _running = running;
            let ended = catch_unwind(AssertUnwindSafe(run));
            if let Err(error) = ended.unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked"))) {
                *lock(&failure) = Some(error);
                shutdown.force();
            }
        })?;
        Ok(())
    }

    /// Waits up to [`LAST_WAIT`] until all threads have ended. A thread that does not end in time is left behind.
    ///
    /// # Errors
    /// The error of the last thread that has failed.
    pub fn join(self) -> io::Result<()> {
        if block_on_until(end_of(LAST_WAIT), self.ended.released()).is_none() {
            log::error!("a thread is held by a handler and is left behind");
        }
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}
