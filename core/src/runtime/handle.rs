//! Seam 2: the services of a backend to a handler.
//!
//! [`Runtime`] is the handle of the application. [`Engine`] is the trait that a backend implements. Behaviour that is
//! the same on every backend is above the engine.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::proto::stream::Stream;
use crate::proto::{BoxFuture, carry};
use crate::runtime::access_log::AccessSink;
use crate::runtime::clock::after;
use crate::runtime::config::Config;
use crate::runtime::connect::{Attempts, no_answer};
use crate::runtime::contained::{contain, discard};
use crate::runtime::counters::{Connections, Counters};
use crate::runtime::endpoint::{Endpoint, is_host_and_port};
use crate::runtime::latch::{self, Latch};
use crate::runtime::lookup::Lookups;
use crate::runtime::offload::{Job, offload};
use crate::runtime::park;
use crate::runtime::pool::{Busy, Pool};
use crate::runtime::scope::Scope;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::stall::{Origin, Stalls};
use crate::runtime::stats::Stats;
use crate::runtime::task::Task;

/// The services that a backend provides below [`Runtime`].
///
/// The engine of `tests/seventh/src/lib.rs` is an example: a whole backend in one file.
pub trait Engine: Send + Sync + 'static {
    /// The name by which a user selects the backend.
    fn backend(&self) -> &'static str;

    /// The current time of the clock of [`Engine::sleep`]: that of the system, except in a simulation.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Returns a future that is ready from the time `until` on. It may be polled on any thread.
    fn sleep(&self, until: Instant) -> BoxFuture<()>;

    /// Connects to one address.
    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>>;

    /// Runs `task` in the background. It is called on any thread. `task` does not panic.
    fn spawn(&self, task: BoxFuture<()>);

    /// Runs `job` on a thread of the given kind without delay. `job` does not panic.
    ///
    /// The caller has at most as many CPU-bound jobs running as [`Config::compute_threads`], and at most as many
    /// blocking jobs as [`Config::blocking_threads`]. While jobs wait for futures, up to 256 further blocking jobs run
    /// ([`Runtime::block_on`]).
    fn offload(&self, kind: Work, job: Job);

    /// Whether the threads that drive connections may block. A handler then holds its thread until its response
    /// begins, and offloaded work runs on that thread.
    fn threads_block(&self) -> bool {
        false
    }

    /// Calls `poll`, which polls the future of [`Runtime::block_on`]. A runtime whose futures must be polled inside
    /// its context enters the context around the call.
    fn poll_inside(&self, poll: &mut dyn FnMut()) {
        poll();
    }

    /// Calls `wait`, with which a thread that is no worker waits for the future of [`Runtime::block_on`]. `wait` may
    /// panic.
    fn wait_outside(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    /// The statistics that only the backend can count.
    fn stats(&self) -> EngineStats;
}

/// The statistics of a backend itself, as parts of [`Stats`].
///
/// ```
/// use gearshift_core::EngineStats;
///
/// // The statistics of a backend with four threads.
/// let stats = EngineStats { workers: 4, ..EngineStats::default() };
/// # drop(stats);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineStats {
    /// The value of [`Stats::workers`].
    pub workers: usize,
    /// The value of [`Stats::waiting_for_worker`].
    pub waiting: usize,
    /// The value of [`Stats::loop_turns`].
    pub turns: u64,
}

/// The kind of offloaded work: how it occupies its thread.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Runtime, Work};
///
/// /// The pool that has room, for a job that fits either.
/// fn quieter(runtime: &Runtime) -> Work {
///     let stats = runtime.stats();
///     match stats.compute.queued <= stats.blocking.queued {
///         true => Work::Compute,
///         false => Work::Blocking,
///     }
/// }
/// # drop(quieter);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The work waits in system calls. Many threads share few cores.
    Blocking,
    /// The work uses the CPU. One thread runs on each core.
    Compute,
}

