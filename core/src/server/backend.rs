//! Seam 3: a backend runs a server.
//!
//! A [`Server`] has bound its sockets before it is passed to a [`Backend`]. The backend creates a [`Runtime`], starts
//! the [`App`] with it, and serves until the stop. Backends are values: a program can hold several and select one at
//! run time.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use crate::conn::handler::Handler;
use crate::conn::service::Service;
use crate::proto::{BoxError, BoxFuture};
use crate::runtime::config::Config;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::handle::Runtime;
use crate::runtime::shutdown::Shutdown;
use crate::server::listener::{Bind, Listener};

/// A concurrency model that can run a server.
pub trait Backend: Send + Sync + 'static {
    /// The name by which a user selects the backend.
    fn name(&self) -> &'static str;

    /// The concurrency model in one line, for users.
    fn model(&self) -> &'static str;

    /// Whether the threads that drive connections may block. A handler then holds its thread until its response
    /// begins, and a request may wait for a thread.
    fn threads_block(&self) -> bool {
        false
    }

    /// Checks that the backend supports the settings. Callers check before they bind or start anything.
    ///
    /// # Errors
    /// [`ServeError::Setting`] for a setting that the backend does not support.
    fn check(&self, config: &Config) -> Result<(), ServeError>;

    /// Serves until a stop is requested through the [`Shutdown`] of the server, then until requests in flight and
    /// tasks have ended or are cut. The call blocks the thread.
    ///
    /// # Errors
    /// [`ServeError`] if the server cannot start, or if it ends without a stop.
    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError>;
}

/// Checks the settings for a backend with event loops, which has no pool of worker threads; see [`Backend::check`].
///
/// # Errors
/// [`ServeError::Setting`] if `config` sets the number of threads.
pub fn check_event_loop(backend: &'static str, config: &Config) -> Result<(), ServeError> {
    match config.threads {
        None => Ok(()),
        Some(_) => Err(ServeError::Setting {
            backend,
            reason: "has no pool of threads, so --threads cannot be set; use --backend threadpool, or \
                     --blocking-threads N for blocking work"
                .into(),
        }),
    }
}

/// Checks the values of the settings whose meaning does not depend on the backend.
fn check_values(config: &Config) -> Result<(), ServeError> {
    let limits = &config.limits;
    let threads = [
        ("workers", config.workers),
        ("threads", config.threads),
        ("blocking_threads", Some(config.blocking_threads)),
        ("compute_threads", config.compute_threads),
    ];
    let is_zero = [
        ("max_connections", config.max_connections == 0),
        ("max_requests", config.max_requests == Some(0)),
        ("connect_timeout", config.connect_timeout.is_zero()),
        ("header_timeout", config.header_timeout.is_zero()),
        ("body_timeout", config.body_timeout.is_zero()),
        ("handler_timeout", config.handler_timeout.is_zero()),
        ("write_timeout", config.write_timeout.is_zero()),
        ("limits.request_line", limits.request_line == 0),
        ("limits.field_line", limits.field_line == 0),
        ("limits.fields", limits.fields == 0),
        ("limits.head", limits.head == 0),
        ("limits.output", limits.output == 0),
        ("limits.pipeline", limits.pipeline == 0),
    ];
    for (setting, count) in threads {
        if count.is_some_and(|count| !(1..=Config::MAX_THREADS).contains(&count)) {
            let reason = format!("is not between 1 and {}", Config::MAX_THREADS);
            return Err(ServeError::Value { setting, reason });
        }
    }
    if let Some((setting, _)) = is_zero.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(ServeError::Value { setting, reason: "is 0".into() });
    }
    if let Some((setting, reason)) = config.http2.invalid() {
        return Err(ServeError::Value { setting, reason: reason.into() });
    }
    if config.route_histograms > Config::MAX_ROUTE_HISTOGRAMS {
        let reason = format!("is more than {}", Config::MAX_ROUTE_HISTOGRAMS);
        return Err(ServeError::Value { setting: "route_histograms", reason });
    }
    if config.unix_mode.is_some_and(|mode| mode > 0o777) {
        return Err(ServeError::Value { setting: "unix_mode", reason: "is more than 0o777".into() });
    }
    Ok(())
}

