//! Spans for connections and requests, in the crate `tracing`.
//!
//! A subscriber that asks for the level `INFO` of the target `gearshift::request` gets a span for each request whose
//! head is valid. One that also asks for `DEBUG` of `gearshift::connection` gets a span for each connection, the parent
//! of the spans of its requests. Without a subscriber, a request costs one read of the enabled level.
//!
//! The fields have the names of the semantic conventions of OpenTelemetry for HTTP:
//!
//! | span | fields |
//! | --- | --- |
//! | `connection` | `network.peer.address`, `network.peer.port`, `network.transport` |
//! | `request`, at its beginning | `http.request.method`, `url.scheme`, `url.path`, `network.protocol.version`, `client.address`, `user_agent.original`; `trace_id` of a valid `traceparent`; `otel.kind` |
//! | `request`, once the first router has chosen the route | `http.route`; `otel.name` becomes `METHOD ROUTE` |
//! | `request`, with the response | `http.response.status_code`; with a status of 5xx `error.type` and `otel.status_code` |
//!
//! A method that is not one of the nine of RFC 9110 and RFC 5789 is `_OTHER`, with the method in
//! `http.request.method_original`.
//!
//! A span is entered while the handler is called, and while its future or the body of its response is polled, and at no
//! other time. [`Runtime::spawn`](crate::Runtime::spawn) and its relatives,
//! [`Runtime::blocking`](crate::Runtime::blocking), [`Runtime::compute`](crate::Runtime::compute),
//! [`Response::after`](crate::Response::after) and the function of an upgrade carry the span in which they were called.
//! A span is closed when the request has ended and nothing carries it any more.

use std::sync::OnceLock;

use http::{Method, StatusCode};
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span};

use crate::conn::context::Peer;
use crate::proto::request::Request;
pub use crate::proto::trace_context::TraceContext;
use crate::runtime::contained::contain;
use crate::runtime::stall::RouteName;

/// The known methods, which are the values of `http.request.method`.
static METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// The name of a span whose method is not one of [`METHODS`].
const OTHER: &str = "HTTP";

type Hook = Box<dyn Fn(&Span, &Request) + Send + Sync>;

/// The function of [`on_request`].
static ON_REQUEST: OnceLock<Hook> = OnceLock::new();

/// Sets the function that is called for the span of each request, before it is entered. An application with
/// OpenTelemetry sets the parent of the span there, as `apps/traced` shows. A process has one such function, as it has
/// one subscriber.
///
/// Returns whether the function was set: `false` if there is one already.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::trace;
///
/// let is_first = trace::on_request(|span, request| {
///     if let Some(context) = request.trace_context() {
///         tracing::debug!(parent: span, "the client is in the span {:x}", context.parent_id());
///     }
/// });
/// assert!(is_first);
/// ```
pub fn on_request(function: impl Fn(&Span, &Request) + Send + Sync + 'static) -> bool {
    ON_REQUEST.set(Box::new(function)).is_ok()
}

/// The span of a connection.
#[derive(Clone, Default)]
pub(crate) struct ConnectionTrace(Option<Box<Span>>);

impl ConnectionTrace {
    /// Creates the span of a connection with this peer, if a subscriber wants it.
    #[inline]
    pub(crate) fn new(peer: Peer) -> ConnectionTrace {
        match LevelFilter::current() < LevelFilter::DEBUG {
            true => ConnectionTrace(None),
            false => ConnectionTrace::enabled(peer),
        }
    }

    #[cold]
    fn enabled(peer: Peer) -> ConnectionTrace {
        let transport = if peer.is_some() { "tcp" } else { "unix" };
        let span = tracing::debug_span!(
            target: "gearshift::connection",
            parent: None,
            "connection",
            network.peer.address = peer.map(|peer| tracing::field::display(peer.ip())),
            network.peer.port = peer.map(|peer| i64::from(peer.port())),
            network.transport = transport,
        );
        ConnectionTrace((!span.is_disabled()).then(|| Box::new(span)))
    }
}

/// The span of a request.
#[derive(Default)]
pub(crate) struct RequestTrace(Option<Box<Span>>);

impl RequestTrace {
    /// Whether a subscriber may want the span of a request.
    #[inline]
    pub(crate) fn is_wanted() -> bool {
        LevelFilter::current() >= LevelFilter::INFO
    }

    /// Creates the span of a request on a connection, if a subscriber wants it.
    pub(crate) fn begin(request: &Request, connection: &ConnectionTrace) -> RequestTrace {
        let known = known(request.method());
        let method = known.unwrap_or(OTHER);
        let client = request.client();
        let span = tracing::info_span!(
            target: "gearshift::request",
            parent: connection.0.as_ref().and_then(|span| span.id()),
            "request",
            otel.kind = "server",
            otel.name = method,
            otel.status_code = Empty,
            http.request.method = known.unwrap_or("_OTHER"),
            http.request.method_original = known.is_none().then(|| request.method().as_str()),
            http.route = Empty,
            http.response.status_code = Empty,
            url.scheme = client.scheme(),
            url.path = request.path(),
            network.protocol.version = version(request.version()),
            client.address = client.address().map(tracing::field::display),
            user_agent.original = request.headers().get_str("user-agent"),
            trace_id = Empty,
            "error.type" = Empty,
        );
        if span.is_disabled() {
            return RequestTrace(None);
        }
        if let Some(context) = request.trace_context() {
            span.record("trace_id", tracing::field::display(format_args!("{:032x}", context.trace_id())));
        }
        if let Some(on_request) = ON_REQUEST.get() {
            let _ = contain("the function for the spans of requests", || on_request(&span, request));
        }
        RequestTrace(Some(Box::new(span)))
    }

    /// Enters the span until the returned guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Option<tracing::span::Entered<'_>> {
        self.0.as_ref().map(|span| span.enter())
    }

    /// The same future, polled and dropped inside of the span.
    #[cfg(feature = "http2")]
    pub(crate) fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.instrument(self.0.as_ref().map_or_else(Span::none, |span| Span::clone(span)))
    }

    /// Records the status, and ends the span.
    #[inline(always)]
    pub(crate) fn end(&mut self, status: StatusCode) {
        if let Some(span) = self.0.take() {
            record_status(&span, status);
        }
    }

    /// The rest of a handler inside of the span, which ends with it.
    pub(crate) fn carry<F: Future>(&mut self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let span = self.0.take().map_or_else(Span::none, |span| *span);
        future.instrument(span)
    }
}

/// Records the route that a router has chosen for a request, whose span is entered, and gives the span its name. The
/// request does not have the route yet.
///
/// An exporter may append a field that is recorded again instead of replacing it. The field is therefore recorded here
/// alone, and by the first router, if that one calls another router as a handler.
#[inline]
pub(crate) fn routed(request: &Request, route: RouteName) {
    if RequestTrace::is_wanted() && request.inner().route == RouteName::NONE.index() {
        record_route(request.method(), route);
    }
}

#[cold]
fn record_route(method: &Method, route: RouteName) {
    let (span, route, method) = (Span::current(), route.name(), known(method).unwrap_or(OTHER));
    span.record("http.route", route);
    span.record("otel.name", tracing::field::display(format_args!("{method} {route}")));
}

/// The name of a method that is one of [`METHODS`].
fn known(method: &Method) -> Option<&'static str> {
    METHODS.iter().find(|known| *known == method).map(Method::as_str)
}

/// Records the status of the response that is being sent, whose span is entered.
pub(crate) fn responds(status: StatusCode) {
    if RequestTrace::is_wanted() {
        record_status(&Span::current(), status);
    }
}

#[cold]
fn record_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
