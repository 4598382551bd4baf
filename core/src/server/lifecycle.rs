//! The lifecycle of a server: start, serve, drain and stop, equal on every backend.
//!
//! | state | begins when | action |
//! | --- | --- | --- |
//! | starting | `serve` is called | the application's start runs; connections wait in the kernel's queue |
//! | serving | the application has started | connections are accepted and driven |
//! | leaving | [`Shutdown::graceful`], and the application has started | readiness is off; for [`Config::drain_delay`](crate::Config::drain_delay), everything else is as before |
//! | draining | the end of the drain delay | the kernel begins no more connections; those that it has begun are accepted, then the listeners close; connections whose requests were answered close; each other connection gets its requests answered, the last with `Connection: close` |
//! | cut | the end of the grace period, or [`Shutdown::force`] | connections and listeners are closed; the futures of handlers are dropped |
//! | stopping | no connection is open, or the wait for cut connections is over | the application's `on_stop` runs; background tasks get the rest of the grace period |
//! | stopped | `on_stop` and the tasks have ended, or the time is over | the backend's threads end, with those of jobs if threads have a wrapper; a thread that a handler or a job holds is left behind |
//!
//! A stop that is requested while the application starts waits for the start. The states from draining on then follow,
//! so that the connections in the kernel's queue are answered. If the grace period ends before the application has
//! started, or the stop is forced, the start is cancelled, and the connections in the queue are closed and count as
//! cut. Such a stop has no drain delay, because the server was not ready before.
//!
//! The grace period ([`Config::graceful_timeout`](crate::Config::graceful_timeout)) begins with the request to stop, or
//! with the end of the drain delay. It is one deadline for all states, and no state waits for its end if there is
//! nothing left to wait for. When it is over, or the stop is forced, the server ends within [`LAST_WAIT`]: the first
//! third is for the cut connections, the second for `on_stop`, and the last for the threads. The thread that runs the
//! lifecycle only waits, so a handler that holds a worker does not delay the stop.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conn::service::Service;
use crate::runtime::clock::Clock;
#[cfg(feature = "pools")]
use crate::runtime::config::Config;
use crate::runtime::contained::contain;
use crate::runtime::handle::{Engine, Runtime, before};
use crate::runtime::latch::Latch;
use crate::runtime::park::block_on_until;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::stall::Origin;
use crate::runtime::starter::Starter;
use crate::runtime::task::TaskError;
#[cfg(feature = "pools")]
use crate::runtime::threads::OffloadThreads;
use crate::server::backend::{App, Report, ServeError, Server};
use crate::server::listener::Listener;

/// Maximum time from the end of the grace period, or from a forced stop, to the end of the server.
pub const LAST_WAIT: Duration = Duration::from_secs(1);
/// The steps that share [`LAST_WAIT`].
const LAST_STEPS: u32 = 3;

/// The threads of a backend, which run the tasks and connections of one server.
///
/// The workers of `tests/seventh/src/lib.rs` are an example: a whole backend in one file.
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
/// [`ServeError::Start`] if the application did not start, [`ServeError::System`] if the system refused a resource
/// before the server accepted connections, [`ServeError::Failed`] if a thread failed.
pub fn run(server: Server, app: App, mut workers: impl Workers) -> Result<Report, ServeError> {
    let served = serve(server, app, &mut workers);
    // A thread that has failed may be the reason why the application was not started.
    workers.stop().map_err(ServeError::Failed)?;
    served
}

fn serve(mut server: Server, app: App, workers: &mut impl Workers) -> Result<Report, ServeError> {
    let end = End::of(&server);
    let on_serving = server.take_on_serving();
    let (listeners, config, shutdown) = server.into_parts();
    let runtime = Runtime::new(workers.engine(), &config, shutdown.clone());
    runtime.set_endpoints(listeners.iter().map(Listener::local).cloned().collect());

    // Starting.
    let parts = catch_unwind(AssertUnwindSafe(|| app.into_parts(runtime.clone())));
    let Ok((start, on_stop)) = parts else { return Err(ServeError::Start(TaskError::Panicked.into())) };
    let mut start = runtime.spawn_at(start, Origin::Start, false);
    let started = block_on_until(None, before(&mut start, shutdown.announced())).flatten();
    if started.is_none() {
        shutdown.drain();
    }
    let handler = match started.or_else(|| end.wait(0, &mut start)) {
        Some(Ok(started)) => started.map_err(ServeError::Start)?,
        Some(Err(error)) => return Err(ServeError::Start(error.into())),
        None => {
            start.cancel();
            let cut = listeners.into_iter().map(Listener::discard).sum();
            log::warn!("the server was stopped before the application had started");
            return Ok(Report { cut, ..Report::default() });
        }
    };

    // Serving.
    let service = Service::new(handler, config, shutdown.clone(), runtime.clone(), Clock::System);
    let accepting = Latch::new();
    workers.accept(listeners, &service, &accepting)?;
    for on_serving in on_serving {
        contain("the function for a server that serves", || on_serving(&runtime));
    }
    block_on_until(None, shutdown.announced());

    // Leaving.
    if let Some(drains_at) = shutdown.drains_at().filter(|_| !shutdown.is_requested()) {
        let delay = service.config().drain_delay;
        log::info!("the server is not ready any more, and begins to drain in {delay:?} at most");
        block_on_until(Some(drains_at), shutdown.reached(Phase::Graceful));
        shutdown.drain();
    }

    // Draining.
    let drained = async || {
        accepting.released().await;
        service.connections_until(|open| open == 0).await;
    };
    if end.wait(0, drained()).is_none() {
        // Cut.
        shutdown.force();
        end.wait(1, drained());
    }

    // Stopping.
    if let Some(on_stop) = on_stop {
        match end.wait(2, runtime.spawn_at(on_stop, Origin::Stop, false)) {
            Some(Ok(())) | Some(Err(TaskError::Panicked)) => {}
            _ => log::warn!("the application did not stop in time"),
        }
    }
    end.wait(0, runtime.tasks_ended());
    match runtime.tasks() {
        0 => {}
        tasks => {
            log::warn!("{tasks} background tasks were still running");
            // A detached handler may hold a thread of a blocking backend.
            shutdown.force();
        }
    }
    Ok(Report::of(&service))
}

