//! Seam 3: how a server is run.
//!
//! A [`Server`] is bound already when it reaches a [`Backend`]; the backend makes a [`Runtime`], starts the
//! [`App`] with it, and serves until shutdown. Backends are values, so that a program can hold several.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use crate::conn::service::Service;
use crate::server::listener::Bind;

use crate::runtime::endpoint::Endpoint;

use crate::conn::handler::Handler;
use crate::proto::{BoxError, BoxFuture};
use crate::runtime::config::Config;
use crate::runtime::handle::Runtime;
use crate::runtime::shutdown::Shutdown;
use crate::server::listener::Listener;

/// A concurrency model that can run a server.
pub trait Backend: Send + Sync + 'static {
    /// The name a user selects it by.
    fn name(&self) -> &'static str;

    /// The model, in a line.
    fn model(&self) -> &'static str;

    /// Whether the threads that drive connections may block. A handler then holds its thread until it answers, and a
    /// request may wait for a thread.
    fn threads_block(&self) -> bool {
        false
    }

    /// Says whether this backend can honour `config`; asked before anything is bound or started.
    ///
    /// # Errors
    /// Which setting it cannot honour.
    fn check(&self, config: &Config) -> Result<(), ServeError>;

    /// Serves until the server's [`Shutdown`] is asked for, then until what is in flight has ended.
    ///
    /// # Errors
    /// What kept the server from starting, or ended it.
    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError>;
}

/// What [`Backend::check`] says on a backend with event loops, which has no pool of threads to set the size of.
///
/// # Errors
/// [`ServeError::Setting`] if `config` sets the number of threads.
pub fn check_event_loop(backend: &'static str, config: &Config) -> Result<(), ServeError> {
    match config.threads {
        None => Ok(()),
        Some(_) => Err(ServeError::Setting {
            backend,
            reason: "has event loops (`workers`), no pool of threads: `threads` cannot be set".into(),
        }),
    }
}

/// Listeners, settings and the way to stop: a server that lacks only a backend.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    config: Config,
    shutdown: Shutdown,
}

impl Server {
    /// A server that listens on all of `binds`.
    ///
    /// # Errors
    /// The first address that could not be bound, and why.
    pub fn bind(binds: &[Bind], config: Config) -> Result<Server, ServeError> {
        let mut listeners = Vec::with_capacity(binds.len());
        for bind in binds {
            let listener = Listener::bind(bind, config.backlog)
                .map_err(|source| ServeError::Bind { address: bind.to_string(), source })?;
            listeners.push(listener);
        }
        Ok(Server { listeners, config, shutdown: Shutdown::new() })
    }

    /// The same server, stopped by `shutdown`.
    pub fn with_shutdown(mut self, shutdown: Shutdown) -> Server {
        self.shutdown = shutdown;
        self
    }

    /// A handle to stop it.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().map(Listener::local)
    }

    /// Takes it apart; called by backends.
    pub fn into_parts(self) -> (Vec<Listener>, Config, Shutdown) {
        (self.listeners, self.config, self.shutdown)
    }
}

/// An application that is starting: it becomes a handler, or fails to.
pub type Starting = BoxFuture<Result<Arc<dyn Handler>, BoxError>>;

type Start = dyn FnOnce(Runtime) -> Starting + Send;
type Stop = dyn FnOnce() -> BoxFuture<()> + Send;

/// An application that can be started. A [`Router`](crate::Router) is one by itself, and so is a function from a
/// [`Runtime`] to a [`Handler`], for applications that need the runtime before their first request.
///
/// ```
/// # use gearshift_core::{App, Router, Runtime, sync};
/// let app = App::from(Router::new().get("/", sync(|_| "Hello, World!")));
/// let app = App::new(|runtime| Router::new().get("/", sync(move |_| runtime.backend())));
/// ```
pub struct App {
    start: Box<Start>,
    stop: Option<Box<Stop>>,
}

impl App {
    /// An application that starts at once and cannot fail to.
    pub fn new<H: Handler>(start: impl FnOnce(Runtime) -> H + Send + 'static) -> App {
        App::start(move |runtime| std::future::ready(Ok(start(runtime))))
    }

    /// An application whose start takes time, and may fail.
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

    /// The same application, with something to do when the server has stopped.
    pub fn on_stop<F, S>(mut self, stop: F) -> App
    where
        F: FnOnce() -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        self.stop = Some(Box::new(move || Box::pin(stop())));
        self
    }

    /// Takes it apart into the future that starts it and what to run at the end; called by backends.
    pub fn into_parts(self, runtime: Runtime) -> (Starting, OnStop) {
        ((self.start)(runtime), OnStop(self.stop))
    }
}

/// As [`App::new`].
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
        f.debug_struct("App").field("on_stop", &self.stop.is_some()).finish_non_exhaustive()
    }
}

/// What an application does when its server has stopped.
pub struct OnStop(Option<Box<Stop>>);

impl OnStop {
    /// Does it.
    pub async fn run(self) {
        if let Some(stop) = self.0 {
            stop().await;
        }
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnStop").field(&self.0.is_some()).finish()
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Requests that were in flight when shutdown was asked for and were answered.
    pub finished: u64,
    /// Requests that were cut when the grace period was over, or shutdown was forced.
    pub cut: u64,
    /// Connections that were told there is no room for them, and requests of which only a part had arrived when
    /// shutdown was asked for.
    pub refused: u64,
}

impl Report {
    /// How the server of `service` has ended. What is in flight still is left behind, in handlers that hold their
    /// threads, and counts as cut.
    pub fn of(service: &Service) -> Report {
        let (finished, cut, refused) = service.ended();
        Report { finished, cut: cut + service.counters().totals().in_flight, refused }
    }
}

/// What kept a server from running.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// An address could not be bound.
    Bind {
        /// The address as it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The backend cannot honour a setting.
    Setting {
        /// The backend's name.
        backend: &'static str,
        /// What it cannot do.
        reason: String,
    },
    /// The application failed to start.
    Start(BoxError),
    /// The system refused something the backend needs: a thread, a poller, a socket.
    System(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            ServeError::Setting { backend, reason } => write!(f, "backend {backend} {reason}"),
            ServeError::Start(source) => write!(f, "the application did not start: {source}"),
            ServeError::System(source) => write!(f, "the backend could not run: {source}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Bind { source, .. } | ServeError::System(source) => Some(source),
            ServeError::Start(source) => Some(&**source),
            ServeError::Setting { .. } => None,
        }
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> ServeError {
        ServeError::System(error)
    }
}
