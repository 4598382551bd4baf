//! A server for programs without a command line.

use gearshift_core::{App, Bind, Config, Report, ServeError, Server};

use crate::signals::SignalGuard;
use crate::{Backend, systemd};

/// The status with which the process exits if its server does not stop in time.
const OVERDUE: i32 = 1;

/// Serves an application at an address, on the [default backend](Backend::default) and with the default settings, until
/// SIGINT or SIGTERM. The first signal lets the requests in flight end, the second one ends the server at once.
///
/// `address` has one of the forms of [`Bind`]: `HOST:PORT`, `unix:PATH`, `fd://N` or `systemd`. If handlers block all
/// threads, so that the server does not stop in time, the process exits with status 1. The function sets up no log.
/// Messages to systemd are sent as by [`cli::run`](crate::cli::run).
///
/// A program that takes its address, its backend and its settings from a command line uses
/// [`cli::run`](crate::cli::run).
///
/// # Errors
/// The error that prevented the start, or that ended the server. An address that cannot be parsed is a
/// [`ServeError::Bind`].
///
/// # Panics
/// If no backend is compiled in.
///
/// ```no_run
/// use gearshift::{Router, ServeError, sync};
///
/// fn main() -> Result<(), ServeError> {
///     gearshift::serve("127.0.0.1:8000", Router::new().get("/", sync(|_| "Hello, World!")))?;
///     Ok(())
/// }
/// ```
pub fn serve(address: &str, app: impl Into<App>) -> Result<Report, ServeError> {
    let backend = Backend::default().expect("the feature of a backend is enabled");
    let bind: Bind =
        address.parse().map_err(|source| ServeError::Bind { address: address.to_owned(), source })?;
    let server = Server::bind(&[bind], Config::default())?;
    let overdue = || {
        log::error!("the server did not stop in time, because its threads are blocked");
        std::process::exit(OVERDUE)
    };
    let (server, _messages) = systemd::attach(server);
    let _signals = SignalGuard::start(&server, overdue, None, None)?;
    backend.serve(server, app)
}