/// The end of a server that was asked to stop.
#[derive(Clone)]
struct End {
    shutdown: Shutdown,
    grace: Duration,
}

impl End {
    fn of(server: &Server) -> End {
        End { shutdown: server.shutdown(), grace: server.config().graceful_timeout }
    }

    /// Waits for `future` until connections are cut, and then for `steps` steps of [`LAST_WAIT`]. Returns `None` if
    /// `future` is not ready in time.
    fn wait<F: Future>(&self, steps: u32, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let forced = self.shutdown.reached(Phase::Forced);
        let in_time = block_on_until(self.cut_at(), before(&mut future, forced)).flatten();
        in_time.or_else(|| block_on_until(self.last(steps), future))
    }

    /// The end of this number of steps of [`LAST_WAIT`].
    fn last(&self, steps: u32) -> Option<Instant> {
        self.cut_at()?.checked_add(LAST_WAIT * steps / LAST_STEPS)
    }

    /// The time of the forced stop, otherwise the end of the grace period; `None` if the clock cannot represent it. A
    /// server that ends without a request to stop has no grace period.
    fn cut_at(&self) -> Option<Instant> {
        match (self.shutdown.reached_at(Phase::Forced), self.shutdown.reached_at(Phase::Graceful)) {
            (Some(forced), _) => Some(forced),
            (None, Some(asked)) => asked.checked_add(self.grace),
            (None, None) => Some(Instant::now()),
        }
    }
}

/// The running threads of a backend, for [`Workers::stop`] to wait for. A thread that fails stops the server by force.
///
/// ```
/// use gearshift_core::{Config, Server, Threads};
///
/// let server = Server::bind(&["127.0.0.1:0".parse()?], Config::default())?;
/// let threads = Threads::new(&server);
/// threads.spawn("worker-0".to_owned(), || Ok(()))?;
/// server.shutdown().graceful();
/// threads.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Threads {
    starter: Starter,
    end: End,
}

impl Threads {
    /// Creates an empty set for a server.
    pub fn new(server: &Server) -> Threads {
        Threads {
            starter: Starter::new(server.shutdown(), server.config().thread_wrapper.clone()),
            end: End::of(server),
        }
    }

    /// Starts a thread that runs `run`, inside [`Config::thread_wrapper`](crate::Config::thread_wrapper). The thread
    /// fails if `run` returns an error or panics.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn spawn(
        &self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.starter.spawn(name, run)
    }

    /// Waits until all threads have ended, at most until [`LAST_WAIT`] after the end of the grace period. A thread that
    /// does not end in time is left behind.
    ///
    /// # Errors
    /// The error of the last thread that has failed.
    pub fn join(self) -> io::Result<()> {
        if self.end.wait(LAST_STEPS, self.starter.ended()).is_none() {
            log::error!("a thread is held by a handler or a job and is left behind");
        }
        self.starter.failure().map_or(Ok(()), Err)
    }
}

#[cfg(feature = "pools")]
impl Threads {
    /// The threads for the offloaded work of the server, for its [`Engine`]. An engine calls this once.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use gearshift_core::{Config, Server, Threads, Work};
    ///
    /// let server = Server::bind(&["127.0.0.1:0".parse()?], Config::default())?;
    /// let threads = Threads::new(&server);
    /// let (send, receive) = mpsc::channel();
    /// threads.offload(server.config()).run(Work::Blocking, Box::new(move || send.send(1 + 1).unwrap()));
    /// assert_eq!(receive.recv(), Ok(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offload(&self, config: &Config) -> OffloadThreads {
        OffloadThreads::new(config, &self.starter)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::thread;

    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);

    #[test]
    fn all_steps_of_an_end_honour_one_deadline() {
        let end = End { shutdown: Shutdown::new(), grace: GRACE };
        end.shutdown.graceful();
        let asked = end.shutdown.reached_at(Phase::Graceful).unwrap();
        assert_eq!(end.last(0), Some(asked + GRACE));
        assert_eq!(end.last(LAST_STEPS), Some(asked + GRACE + LAST_WAIT));
        end.shutdown.force();
        let forced = end.shutdown.reached_at(Phase::Forced).unwrap();
        assert_eq!(end.last(LAST_STEPS), Some(forced + LAST_WAIT));
        for steps in 0..=LAST_STEPS {
            assert_eq!(end.wait(steps, pending::<()>()), None);
            assert!(end.last(steps).unwrap() <= Instant::now());
        }
    }

    #[test]
    fn a_forced_stop_ends_a_wait_for_the_grace_period() {
        let end = End { shutdown: Shutdown::new(), grace: GRACE };
        end.shutdown.graceful();
        let waiting = end.clone();
        let waits = thread::spawn(move || waiting.wait(0, pending::<()>()));
        end.shutdown.force();
        assert_eq!(waits.join().unwrap(), None);
    }

    #[test]
    fn an_endless_grace_period_has_no_end() {
        let end = End { shutdown: Shutdown::new(), grace: Duration::MAX };
        assert!(end.last(0).is_some(), "a server that was not asked to stop has no grace period");
        end.shutdown.graceful();
        assert_eq!(end.last(LAST_STEPS), None);
        assert_eq!(end.wait(0, async { 1 }), Some(1));
    }
}
