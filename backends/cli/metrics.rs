//! The listener of `--metrics-bind`: a second server of the same backend, with one worker, which reports on the first
//! one.
//!
//! It answers `/metrics`, `/healthz` and `/readyz` while the first server starts, is full, or stops, and ends after it.
//! `async-std` runs all servers of the process on the same threads, so handlers that block them delay it there.

use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gearshift_core::{
    App, Bind, Config, Endpoint, IntoResponse, Response, Router, Runtime, ServeError, Server, Shutdown,
    StatusCode, healthz, sync,
};

use crate::Backend;

/// The largest number of connections to the listener.
const MAX_CONNECTIONS: usize = 64;
/// The number of threads of a pool.
const THREADS: usize = 2;

/// The listener. Dropping it ends its server.
pub(super) struct MetricsListener {
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl MetricsListener {
    /// Starts the listener, and makes it watch `server`.
    ///
    /// # Errors
    /// The address cannot be bound, or the system refuses the thread.
    pub(super) fn start(
        backend: Backend,
        bind: Bind,
        server: Server,
    ) -> Result<(MetricsListener, Server), ServeError> {
        let listener = Server::bind(&[bind], settings(backend, server.config()))?;
        let pid = std::process::id();
        for endpoint in listener.endpoints() {
            match endpoint {
                Endpoint::Tcp(address) => log::info!("metrics at http://{address}/metrics (pid {pid})"),
                endpoint => log::info!("metrics at {endpoint} (pid {pid})"),
            }
        }
        let watched = Arc::new(OnceLock::new());
        let (app, serving) = (app(watched.clone()), watched);
        let server = server.on_serving(move |runtime| _ = serving.set(runtime.clone()));
        let shutdown = listener.shutdown();
        let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
            if let Err(error) = backend.serve(listener, app) {
                log::error!("there are no metrics any more: {error}");
            }
        })?;
        Ok((MetricsListener { shutdown, thread: Some(thread) }, server))
    }
}

impl Drop for MetricsListener {
    fn drop(&mut self) {
        self.shutdown.force();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The smallest settings that the backend supports.
fn settings(backend: Backend, of: &Config) -> Config {
    let mut config = Config::default();
    config.threads = Some(THREADS);
    if backend.check(&config).is_err() {
        (config.threads, config.workers) = (None, Some(1));
    }
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    config.max_connections = MAX_CONNECTIONS;
    config.graceful_timeout = Duration::ZERO;
    (config.unix_mode, config.unix_user, config.unix_group) = (of.unix_mode, of.unix_user, of.unix_group);
    config
}

/// The application of the listener. `watched` is the runtime of the first server, once that serves.
fn app(watched: Arc<OnceLock<Runtime>>) -> App {
    let ready = watched.clone();
    Router::new()
        .get("/healthz", healthz())
        .get(
            "/readyz",
            sync(move |_| match ready.get() {
                None => unavailable("starting"),
                Some(runtime) if runtime.is_ready() => Response::text("ready"),
                Some(_) => unavailable("stopping"),
            }),
        )
        .get(
            "/metrics",
            sync(move |_| match watched.get() {
                None => unavailable("starting"),
                Some(runtime) => runtime.stats().into_response(),
            }),
        )
        .into()
}

fn unavailable(why: &'static str) -> Response {
    Response::text(why).with_status(StatusCode::SERVICE_UNAVAILABLE)
}
