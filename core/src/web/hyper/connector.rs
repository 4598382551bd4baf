//! Outgoing connections of a [`Runtime`], as a service that clients call.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_lock::Semaphore;
use http::Uri;
use http::uri::Scheme;

use super::Io;
use crate::proto::BoxFuture;
use crate::runtime::handle::Runtime;

/// The default of [`Connector::max_connections`].
const MAX_CONNECTIONS: usize = 1024;
/// The default of [`Connector::connect_timeout`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the host and port of a URI with [`Runtime::connect`], for hyper-util's client and other clients that
/// take a `tower_service::Service<Uri>`.
///
/// The number of connections of a connector and its clones is bounded, and so is the time to get one. A pool at the
/// limit uses the first connection that becomes idle, or connects when one has closed. If a request uses an idle
/// connection, hyper-util continues its attempt to connect in the background, for the pool.
///
/// Only URIs with the scheme `http` are accepted, because the connector has no TLS. The port is 80 by default.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::hyper::{Connector, Io};
/// use gearshift::http::Uri;
/// use gearshift::Runtime;
/// use tower_service::Service;
///
/// async fn connect(runtime: &Runtime) -> std::io::Result<Io> {
///     let connector = Connector::new(runtime).max_connections(8).connect_timeout(Duration::from_secs(1));
///     connector.clone().call(Uri::from_static("http://127.0.0.1:8080/")).await
/// }
/// # drop(connect);
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    runtime: Runtime,
    /// One permit for each connection that is open or is being opened.
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Connector {
    /// A connector on `runtime`, with the default limits.
    pub fn new(runtime: &Runtime) -> Connector {
        Connector {
            runtime: runtime.clone(),
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            timeout: CONNECT_TIMEOUT,
        }
    }

    /// The largest number of connections at once, at least 1, to all hosts together; 1024 by default. An attempt beyond
    /// that waits until a connection closes. Clones that exist already keep their own limit.
    pub fn max_connections(self, max: usize) -> Connector {
        Connector { permits: Arc::new(Semaphore::new(max.max(1))), ..self }
    }

    /// Raises the limit of this connector and its clones by `more` connections.
    ///
    /// A client can start with a limit of 1 and raise it with the number of requests at once. hyper-util opens a
    /// connection as soon as none is idle, and the connection of the previous request becomes idle only a moment after
    /// its response was read; at the limit, the next request waits for it.
    pub fn add_connections(&self, more: usize) {
        self.permits.add_permits(more);
    }

    /// The longest time to get a connection; 10 s by default. It includes the wait for other connections to close and
    /// the name lookup.
    pub fn connect_timeout(self, timeout: Duration) -> Connector {
        Connector { timeout, ..self }
    }

    async fn connect(self, uri: Uri) -> io::Result<Io> {
        let address = address(&uri)?;
        let connecting = async {
            let permit = self.permits.acquire_arc().await;
            let stream = self.runtime.connect(&address).await?;
            Ok(Io::with_permit(stream, permit))
        };
        self.runtime.timeout(self.timeout, connecting).await?
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Io;
    type Error = io::Error;
    type Future = BoxFuture<io::Result<Io>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Connects to `uri`.
    ///
    /// # Errors
    /// `InvalidInput` if the scheme is not `http` or there is no host; `TimedOut` after
    /// [`connect_timeout`](Connector::connect_timeout); or the errors of [`Runtime::connect`].
    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// `HOST:PORT` of a URI. An IPv6 address keeps its brackets.
fn address(uri: &Uri) -> io::Result<String> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, format!("{why}: {uri}"));
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(invalid("the scheme is not http"));
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("there is no host"))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_uri_names_a_host_and_a_port() {
        for (uri, expected) in [
            ("http://example.com/", Some("example.com:80")),
            ("http://example.com:8080/a?b", Some("example.com:8080")),
            ("http://127.0.0.1:1", Some("127.0.0.1:1")),
            ("http://[::1]:8080/", Some("[::1]:8080")),
            ("http://user@example.com/", Some("example.com:80")),
            ("https://example.com/", None),
            ("ftp://example.com/", None),
            ("example.com:80", None),
            ("/path", None),
        ] {
            let address = address(&uri.parse().expect("a URI"));
            match expected {
                Some(expected) => assert_eq!(address.expect(uri), expected),
                None => assert_eq!(address.expect_err(uri).kind(), io::ErrorKind::InvalidInput),
            }
        }
    }
}
