//! A server for tests. It has its own port and stops when it is dropped.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gearshift_core::{App, Bind, BoxFuture, Config, Endpoint, Report, Runtime, ServeError, Server, Shutdown};

use crate::Backend;

/// The time for a dropped server to stop gracefully, and again for the forced stop after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running server on a free port of 127.0.0.1.
///
/// ```
/// # use gearshift::{Backend, Router, TestServer, sync};
/// # use std::io::{Read, Write};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for backend in Backend::available() {
///     let server = TestServer::start(*backend, Router::new().get("/", sync(|_| "hello")))?;
///     let mut peer = std::net::TcpStream::connect(server.addr())?;
///     peer.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
///     let mut answer = String::new();
///     peer.read_to_string(&mut answer)?;
///     assert!(answer.ends_with("hello"));
/// }
/// # Ok(())
/// # }
/// ```
pub struct TestServer {
    addr: SocketAddr,
    is_tls: bool,
    pub(crate) running: Running,
    #[cfg(feature = "test-client")]
    pub(crate) client: ureq::Agent,
}

impl TestServer {
    /// Starts a server with the default settings; see [`TestServer::with_config`].
    pub fn start(backend: Backend, app: impl Into<App>) -> Result<TestServer, ServeError> {
        TestServer::with_config(backend, Config::default(), app)
    }

    /// Starts a server with other settings, and returns when its application has started.
    ///
    /// # Errors
    /// The error that prevented the start.
    pub fn with_config(
        backend: Backend,
        config: Config,
        app: impl Into<App>,
    ) -> Result<TestServer, ServeError> {
        backend.check(&config)?;
        #[cfg(feature = "test-client")]
        let client = crate::test_client::agent(&config);
        let is_tls = config.tls.is_some();
        let server = Server::bind(&[Bind::Tcp("127.0.0.1:0".into())], config)?;
        let Some(&Endpoint::Tcp(addr)) = server.endpoints().next() else {
            unreachable!("a TCP listener has an IP address")
        };
        Ok(TestServer {
            addr,
            is_tls,
            running: Running::start(backend, server, app.into(), "test-server")?,
            #[cfg(feature = "test-client")]
            client,
        })
    }

    /// The address on which the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same address as a URL without a path: `http://127.0.0.1:PORT`, with `https` if the server speaks TLS.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// A handle to stop the server.
    pub fn shutdown(&self) -> Shutdown {
        self.running.shutdown.clone()
    }

    /// Stops the server gracefully, and waits until it has ended.
    ///
    /// # Errors
    /// The error that ended the server before.
    ///
    /// # Panics
    /// If the backend panicked.
    pub fn stop(self) -> Result<Report, ServeError> {
        self.running.shutdown.graceful();
        self.running.outcome()
    }
}

/// A backend that runs on a separate thread, and stops when this is dropped.
pub(crate) struct Running {
    pub(crate) runtime: Runtime,
    shutdown: Shutdown,
    /// Receives the runtime when the application has started, and is disconnected when the thread has ended.
    signal: Receiver<Runtime>,
    /// `None` after the outcome was taken.
    thread: Option<JoinHandle<Result<Report, ServeError>>>,
}

impl Running {
    /// Starts `server`, and returns when `app` has started.
    pub(crate) fn start(
        backend: Backend,
        server: Server,
        app: App,
        thread: &str,
    ) -> Result<Running, ServeError> {
        let shutdown = server.shutdown();
        let (running, signal) = mpsc::sync_channel(1);
        let app = with_start_signal(app, running.clone());
        let thread = thread::Builder::new().name(thread.into()).spawn(move || {
            let outcome = backend.serve(server, app);
            drop(running);
            outcome
        })?;
        match signal.recv() {
            Ok(runtime) => Ok(Running { runtime, shutdown, signal, thread: Some(thread) }),
            Err(_) => {
                join(thread)?;
                Err(ServeError::Start("the server ended before the application had started".into()))
            }
        }
    }

    fn outcome(mut self) -> Result<Report, ServeError> {
        join(self.thread.take().expect("the outcome is taken once, with the server"))
    }
}

fn join(thread: JoinHandle<Result<Report, ServeError>>) -> Result<Report, ServeError> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for Running {
    fn drop(&mut self) {
        for stop in [Shutdown::graceful, Shutdown::force] {
            stop(&self.shutdown);
            if self.signal.recv_timeout(PATIENCE).err() == Some(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// The same application, which sends a message when it has started.
fn with_start_signal(app: App, started: SyncSender<Runtime>) -> App {
    let (leave, left) = mpsc::sync_channel::<BoxFuture<()>>(1);
    App::start(move |runtime| {
        let (starting, on_stop) = app.into_parts(runtime.clone());
        async move {
            let handler = starting.await?;
            let _ = on_stop.map(|on_stop| leave.send(on_stop));
            let _ = started.send(runtime);
            Ok(handler)
        }
    })
    .on_stop(move || async move {
        if let Ok(on_stop) = left.try_recv() {
            on_stop.await;
        }
    })
}
