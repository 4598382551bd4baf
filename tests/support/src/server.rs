//! A server under test, in the process of the test.

use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use gearshift::{
    App, Backend, Bind, Config, Endpoint, Handler, Phase, Report, Router, Runtime, ServeError, Server,
    Shutdown, TestServer, sync,
};

use crate::PATIENCE;
use crate::client::{Answer, Client};

/// A [`TestServer`] that is stopped by force when it is dropped, so that a test of something else does not depend on
/// how the server stops.
#[derive(Debug)]
pub struct Running(Option<TestServer>);

impl Running {
    /// Starts a server.
    ///
    /// # Panics
    /// If the server does not start.
    pub fn start<H: Handler>(
        backend: Backend,
        config: Config,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Running {
        Running(Some(TestServer::with_config(backend, config, app).expect("the server starts")))
    }

    /// Starts a server with the default settings.
    ///
    /// # Panics
    /// As [`Running::start`].
    pub fn serve<H: Handler>(backend: Backend, app: impl FnOnce(Runtime) -> H + Send + 'static) -> Running {
        Running::start(backend, Config::default(), app)
    }

    /// Starts the demo application with the default settings.
    ///
    /// # Panics
    /// As [`Running::start`].
    pub fn demo(backend: Backend) -> Running {
        Running::serve(backend, |_| demo::app())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.server().addr()
    }

    /// The handle that stops it.
    pub fn shutdown(&self) -> Shutdown {
        self.server().shutdown()
    }

    /// Opens a connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Sends one request on a new connection.
    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    /// Stops it gracefully and waits for its end.
    ///
    /// # Panics
    /// If the server ended with an error.
    pub fn stop(mut self) -> Report {
        let server = self.0.take().expect("the server is stopped once");
        server.stop().expect("the server ends without an error")
    }

    fn server(&self) -> &TestServer {
        self.0.as_ref().expect("the server is stopped once")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            server.shutdown().force();
        }
    }
}

/// A router with one route, `GET /`.
pub fn one(handler: impl Handler) -> Router {
    Router::new().get("/", handler)
}

/// The application of [`Launched::hello`]: `GET /` answers `hi`.
pub fn hello(_: Runtime) -> Router {
    one(sync(|_| "hi"))
}

/// An address with a port that is free.
pub fn any_port() -> Bind {
    Bind::Tcp("127.0.0.1:0".into())
}

/// A server on a separate thread whose application may not have started yet.
///
/// A [`TestServer`] waits for the start of its application and reports its end as a whole. This one is for tests of
/// what happens before the start, and of how the server ends. When it is dropped, it is stopped by force, and has to
/// end without an error.
#[derive(Debug)]
pub struct Launched {
    addr: SocketAddr,
    shutdown: Shutdown,
    end: Receiver<thread::Result<Result<Report, ServeError>>>,
    has_ended: bool,
}

impl Launched {
    /// Starts a thread that serves `app` on a free port.
    ///
    /// # Panics
    /// If the server cannot be bound.
    pub fn app(backend: Backend, config: Config, app: App) -> Launched {
        let server = Server::bind(&[any_port()], config).expect("a free port");
        let addr = match server.endpoints().next() {
            Some(Endpoint::Tcp(addr)) => *addr,
            other => panic!("the server is bound to {other:?}"),
        };
        let shutdown = server.shutdown();
        let (ending, end) = mpsc::channel();
        thread::spawn(move || {
            let serve = AssertUnwindSafe(|| backend.serve(server, app));
            let _ = ending.send(panic::catch_unwind(serve));
        });
        Launched { addr, shutdown, end, has_ended: false }
    }

    /// Starts a thread that serves an application which starts at once.
    ///
    /// # Panics
    /// As [`Launched::app`].
    pub fn start<H: Handler>(
        backend: Backend,
        config: Config,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Launched {
        Launched::app(backend, config, App::new(app))
    }

    /// Starts a thread that serves [`hello`].
    ///
    /// # Panics
    /// As [`Launched::app`].
    pub fn hello(backend: Backend, config: Config) -> Launched {
        Launched::start(backend, config, hello)
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The handle that stops it.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Opens a connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The error that the server ended with.
    ///
    /// # Panics
    /// If the server does not end within twice [`PATIENCE`], or panics.
    pub fn ended(mut self) -> Result<Report, ServeError> {
        self.has_ended = true;
        let outcome = self.end.recv_timeout(2 * PATIENCE).expect("the server ends");
        outcome.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Waits for its end, which a graceful stop has to bring about before the grace period is over.
    ///
    /// # Panics
    /// As [`Launched::ended`], and if the grace period was used up.
    pub fn ended_gracefully(self) -> Report {
        let shutdown = self.shutdown.clone();
        let report = self.ended().expect("the server ends without an error");
        assert_eq!(shutdown.phase(), Phase::Graceful, "the grace period was used up");
        report
    }

    /// Stops it gracefully and waits as [`Launched::ended_gracefully`] does.
    ///
    /// # Panics
    /// As [`Launched::ended_gracefully`].
    pub fn stop(self) -> Report {
        self.shutdown.graceful();
        self.ended_gracefully()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shutdown.force();
            let ended = self.end.recv_timeout(PATIENCE);
            assert!(thread::panicking() || matches!(ended, Ok(Ok(Ok(_)))), "the server ended with {ended:?}");
        }
    }
}
