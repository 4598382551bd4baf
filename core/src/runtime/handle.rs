//! Seam 2: what a handler may ask of the backend that runs it.
//!
//! A [`Runtime`] is a cheap handle that the application gets when it is built. Each backend stands behind it with
//! an [`Engine`]; everything that can be the same on every backend is written here, once, above the engine:
//! what a dropped [`Task`] means, how a panic travels, how many jobs are offloaded at once and when one is not run.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::proto::BoxFuture;
use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::proto::stream::Stream;
use crate::runtime::config::Config;
use crate::runtime::counters::{Connections, Counters};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::offload::{Job, Offloaded, TryOffloaded};
use crate::runtime::park;
use crate::runtime::pool::{Admission, Busy, Pool};
use crate::runtime::scope::Scope;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::stall::Stalls;
use crate::runtime::stats::Stats;
use crate::runtime::task::{Task, Tasks};

/// What a backend provides to [`Runtime`].
pub trait Engine: Send + Sync + 'static {
    /// The backend's name, as a user selects it.
    fn backend(&self) -> &'static str;

    /// What time it is for [`Engine::sleep`]: the system's, unless the engine is a simulation's.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A future that is ready once `until` has come. It may be polled on any thread.
    fn sleep(&self, until: Instant) -> BoxFuture<()>;

    /// Connects to one address.
    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>>;

    /// Runs `task` to its end in the background, whoever calls. `task` does not panic.
    fn spawn(&self, task: BoxFuture<()>);

    /// Has a thread of the given kind run a job, now. It is not asked for more at once than the pool has threads.
    /// `job` does not panic.
    fn offload(&self, kind: Work, job: Job);

    /// Whether the threads that drive connections may block: a handler then holds its thread until it answers, and
    /// offloaded work runs in place on it.
    fn threads_block(&self) -> bool {
        false
    }

    /// Called around each poll of a future that blocks the calling thread, for runtimes whose futures need to be polled
    /// inside the runtime.
    fn poll_inside(&self, poll: &mut dyn FnMut()) {
        poll();
    }

    /// What only the backend can count.
    fn stats(&self) -> EngineStats;
}

/// What only a backend knows of itself, for [`Stats`], which says what each is.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineStats {
    /// [`Stats::workers`].
    pub workers: usize,
    /// [`Stats::waiting_for_worker`].
    pub waiting: usize,
    /// [`Stats::loop_turns`].
    pub turns: u64,
}

/// What offloaded work does to the thread it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It waits, inside a system call: many threads for few cores.
    Blocking,
    /// It burns CPU: one thread for each core.
    Compute,
}

/// A handle to whatever runs the application; see the [module](self).
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    engine: Box<dyn Engine>,
    tasks: Tasks,
    blocking: Arc<Pool>,
    compute: Arc<Pool>,
    counters: Counters,
    stalls: Arc<Stalls>,
    connections: Arc<Connections>,
    shutdown: Shutdown,
}

impl Runtime {
    /// A handle to `engine`, with pools as large as `config` says, for a server that `shutdown` stops; called by
    /// backends.
    pub fn new(engine: impl Engine, config: &Config, shutdown: Shutdown) -> Runtime {
        let pool = |kind, threads| Pool::new(kind, threads, config.pool_queue, config.pool_overload);
        Runtime(Arc::new(Shared {
            tasks: Tasks::default(),
            blocking: pool(Work::Blocking, config.blocking_threads),
            compute: pool(Work::Compute, config.compute_threads_or_cores()),
            counters: Counters::default(),
            stalls: Arc::new(Stalls::new(engine.backend(), config.stall_threshold)),
            connections: Arc::default(),
            shutdown,
            engine: Box::new(engine),
        }))
    }