/// Logs a warning if the process may open fewer file descriptors than the connections and the server itself may need.
fn warn_of_few_descriptors(config: &Config, listeners: usize) {
    let (connections, own) = (config.max_connections, config.own_descriptors(listeners));
    let refusals = match config.max_open() - connections {
        0 => String::new(),
        refusals => format!("{refusals} for connections that are being refused, "),
    };
    let needed = config.max_open().saturating_add(own);
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < needed as u64) {
        log::warn!(
            "the process may open {limit} file descriptors, which is too few: {connections} for max_connections, \
             {refusals}about {own} for the server itself; raise the limit, or lower max_connections"
        );
    }
}

/// A server without a backend: its listeners, its settings, and its [`Shutdown`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Config, Server};
///
/// let server = Server::bind(&["127.0.0.1:0".parse()?], Config::default())?;
/// for endpoint in server.endpoints() {
///     println!("listening at {endpoint}");
/// }
/// // Another thread may end the server with this.
/// let shutdown = server.shutdown();
/// # shutdown.graceful();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    listeners: Vec<Listener>,
    config: Config,
    shutdown: Shutdown,
    on_serving: OnServing,
}

/// The functions of [`Server::on_serving`].
pub(crate) type OnServing = Vec<Box<dyn FnOnce(&Runtime) + Send>>;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { listeners, config, shutdown, .. } = self;
        let mut debug = f.debug_struct("Server");
        debug.field("listeners", listeners).field("config", config).field("shutdown", shutdown);
        debug.finish_non_exhaustive()
    }
}

impl Server {
    /// Creates a server that listens on all of `binds`. Logs a warning if the process may not open as many file
    /// descriptors as [`Config::max_connections`] and the server itself need.
    ///
    /// # Errors
    /// [`ServeError::Value`] for a setting without a meaning, [`ServeError::Bind`] for the first address that cannot be
    /// bound.
    pub fn bind(binds: &[Bind], config: Config) -> Result<Server, ServeError> {
        Server::check(&config)?;
        let listeners = Listener::bind(binds, &config)?;
        warn_of_few_descriptors(&config, listeners.len());
        let shutdown = Shutdown::with_delay(config.drain_delay);
        Ok(Server { listeners, config, shutdown, on_serving: Vec::new() })
    }

    /// Checks the values of the settings whose meaning does not depend on the backend, as [`Server::bind`] does.
    ///
    /// # Errors
    /// [`ServeError::Value`] for a value that is not allowed.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Config, Server};
    ///
    /// let mut config = Config::default();
    /// assert!(Server::check(&config).is_ok());
    /// config.max_connections = 0;
    /// assert!(Server::check(&config).is_err());
    /// ```
    pub fn check(config: &Config) -> Result<(), ServeError> {
        check_values(config)
    }

    /// A handle to stop the server.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The addresses on which the server listens.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().map(Listener::local)
    }

    /// Adds a function that is called once the application has started and the server accepts connections, on the
    /// thread that serves. The server waits for it, so it should be quick. A panic is logged. It is not called if the
    /// application does not start.
    ///
    /// ```no_run
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Config, Server};
    ///
    /// let server = Server::bind(&["127.0.0.1:8000".parse()?], Config::default())?;
    /// let server = server.on_serving(|runtime| println!("ready, on {}", runtime.backend()));
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_serving(mut self, ready: impl FnOnce(&Runtime) + Send + 'static) -> Server {
        self.on_serving.push(Box::new(ready));
        self
    }

    pub(crate) fn take_on_serving(&mut self) -> OnServing {
        std::mem::take(&mut self.on_serving)
    }

    /// Takes the server apart, for backends.
    pub fn into_parts(self) -> (Vec<Listener>, Config, Shutdown) {
        (self.listeners, self.config, self.shutdown)
    }
}

/// The future of an application that starts: its handler, or the error that prevents the start.
pub type Starting = BoxFuture<Result<Arc<dyn Handler>, BoxError>>;

/// An application that was not started: a function from a [`Runtime`] to a [`Handler`], or a
/// [`Router`](crate::Router) if nothing needs the runtime before the first request.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{App, Router, sync};
///
/// let app = App::from(Router::new().get("/", sync(|_| "Hello, World!")));
/// let app = App::new(|runtime| Router::new().get("/", sync(move |_| runtime.backend())));
/// ```
pub struct App {
    start: Box<dyn FnOnce(Runtime) -> Starting + Send>,
    stop: Option<BoxFuture<()>>,
}

impl App {
    /// Creates an application from a function that returns its handler at once.
    pub fn new<H: Handler>(start: impl FnOnce(Runtime) -> H + Send + 'static) -> App {
        App::start(move |runtime| std::future::ready(Ok(start(runtime))))
    }

