//! What the tests of the blocking backends share: a server on a thread of its own, and a simple client.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use gearshift_core::{
    App, Backend, Bind, Config, Endpoint, Handler, Phase, Report, Router, Runtime, ServeError, Server,
    Shutdown, sync,
};

use super::BACKEND;

/// How long anything may take that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The request that is sent when any will do.
pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A server on a thread of its own.
pub(crate) struct Running {
    endpoint: Endpoint,
    pub(crate) shutdown: Shutdown,
    end: Receiver<thread::Result<Result<Report, ServeError>>>,
    has_ended: bool,
}

impl Running {
    /// Serves `app` on a port of its own.
    pub(crate) fn with<H: Handler>(
        config: Config,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Running {
        Running::start(Bind::Tcp("127.0.0.1:0".into()), config, App::new(app))
    }

    /// Serves a greeting.
    pub(crate) fn hello(config: Config) -> Running {
        Running::with(config, hello)
    }

    pub(crate) fn start(bind: Bind, config: Config, app: App) -> Running {
        let server = Server::bind(&[bind], config).unwrap();
        let endpoint = server.endpoints().next().unwrap().clone();
        let shutdown = server.shutdown();
        let (say, end) = mpsc::channel();
        thread::spawn(move || {
            let serve = std::panic::AssertUnwindSafe(|| BACKEND.serve(server, app));
            let _ = say.send(std::panic::catch_unwind(serve));
        });
        Running { endpoint, shutdown, end, has_ended: false }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.endpoint {
            Endpoint::Tcp(address) => address,
            Endpoint::Unix(_) => panic!("it listens on a socket file"),
        }
    }

    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    pub(crate) fn ended(mut self) -> Result<Report, ServeError> {
        self.has_ended = true;
        self.end.recv_timeout(2 * PATIENCE).expect("the server ends").unwrap()
    }

    /// The server ends on its own, of a graceful stop.
    pub(crate) fn ended_gracefully(self) -> Report {
        let shutdown = self.shutdown.clone();
        let report = self.ended().unwrap();
        assert_eq!(shutdown.phase(), Phase::Graceful, "the grace period was used up");
        report
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shutdown.force();
            let ended = self.end.recv_timeout(PATIENCE);
            assert!(thread::panicking() || ended.unwrap().unwrap().is_ok());
        }
    }
}

/// An application that greets.
pub(crate) fn hello(_: Runtime) -> Router {
    Router::new().get("/", sync(|_| "hi"))
}

/// Reads one response with a length: its status and its body.
pub(crate) fn response(client: &mut impl Read) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1, "the connection ended after {head:?}");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

/// Sends [`GET`] and reads the response.
pub(crate) fn get(client: &mut (impl Read + Write)) -> (u16, String) {
    client.write_all(GET).unwrap();
    response(client)
}

/// All that still comes.
pub(crate) fn rest(client: &mut impl Read) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}
