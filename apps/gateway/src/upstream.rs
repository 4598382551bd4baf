//! The client of one service.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gearshift::http::Uri;
use gearshift::hyper::{ConnectionInfo, Connector, Executor, Timer};
use gearshift::{BoxError, Bytes, Refusal, Runtime, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::{self, Client};

/// The largest number of connections to one service.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// The largest response body, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The longest time that a connection is kept without a request.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// A service, and the connections to it.
pub(crate) struct Upstream {
    authority: String,
    client: Client<Connector, Empty<Bytes>>,
    connector: Connector,
    /// The number of calls at this moment.
    calls: AtomicUsize,
    /// The largest number of calls at once so far, at least 1. There are never more connections than that.
    peak: AtomicUsize,
}

impl Upstream {
    /// The service at `authority`, `HOST:PORT`, for calls that end after `deadline`.
    pub(crate) fn new(runtime: &Runtime, authority: String, deadline: Duration) -> Upstream {
        // The timeout is longer than the deadline, so that a late connection is reported as a late call.
        let connector = Connector::new(runtime).max_connections(1).connect_timeout(2 * deadline);
        let client = Client::builder(Executor::new(runtime))
            .pool_timer(Timer::new(runtime))
            .pool_idle_timeout(MAX_IDLE)
            .build(connector.clone());
        Upstream { authority, client, connector, calls: AtomicUsize::new(0), peak: AtomicUsize::new(1) }
    }

    /// The body of the response to `GET path`. Any failure is a 502 that names the service and the cause.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, Refusal> {
        let _call = Call::new(self);
        let body = self.try_get(path).await;
        body.map_err(|error| bad_gateway(format!("{}: {}", self.authority, root_cause(&*error))))
    }

    async fn try_get(&self, path: &str) -> Result<Bytes, BoxError> {
        let uri: Uri = format!("http://{}{path}", self.authority).parse()?;
        let response = match self.client.get(uri.clone()).await {
            Err(error) if is_stale(&error) => self.client.get(uri).await?,
            response => response?,
        };
        let (head, body) = response.into_parts();
        // Reading a body to its end, also that of an error, keeps the connection.
        let body = Limited::new(body, MAX_BYTES).collect().await?.to_bytes();
        if head.status.is_success() { Ok(body) } else { Err(head.status.to_string().into()) }
    }
}

/// A call at work, or one that waits for a connection.
struct Call<'a>(&'a Upstream);

impl Call<'_> {
    fn new(upstream: &Upstream) -> Call<'_> {
        let calls = upstream.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let needed = calls.min(MAX_CONNECTIONS);
        let peak = upstream.peak.fetch_max(needed, Ordering::Relaxed);
        upstream.connector.add_connections(needed.saturating_sub(peak));
        Call(upstream)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the connection had been used before and the service closed it at the moment of this request. GET is
/// idempotent, so that the request can be sent once more (RFC 9112, 9.3.1).
fn is_stale(error: &legacy::Error) -> bool {
    ConnectionInfo::of(error).is_some_and(|info| info.has_received())
}

/// The last error of a chain of sources: "connection refused" instead of "client error".
fn root_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

pub(crate) fn bad_gateway(why: String) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, why)
}
