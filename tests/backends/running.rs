//! A server under test.

use std::net::SocketAddr;

use gearshift::{Backend, Config, Handler, Report, Router, Runtime, Shutdown, TestServer};

use crate::client::{Answer, Client};

/// A [`TestServer`] that is ended by force when it goes out of scope, so that a test of something else does not
/// depend on how it stops.
pub(crate) struct Running(Option<TestServer>);

impl Running {
    pub(crate) fn start<H: Handler>(
        backend: Backend,
        config: Config,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Running {
        Running(Some(TestServer::with_config(backend, config, app).expect("the server starts")))
    }

    /// With the default settings.
    pub(crate) fn serve<H: Handler>(
        backend: Backend,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Running {
        Running::start(backend, Config::default(), app)
    }

    /// The demo, with the default settings.
    pub(crate) fn demo(backend: Backend) -> Running {
        Running::serve(backend, demo::app)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server().addr()
    }

    pub(crate) fn shutdown(&self) -> Shutdown {
        self.server().shutdown()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Asks one thing on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    /// Asks it to stop gracefully, and waits for it.
    pub(crate) fn stop(mut self) -> Report {
        let server = self.0.take().expect("it runs");
        server.stop().expect("it ran and stopped")
    }

    fn server(&self) -> &TestServer {
        self.0.as_ref().expect("it runs")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            server.shutdown().force();
        }
    }
}

/// Settings of few event loops, or threads, so that what hogs one of them is felt.
pub(crate) fn few_workers(backend: Backend) -> Config {
    let mut config = Config::default();
    match backend.name() {
        "threadpool" => config.threads = Some(4),
        _ => config.workers = Some(1),
    }
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    config
}

/// A router with one route, `GET /`.
pub(crate) fn one(handler: impl Handler) -> Router {
    Router::new().get("/", handler)
}
