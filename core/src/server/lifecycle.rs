//! The life of a server, the same on every backend.
//!
//! | state | begins when | what happens |
//! | --- | --- | --- |
//! | starting | `serve` is called | the application's start runs; connections wait in the kernel's queue |
//! | serving | the application has started | connections are accepted and driven |
//! | draining | [`Shutdown::graceful`] | what is in the kernel's queue is accepted, then the listeners close; idle connections close; requests in flight are answered, each with `Connection: close` |
//! | cut | the grace period is over, or [`Shutdown::force`] | connections end where they are; handlers that wait are dropped |
//! | stopping | no connection is left, or those that are hold their threads | the application's `on_stop` runs, background tasks get the rest of the grace period |
//! | stopped | all of that has ended, or time is up | the backend's threads end; a thread that a handler holds is left behind |
//!
//! The grace period is one deadline for all of it. Work that only has to notice that time is up gets [`LAST_WAIT`]
//! beyond it. The thread that runs this only waits, so a handler that holds a worker cannot hold up the stop.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use crate::conn::service::Service;
use crate::runtime::handle::{Engine, Runtime};
use crate::runtime::park::block_on_until;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::task::{TaskError, lock};
use crate::server::backend::{App, Report, ServeError, Server};
use crate::server::latch::{Guard, Latch};
use crate::server::listener::Listener;

/// How long to wait, once time is up, for what only has to notice that.
pub const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a backend brings to a server: threads that run tasks and connections.
pub trait Workers {
    /// What stands behind the [`Runtime`] of the server's application.
    fn engine(&self) -> impl Engine;

    /// Has the threads accept from `listeners` until the server stops, and drive what they accept. Whatever accepts
    /// holds a guard of `accepting`.
    ///
    /// # Errors
    /// An error of the system.
    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()>;

    /// Ends the threads. Tasks that are left are dropped.
    ///
    /// # Errors
    /// The error that a thread ended with.
    fn stop(self) -> io::Result<()>;
}

/// Runs a server on threads that run already; see the table at the top of this file.
///
/// # Errors
/// `Start` if the application did not start, `System` if a thread failed or the system refused something.
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
    let (start, on_stop) = app.into_parts(runtime.clone());
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
    let service = Service::new(handler, config, shutdown.clone(), runtime.clone());
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
    let stopping = runtime.spawn(on_stop.run());
    let at_least = end_of(LAST_WAIT);
    match block_on_until(deadline.map(|at| at.max(at_least.unwrap_or(at))), stopping) {
        Some(Ok(())) | Some(Err(TaskError::Panicked)) => {}
        _ => log::warn!("the application did not stop in time"),
    }
    if block_on_until(deadline, runtime.tasks_ended()).is_none() {
        log::warn!("{} background tasks were still running", runtime.tasks());
    }
    Ok(Report::of(&service))
}

/// The instant `after` from now; `None` if the clock cannot hold it: never.
fn end_of(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

/// The output of `future`, unless `end` is ready first.
async fn before<F: Future>(future: F, end: impl Future<Output = ()>) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut end = pin!(end);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// The threads of a backend, as its [`Workers::stop`] waits for them. A thread that fails ends the server.
pub struct Threads {
    ended: Latch,
    failure: Arc<Mutex<Option<io::Error>>>,
    shutdown: Shutdown,
}

impl Threads {
    /// No threads yet, of a server that `shutdown` stops.
    pub fn new(shutdown: Shutdown) -> Threads {
        Threads { ended: Latch::new(), failure: Arc::default(), shutdown }
    }

    /// Starts a thread that runs `run`. A panic is a failure of the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(
        &self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let watch = self.watch();
        thread::Builder::new().name(name).spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(run));
            watch.ended(ended.unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked"))));
        })?;
        Ok(())
    }

    /// Counts something that runs on a thread of another owner as one of the threads.
    pub fn watch(&self) -> Watch {
        Watch { _running: self.ended.guard(), failure: self.failure.clone(), shutdown: self.shutdown.clone() }
    }

    /// Waits until all threads have ended, [`LAST_WAIT`] at most, and returns the error that one of them ended with.
    /// A thread that does not end is left behind.
    ///
    /// # Errors
    /// See above.
    pub fn join(self) -> io::Result<()> {
        if block_on_until(end_of(LAST_WAIT), self.ended.released()).is_none() {
            log::error!("a thread is held by a handler and is left behind");
        }
        match lock(&self.failure).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// See [`Threads::watch`]. Dropping it counts as an end without failure.
pub struct Watch {
    failure: Arc<Mutex<Option<io::Error>>>,
    shutdown: Shutdown,
    _running: Guard,
}

impl Watch {
    /// It has ended.
    pub fn ended(self, result: io::Result<()>) {
        if let Err(error) = result {
            *lock(&self.failure) = Some(error);
            self.shutdown.force();
        }
    }
}