/// The handle to the backend that runs the application: timers, background tasks, offloaded work, outgoing
/// connections.
///
/// [`Request::runtime`](crate::Request::runtime) gives it to a handler. A clone is cheap and refers to the same
/// backend.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::{Elapsed, Request};
///
/// async fn slow(request: Request) -> Result<&'static str, Elapsed> {
///     let runtime = request.runtime();
///     // A task that continues after the response.
///     let pause = runtime.sleep(Duration::from_secs(1));
///     runtime.spawn(async { pause.await }).detach();
///     // Blocking code, which never blocks an event loop.
///     let read = runtime.blocking(|| std::fs::read_to_string("/etc/motd"));
///     let text = runtime.timeout(Duration::from_millis(500), read).await?;
///     Ok(if text.is_ok() { "read" } else { "failed" })
/// }
/// # drop(slow);
/// ```
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    engine: Arc<dyn Engine>,
    tasks: Latch,
    tasks_started: AtomicU64,
    blocking: Arc<Pool>,
    compute: Arc<Pool>,
    lookups: Lookups,
    connect_timeout: Duration,
    counters: Counters,
    stalls: Arc<Stalls>,
    access_log: Option<Arc<dyn AccessSink>>,
    connections: Arc<Connections>,
    /// Set once, when the server begins.
    endpoints: OnceLock<Vec<Endpoint>>,
    shutdown: Shutdown,
}

impl Runtime {
    /// Creates a handle to `engine`, for backends. `config` has the sizes of the pools; `shutdown` stops the server.
    pub fn new(engine: impl Engine, config: &Config, shutdown: Shutdown) -> Runtime {
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let pool = |kind, threads| {
            let engine = engine.clone();
            let run = move |kind, job| engine.offload(kind, job);
            Pool::new(kind, threads, config.pool_queue, config.pool_overload, run)
        };
        Runtime(Arc::new(Shared {
            tasks: Latch::new(),
            tasks_started: AtomicU64::new(0),
            blocking: pool(Work::Blocking, config.blocking_threads),
            compute: pool(Work::Compute, config.compute_threads_or_cores()),
            lookups: Lookups::new(),
            connect_timeout: config.connect_timeout,
            counters: Counters::new(config.route_histograms),
            stalls: Arc::new(Stalls::new(engine.backend(), config.stall_threshold)),
            access_log: config.access_log_to.clone(),
            connections: Arc::default(),
            endpoints: OnceLock::new(),
            shutdown,
            engine,
        }))
    }

