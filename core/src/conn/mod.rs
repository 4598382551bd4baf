//! The life of one connection: the driver joins a transport, the HTTP/1.1 state and a handler.

pub(crate) mod access;
pub(crate) mod after;
pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod deadlines;
pub(crate) mod driver;
pub(crate) mod exchange;
pub(crate) mod handler;
#[cfg(feature = "http2")]
pub(crate) mod http2;
pub(crate) mod io;
pub(crate) mod lease;
pub(crate) mod liveness;
pub(crate) mod min_rate;
#[cfg(not(feature = "http2"))]
mod no_http2;
#[cfg(not(feature = "tls"))]
mod no_tls;
#[cfg(not(feature = "tracing"))]
mod no_trace;
pub(crate) mod service;
pub(crate) mod tally;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "tracing")]
pub mod trace;
pub mod transport;
pub(crate) mod upgraded;

/// HTTP/2, or what stands in its place without the feature.
pub(crate) mod maybe_http2 {
    #[cfg(feature = "http2")]
    pub(crate) use super::http2::Http2;
    #[cfg(all(feature = "http2", feature = "tls"))]
    pub(crate) use super::http2::speaks_http2;
    #[cfg(not(feature = "http2"))]
    pub(crate) use super::no_http2::Http2;
    #[cfg(all(not(feature = "http2"), feature = "tls"))]
    pub(crate) use super::no_http2::speaks_http2;
}

/// TLS, or what stands in its place without the feature.
pub(crate) mod maybe_tls {
    #[cfg(not(feature = "tls"))]
    pub(crate) use super::no_tls::{MaybeTls, TlsSlot, encrypt, plain};
    #[cfg(feature = "tls")]
    pub(crate) use super::tls::{MaybeTls, TlsSlot, encrypt, plain};
}

/// Spans, or what stands in their place without the feature.
pub(crate) mod maybe_trace {
    #[cfg(not(feature = "tracing"))]
    pub(crate) use super::no_trace::{ConnectionTrace, RequestTrace, responds, routed};
    #[cfg(feature = "tracing")]
    pub(crate) use super::trace::{ConnectionTrace, RequestTrace, responds, routed};
}