    /// Creates an application from a function whose future returns its handler, or the error that prevents the start.
    pub fn start<F, S, H>(start: F) -> App
    where
        F: FnOnce(Runtime) -> S + Send + 'static,
        S: Future<Output = Result<H, BoxError>> + Send + 'static,
        H: Handler,
    {
        App {
            start: Box::new(move |runtime| {
                let starting = start(runtime);
                Box::pin(async move { Ok(Arc::new(starting.await?) as Arc<dyn Handler>) })
            }),
            stop: None,
        }
    }

    /// Sets a function whose future runs during a stop, when no connection is open any more. It can therefore release
    /// what handlers use. Background tasks may still run beside it: the stop waits for them after it. The future has
    /// the rest of the grace period. It does not run if the application did not start.
    pub fn on_stop<F, S>(mut self, stop: F) -> App
    where
        F: FnOnce() -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        self.stop = Some(Box::pin(async { stop().await }));
        self
    }

    /// Takes the application apart, for backends: the future that starts it, and the future of [`App::on_stop`].
    pub fn into_parts(self, runtime: Runtime) -> (Starting, Option<BoxFuture<()>>) {
        ((self.start)(runtime), self.stop)
    }
}

/// Does the same as [`App::new`].
impl<F, H> From<F> for App
where
    F: FnOnce(Runtime) -> H + Send + 'static,
    H: Handler,
{
    fn from(start: F) -> App {
        App::new(start)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// The result of a server that has stopped.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::Report;
///
/// fn tell(report: &Report) {
///     println!("{} requests answered, {} cut during the stop", report.finished, report.cut);
/// }
/// # tell(&Report::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The number of requests that were answered after the stop was requested.
    pub finished: u64,
    /// The number of requests and upgraded connections that were cut at the end of the grace period or by a forced
    /// stop. If the application had not started by then, the number of connections that waited for it. Background tasks
    /// do not count; a warning in the log has their number.
    pub cut: u64,
    /// The number of connections that were refused since the start of the server, for lack of room or because a proxy
    /// sent no PROXY header, and of requests that the stop refused: their heads were incomplete at their deadline
    /// during the stop, or when connections were cut.
    pub refused: u64,
}

impl Report {
    /// The report of the server of `service`. Requests that are still in flight, because their handlers hold their
    /// threads, count as cut, and so do upgraded connections that are still open.
    pub fn of(service: &Service) -> Report {
        let (finished, cut, refused) = service.stop_counts();
        let stats = service.runtime.stats();
        Report { finished, cut: cut + stats.requests_in_flight + stats.connections_upgraded as u64, refused }
    }
}

/// The error that prevents a server from running.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Config, ServeError, Server};
///
/// let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = taken.local_addr()?.to_string();
/// let error = Server::bind(&[address.parse()?], Config::default()).unwrap_err();
/// assert!(matches!(&error, ServeError::Bind { .. }));
/// assert!(error.to_string().starts_with(&format!("cannot listen on {address}")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// An address could not be bound.
    Bind {
        /// The configured address.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A setting has a value with which no server can run.
    Value {
        /// The name of the setting.
        setting: &'static str,
        /// The reason, as the rest of a sentence that begins with the name of the setting.
        reason: String,
    },
    /// The backend does not support a setting.
    Setting {
        /// The name of the backend.
        backend: &'static str,
        /// The reason, as the rest of a sentence that begins with the name of the backend.
        reason: String,
    },
    /// The application failed to start.
    Start(BoxError),
    /// The operating system has refused a resource that the server needs to start: a thread, a poller, a socket.
    System(io::Error),
    /// A thread of the server has failed while the server ran.
    Failed(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            ServeError::Value { setting, reason } => write!(f, "the setting {setting} {reason}"),
            ServeError::Setting { backend, reason } => write!(f, "backend {backend} {reason}"),
            ServeError::Start(source) => write!(f, "the application did not start: {source}"),
            ServeError::System(source) => {
                write!(f, "the system refuses what the server needs to start: {source}")
            }
            ServeError::Failed(source) => write!(f, "the server failed: {source}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Bind { source, .. } | ServeError::System(source) | ServeError::Failed(source) => {
                Some(source)
            }
            ServeError::Start(source) => Some(&**source),
            ServeError::Value { .. } | ServeError::Setting { .. } => None,
        }
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> ServeError {
        ServeError::System(error)
    }
}