    /// The name of the backend.
    pub fn backend(&self) -> &'static str {
        self.0.engine.backend()
    }

    /// Whether the threads that drive connections may block. True on `sequential` and `threadpool`.
    #[inline]
    pub fn threads_block(&self) -> bool {
        self.0.engine.threads_block()
    }

    /// The addresses on which the server listens. Empty for a runtime without a server, as tests make it.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::Request;
    /// async fn where_am_i(request: Request) -> String {
    ///     let first = request.runtime().endpoints().first();
    ///     first.map(ToString::to_string).unwrap_or_default()
    /// }
    /// # drop(where_am_i);
    /// ```
    pub fn endpoints(&self) -> &[Endpoint] {
        self.0.endpoints.get().map_or(&[], Vec::as_slice)
    }

    /// Sets what [`Runtime::endpoints`] returns. Later calls change nothing.
    pub(crate) fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        let _ = self.0.endpoints.set(endpoints);
    }

    /// Waits until the server begins to stop. The server then accepts no more connections, and requests in flight
    /// have the grace period to end. Long streams, upgraded connections and background tasks should end once the
    /// future is ready.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use std::time::Duration;
    /// # use gearshift::Runtime;
    /// async fn every_second(runtime: Runtime) {
    ///     // The error means that a second has passed and the server does not stop yet.
    ///     while runtime.timeout(Duration::from_secs(1), runtime.stopping()).await.is_err() {
    ///         // One piece of the work.
    ///     }
    /// }
    /// ```
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.shutdown.reached(Phase::Graceful)
    }

    /// Stops the server at once, as [`Shutdown::force`] does: requests in flight are cut, and a start of the application
    /// that has not ended is cancelled. The call does not wait for the end.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::Runtime;
    /// // A task that `start` spawns, for an application whose start is given up if a stop is requested.
    /// async fn give_up(runtime: Runtime) {
    ///     runtime.stopping().await;
    ///     runtime.force_stop();
    /// }
    /// # drop(give_up);
    /// ```
    pub fn force_stop(&self) {
        self.0.shutdown.force();
    }

    /// Whether the server wants new requests: no stop was requested. [`readyz()`](crate::readyz()) is a handler that
    /// tells a load balancer. It is off [`Config::drain_delay`] before [`Runtime::stopping`] is ready.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Request, StatusCode};
    /// async fn ready(request: Request) -> StatusCode {
    ///     match request.runtime().is_ready() {
    ///         true => StatusCode::OK,
    ///         false => StatusCode::SERVICE_UNAVAILABLE,
    ///     }
    /// }
    /// # drop(ready);
    /// ```
    pub fn is_ready(&self) -> bool {
        !self.0.shutdown.is_announced()
    }

    /// Waits for `duration` from the time of the call. The wait for a `duration` of more than
    /// [`MAX_WAIT`](crate::clock::MAX_WAIT), such as [`Duration::MAX`], does not end.
    ///
    /// The thread of an event loop does other work during the wait. A handler on a blocking backend holds its thread,
    /// and the futures that it has joined with this one run on.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.sleep_until(after(self.now(), duration))
    }

    /// The current time of the clock of the engine.
    pub(crate) fn now(&self) -> Instant {
        self.0.engine.now()
    }

    /// Waits until the time `at` of the clock of the engine.
    pub(crate) fn sleep_until(&self, at: Instant) -> BoxFuture<()> {
        self.0.engine.sleep(at)
    }

    /// Runs `future` for at most `duration` from the first poll, then drops it. A `duration` of more than
    /// [`MAX_WAIT`](crate::clock::MAX_WAIT), such as [`Duration::MAX`], is no limit.
    ///
    /// # Errors
    /// [`Elapsed`] if `future` was not ready in time.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        before(pin!(future), self.sleep(duration)).await.ok_or(Elapsed(duration))
    }

    /// Connects to `HOST:PORT` or `unix:PATH`, within [`Config::connect_timeout`].
    ///
    /// A host name is looked up on a thread that neither handlers nor [`Runtime::blocking`] use. Its addresses are
    /// tried as [`Runtime::connect_any`] does. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// `InvalidInput` if `to` has neither form, the error of the lookup, `TimedOut`, or the error of the last address.
    pub async fn connect(&self, to: &str) -> io::Result<Stream> {
        let connecting = async {
            if let Some(path) = to.strip_prefix("unix:") {
                return self.connect_once(Endpoint::Unix(path.into())).await;
            }
            if !is_host_and_port(to) {
                let text = format!("not HOST:PORT or unix:PATH: '{to}'");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let addresses = match to.parse() {
                Ok(address) => vec![address],
                Err(_) => self.0.lookups.addresses(to).await?,
            };
            self.connect_first(addresses, to).await
        };
        let limit = self.0.connect_timeout;
        self.timeout(limit, connecting).await.map_err(|_| no_answer(&to, limit))?
    }

    /// Connects to one of several addresses of the same service, within [`Config::connect_timeout`].
    ///
    /// IPv6 and IPv4 addresses alternate, beginning with the first address. While an address does not answer, the next
    /// one is tried beside it after 250 ms, and the first connection wins (RFC 8305). An address is given up after 10
    /// s.
    ///
    /// # Errors
    /// `NotFound` if there is no address, `TimedOut`, or the error of the last address.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Runtime, Stream};
    /// async fn connect(runtime: &Runtime) -> std::io::Result<Stream> {
    ///     runtime.connect_any(["[2001:db8::1]:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap()]).await
    /// }
    /// # drop(connect);
    /// ```
    pub async fn connect_any(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Stream> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        let (limit, connecting) = (self.0.connect_timeout, self.connect_first(addresses.clone(), "the list"));
        self.timeout(limit, connecting).await.map_err(|_| {
            let to: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            no_answer(&to.join(" or "), limit)
        })?
    }

    /// Connects to the first of `addresses` that accepts. `origin` is where they come from.
    async fn connect_first(&self, addresses: Vec<SocketAddr>, origin: &str) -> io::Result<Stream> {
        let mut attempts = Attempts::new(self, addresses, origin);
        poll_fn(|cx| attempts.poll(cx)).await
    }

    /// Connects to one address.
    pub(crate) fn connect_once(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        self.0.engine.connect(to)
    }

    /// Starts a background task. It continues after the request that has started it.
    ///
    /// Dropping the returned [`Task`] lets the task run on, [`Task::cancel`] drops its future at its next wait, and
    /// awaiting the `Task` gives the output. A panic ends only the task and is logged.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_at(carry(future), Origin::Spawned(Location::caller()), true)
    }

    /// Starts a background task that ends with the server: its future is dropped at its next wait once the server
    /// begins to stop. The output is `None` in that case.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use std::time::Duration;
    /// # use gearshift::Runtime;
    /// fn watch(runtime: &Runtime) {
    ///     let inner = runtime.clone();
    ///     runtime
    ///         .spawn_until_stop(async move {
    ///             loop {
    ///                 inner.sleep(Duration::from_secs(10)).await;
    ///                 // Looks at something. A stop does not wait for the end of the sleep.
    ///             }
    ///         })
    ///         .detach();
    /// }
    /// # drop(watch);
    /// ```
    #[track_caller]
    pub fn spawn_until_stop<F>(&self, future: F) -> Task<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn(before(future, self.stopping()))
    }

    /// Calls `function` once in each `period`, first after one `period`, until the server begins to stop. The stop
    /// waits for a call that has begun. Calls do not overlap: if a call takes longer than `period`, the next one
    /// follows after the next multiple of `period`. A panic of a call is logged, and the next call comes at its time.
    ///
    /// [`Task::cancel`] ends the calls earlier, and a call that has begun at its next wait.
    ///
    /// An application that starts with a state has [`StatefulApp::every`](crate::StatefulApp::every), which passes the
    /// state to each call.
    ///
    /// # Panics
    /// If `period` is zero.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use std::time::Duration;
    /// # use gearshift::{App, Router};
    /// let app = App::new(|runtime| {
    ///     runtime.every(Duration::from_secs(60), async || println!("one more minute")).detach();
    ///     Router::new()
    /// });
    /// # drop(app);
    /// ```
    #[track_caller]
    pub fn every<F, C>(&self, period: Duration, function: F) -> Task<()>
    where
        F: FnMut() -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        assert!(!period.is_zero(), "a period is longer than zero");
        self.every_at(period, function, Origin::Spawned(Location::caller()))
    }

    /// Does the same as [`Runtime::every`]. Log lines name `origin`. `period` is not zero.
    pub(crate) fn every_at<F, C>(&self, period: Duration, mut function: F, origin: Origin) -> Task<()>
    where
        F: FnMut() -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.clone();
        let calls = async move {
            let mut next = after(runtime.now(), period);
            while before(runtime.stopping(), runtime.sleep_until(next)).await.is_none() {
                if let Some(mut call) = contain(origin, || Box::pin(function())) {
                    poll_fn(|cx| contain(origin, || call.as_mut().poll(cx)).unwrap_or(Poll::Ready(()))).await;
                    discard(call);
                }
                let late = runtime.now().saturating_duration_since(next).as_nanos() / period.as_nanos();
                let periods = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
                next = after(next, period.saturating_mul(periods));
                // Neither the call nor the sleep has to wait if the period is very short.
                yield_now().await;
            }
        };
        self.spawn_at(calls, origin, true)
    }

    /// Does the same as [`Runtime::spawn`]. Log lines name `origin`. If `counts` is not set, a stop does not wait for
    /// the task, and the statistics do not have it.
    pub(crate) fn spawn_at<F>(&self, future: F, origin: Origin, counts: bool) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let counted = counts.then(|| self.count_task());
        let (task, body) = Task::new(future, origin, counted, Some(self.0.stalls.clone()));
        self.0.engine.spawn(Box::pin(body));
        task
    }

    /// Creates a future that counts as a background task, for a thread that may block to run. The future does not
    /// panic.
    pub(crate) fn task_in_place(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
        origin: Origin,
    ) -> BoxFuture<()> {
        let (task, body) = Task::new(future, origin, Some(self.count_task()), None);
        task.detach();
        Box::pin(body)
    }

    fn count_task(&self) -> latch::Guard {
        self.0.tasks_started.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.guard()
    }

    /// Creates a scope for tasks that belong together, for example to a request. Dropping the scope cancels its tasks,
    /// unless [`Scope::join`] was awaited.
    pub fn scope(&self) -> Scope {
        Scope::new(self.clone())
    }

    /// Runs `work`, which may block, without stalling connections: on the calling thread if that is the thread of a
    /// handler and may block, else on a pool of [`Config::blocking_threads`] threads. A streamed response body uses the
    /// pool on every backend, so that it holds no thread of the server, unless it is one of
    /// [`Body::holding_thread`](crate::Body::holding_thread).
    ///
    /// The work starts when the returned future is first polled. Dropping the future before a thread has started the
    /// work cancels it. Work that has started runs to its end, and its output is dropped. A panic of the work resumes
    /// in the task that awaits the future.
    pub fn blocking<F, R>(&self, work: F) -> impl Future<Output = R> + Send + use<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let output = offload(self.clone(), Work::Blocking, work, false);
        async { output.await.expect("work that may wait is not refused") }
    }

    /// Does the same as [`Runtime::blocking`], but the output is [`Busy`] if [`Config::pool_queue`] jobs wait already.
    /// [`Config::pool_overload`] has no effect.
    pub fn try_blocking<F, R>(&self, work: F) -> impl Future<Output = Result<R, Busy>> + Send + use<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        offload(self.clone(), Work::Blocking, work, true)
    }

    /// Runs `work`, which uses much CPU time: on the calling thread if that may block, else on a pool of
    /// [`Config::compute_threads`] threads. In all other respects it is like [`Runtime::blocking`].
    pub fn compute<F, R>(&self, work: F) -> impl Future<Output = R> + Send + use<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let output = offload(self.clone(), Work::Compute, work, false);
        async { output.await.expect("work that may wait is not refused") }
    }

    /// Does the same as [`Runtime::compute`], but the output is [`Busy`] if [`Config::pool_queue`] jobs wait already.
    pub fn try_compute<F, R>(&self, work: F) -> impl Future<Output = Result<R, Busy>> + Send + use<F, R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        offload(self.clone(), Work::Compute, work, true)
    }

    /// Runs `future` to its end on the calling thread, which must be allowed to block: inside [`Runtime::blocking`]
    /// and [`Runtime::compute`], on a blocking backend in a sync handler or in a body of
    /// [`Body::holding_thread`](crate::Body::holding_thread), or on a thread that the application has created.
    ///
    /// `future` may wait for jobs that it offloads, to any depth. It may also wait for tasks that offload work
    /// themselves. A job on a thread of a pool lends its place to the jobs of tasks while it waits, so that they run
    /// although every thread waits. Each pool lends up to 128 places at once. A job that waits beyond this limit keeps
    /// its place, and a warning is logged, at most once a second. If the jobs in all places wait for tasks whose jobs
    /// are queued, the pool makes no progress. A handler that waits for tasks should therefore be async: it waits
    /// without a thread.
    ///
    /// # Panics
    /// On the thread of an event loop. The thread would stall its connections, and could not wake the future.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            !park::is_event_loop(),
            "Runtime::block_on on a thread that drives connections would stall them; wrap the handler in \
             `blocking` or make it async"
        );
        let engine = &self.0.engine;
        let (mut future, mut output) = (pin!(future), None);
        let mut wait = || {
            output = park::block_on(|cx| {
                let mut polled = Poll::Pending;
                engine.poll_inside(&mut || polled = future.as_mut().poll(cx));
                polled
            });
        };
        match park::is_worker() {
            true => wait(),
            false => engine.wait_outside(&mut wait),
        }
        output.expect("only a thread that must not wait gives up")
    }

    /// Whether offloaded work of this kind runs on the calling thread: a handler may hold the thread, or it is a thread
    /// of a pool whose jobs must not wait for such work.
    pub fn runs_in_place(&self, kind: Work) -> bool {
        Pool::runs_in_place(kind) || park::is_in_handler()
    }

    /// The number of background tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks.guards()
    }

    /// The statistics of the server.
    pub fn stats(&self) -> Stats {
        let engine = self.0.engine.stats();
        let connections = &self.0.connections;
        Stats {
            backend: self.backend(),
            workers: engine.workers,
            waiting_for_worker: engine.waiting,
            loop_turns: engine.turns,
            connections_open: connections.open.load(Ordering::Relaxed),
            connections_upgraded: connections.upgraded.load(Ordering::Relaxed),
            connections_refused: connections.refused.load(Ordering::Relaxed),
            stalls: self.0.stalls.count(),
            access_log_dropped: self.0.access_log.as_ref().map_or(0, |log| log.dropped()),
            tasks_running: self.tasks(),
            tasks_started: self.0.tasks_started.load(Ordering::Relaxed),
            blocking: self.0.blocking.stats(),
            compute: self.0.compute.stats(),
            ..self.0.counters.totals()
        }
    }

    /// The counters of the server.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The stall detector of the server.
    #[inline]
    pub(crate) fn stalls(&self) -> &Stalls {
        &self.0.stalls
    }

    /// The connection counters of the server.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.0.connections
    }

    /// The admission of offloaded work of this kind.
    pub(crate) fn pool(&self, kind: Work) -> &Arc<Pool> {
        match kind {
            Work::Blocking => &self.0.blocking,
            Work::Compute => &self.0.compute,
        }
    }

    /// Counts one more background task until the guard is dropped.
    pub(crate) fn task_guard(&self) -> latch::Guard {
        self.0.tasks.guard()
    }

    /// Waits until no background task is left, for backends that stop.
    pub fn tasks_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.tasks.released()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.backend()).finish()
    }
}

/// Lets the other tasks of the thread run.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for `future`. Returns `None` if `end` is ready first.
pub(crate) async fn before<F: Future>(future: F, end: impl Future<Output = ()>) -> Option<F::Output> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// The error of [`Runtime::timeout`]: the future was not ready within this duration. As a response it is 504.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::{Elapsed, IntoResponse, StatusCode};
///
/// let error = Elapsed(Duration::from_secs(2));
/// assert_eq!(error.into_response().status(), StatusCode::GATEWAY_TIMEOUT);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready within {:?}", self.0)
    }
}

impl std::error::Error for Elapsed {}

/// The kind is `TimedOut`.
impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// The status is 504: a service that the handler waited for did not answer in time.
impl IntoResponse for Elapsed {
    fn into_response(self) -> Response {
        StatusCode::GATEWAY_TIMEOUT.into_response()
    }
}