    /// The name of the backend behind this handle.
    pub fn backend(&self) -> &'static str {
        self.0.engine.backend()
    }

    /// Whether the threads that drive connections may block: `sequential` and `threadpool`.
    #[inline]
    pub fn threads_block(&self) -> bool {
        self.0.engine.threads_block()
    }

    /// Waits until the server begins to stop: it accepts no more connections, and what is in flight has the grace period
    /// to end. Long streams, upgraded connections and background tasks end themselves when this is ready.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gearshift_core::Runtime;
    /// async fn every_second(runtime: Runtime) {
    ///     // An error says that the second has passed first.
    ///     while runtime.timeout(Duration::from_secs(1), runtime.stopping()).await.is_err() {
    ///         // One piece of the work.
    ///     }
    /// }
    /// ```
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.shutdown.reached(Phase::Graceful)
    }

    /// Waits for `duration`, from now on.
    ///
    /// On an event loop other work goes on meanwhile; on a blocking backend the worker waits, and whatever else
    /// its handler joined with this.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.0.engine.sleep(self.0.engine.now() + duration)
    }

    /// Waits until `at`, which need not be the system's time where the clock is not.
    pub(crate) fn sleep_until(&self, at: Instant) -> BoxFuture<()> {
        self.0.engine.sleep(at)
    }

    /// Runs `future` for at most `duration`, from now on, then drops it.
    ///
    /// # Errors
    /// [`Elapsed`] if it was not ready by then.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut sleep = self.0.engine.sleep(self.0.engine.now() + duration);
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            sleep.as_mut().poll(cx).map(|()| Err(Elapsed(duration)))
        })
        .await
    }

    /// Connects to `HOST:PORT` or `unix:PATH`; a host name is looked up, and its addresses are tried in turn.
    ///
    /// # Errors
    /// `InvalidInput` if `to` is neither, or why the last address could not be reached.
    pub async fn connect(&self, to: &str) -> io::Result<Stream> {
        let endpoints = match Endpoint::parse(to) {
            Some(endpoint) => vec![endpoint],
            None => {
                let name = to.to_owned();
                self.blocking(move || Endpoint::resolve(&name)).await?
            }
        };
        let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{to} has no address"));
        for endpoint in endpoints {
            match self.0.engine.connect(endpoint).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Starts a background task, which outlives the request that started it.
    ///
    /// Dropping the returned [`Task`] lets it run on; [`Task::cancel`] drops its future at its next wait; awaiting
    /// it gives its output. A panic in it ends the task alone, and is logged. This is so on every backend.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(future, Location::caller())
    }

    /// The same, for whoever asked for it at `place`.
    pub(crate) fn spawn_at<F>(&self, future: F, place: &'static Location<'static>) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (task, body) = Task::new(future, place, &self.0.tasks, &self.0.stalls);
        self.0.engine.spawn(Box::pin(body));
        task
    }

    /// Starts a background task that a stop does not wait for, and that [`Runtime::tasks`] does not count.
    #[cfg(feature = "hyper")]
    pub(crate) fn spawn_unawaited<F>(&self, future: F, place: &'static Location<'static>)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (task, body) = Task::new(future, place, &Tasks::default(), &self.0.stalls);
        task.detach();
        self.0.engine.spawn(Box::pin(body));
    }

    /// The current time of the clock behind [`Runtime::sleep_until`].
    #[cfg(feature = "hyper")]
    pub(crate) fn now(&self) -> Instant {
        self.0.engine.now()
    }

    /// A scope for tasks that belong to something, to a request for one: they are cancelled with it, unless it is
    /// waited for them.
    pub fn scope(&self) -> Scope {
        Scope::new(self.clone())
    }

    /// Runs `work`, which may block, where that stalls nothing: in place on a thread that may block, else on a
    /// pool of threads for it.
    ///
    /// The work starts when the returned future is first polled. If the future is dropped before a thread has
    /// taken the work up, it is not run; work that has begun is finished and its result dropped. A panic in it
    /// goes on in whoever awaits the future.
    pub fn blocking<F, R>(&self, work: F) -> Offloaded<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Offloaded::new(self.clone(), Work::Blocking, work)
    }

    /// The same, but where more of this work waits already than [`Config::pool_queue`] allows, it is refused, whatever
    /// [`Config::pool_overload`] says.
    pub fn try_blocking<F, R>(&self, work: F) -> TryOffloaded<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        TryOffloaded::new(self.clone(), Work::Blocking, work)
    }

    /// Runs `work`, which burns CPU, on a pool with a thread for each core; in place on a thread that may block.
    /// All else is as with [`Runtime::blocking`].
    pub fn compute<F, R>(&self, work: F) -> Offloaded<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Offloaded::new(self.clone(), Work::Compute, work)
    }

    /// The same, refused as [`Runtime::try_blocking`] is.
    pub fn try_compute<F, R>(&self, work: F) -> TryOffloaded<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        TryOffloaded::new(self.clone(), Work::Compute, work)
    }

    /// Runs `future` to its end on the calling thread, which must be one that may block: inside
    /// [`Runtime::blocking`] and [`Runtime::compute`], in a sync handler of a blocking backend, or a thread of the
    /// program's own.
    ///
    /// # Panics
    /// On a thread that drives connections of an event loop, which would never get to wake the future.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            !park::is_event_loop(),
            "Runtime::block_on on a thread that drives connections would stall them; wrap the handler in \
             `blocking` or make it async"
        );
        let mut future = pin!(future);
        let output = park::block_on(|cx| {
            let mut polled = Poll::Pending;
            self.0.engine.poll_inside(&mut || polled = future.as_mut().poll(cx));
            polled
        });
        output.expect("only a thread that must not wait gives up")
    }

    /// Whether offloaded work of this kind would run in place on this thread: one that may block as it is, or one of a
    /// pool whose jobs must not wait for it.
    pub fn runs_in_place(&self, kind: Work) -> bool {
        Pool::runs_in_place(kind) || park::is_worker()
    }

    /// How many background tasks have not ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// What the server has done, and is doing.
    pub fn stats(&self) -> Stats {
        let (engine, totals) = (self.0.engine.stats(), self.0.counters.totals());
        let connections = &self.0.connections;
        Stats {
            backend: self.backend(),
            workers: engine.workers,
            waiting_for_worker: engine.waiting,
            loop_turns: engine.turns,
            connections_open: connections.open.load(Ordering::Relaxed),
            connections_accepted: totals.accepted,
            connections_refused: connections.refused.load(Ordering::Relaxed),
            requests_in_flight: totals.in_flight,
            requests_served: totals.responses.iter().sum::<u64>().saturating_sub(totals.rejected),
            requests_rejected: totals.rejected,
            responses: totals.responses,
            bytes_received: totals.received,
            bytes_sent: totals.sent,
            stalls: self.0.stalls.count(),
            tasks_running: self.0.tasks.len(),
            tasks_started: self.0.tasks.started(),
            blocking: self.0.blocking.stats(),
            compute: self.0.compute.stats(),
        }
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    #[inline]
    pub(crate) fn stalls(&self) -> &Stalls {
        &self.0.stalls
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.0.connections
    }

    pub(crate) fn pool(&self, kind: Work) -> &Arc<Pool> {
        match kind {
            Work::Blocking => &self.0.blocking,
            Work::Compute => &self.0.compute,
        }
    }

    /// Has a job run, or queued: then it says where.
    pub(crate) fn offload(
        &self,
        kind: Work,
        job: Job,
        may_refuse: bool,
    ) -> Result<Option<(Arc<Pool>, u64)>, Busy> {
        let pool = self.pool(kind);
        match pool.admit(job, may_refuse)? {
            Admission::Run(job) => {
                self.0.engine.offload(kind, job);
                Ok(None)
            }
            Admission::Queued(place) => Ok(Some((pool.clone(), place))),
        }
    }

    /// Ready once no background task is left. Called by backends when they stop.
    pub fn tasks_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.tasks.ended()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.backend()).finish()
    }
}

/// The time of a [`Runtime::timeout`] has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready within {:?}", self.0)
    }
}

impl std::error::Error for Elapsed {}

/// 504: whatever was waited for did not answer in time.
impl IntoResponse for Elapsed {
    fn into_response(self) -> Response {
        StatusCode::GATEWAY_TIMEOUT.into_response()
    }
}
