//! The counterparts of `trace` without the feature `tracing`: there are no spans.

use http::StatusCode;

use crate::conn::context::Peer;
use crate::proto::request::Request;
use crate::runtime::stall::RouteName;

/// The span of a connection. There is none.
#[derive(Clone, Default)]
pub(crate) struct ConnectionTrace {}

impl ConnectionTrace {
    #[inline]
    pub(crate) fn new(_: Peer) -> ConnectionTrace {
        ConnectionTrace {}
    }
}

/// The span of a request. There is none.
#[derive(Default)]
pub(crate) struct RequestTrace {}

/// The time in which a span is entered.
pub(crate) struct Entered;

impl RequestTrace {
    /// Whether a subscriber may want the span of a request.
    #[inline]
    pub(crate) fn is_wanted() -> bool {
        false
    }

    #[inline]
    pub(crate) fn begin(_: &Request, _: &ConnectionTrace) -> RequestTrace {
        RequestTrace {}
    }

    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered
    }

    #[cfg(feature = "http2")]
    #[inline]
    pub(crate) fn around<F>(&self, future: F) -> F {
        future
    }

    #[inline]
    pub(crate) fn end(&mut self, _: StatusCode) {}

    #[inline]
    pub(crate) fn carry<F>(&mut self, future: F) -> F {
        future
    }
}

/// Does nothing.
#[inline]
pub(crate) fn routed(_: &Request, _: RouteName) {}

/// Does nothing.
#[inline]
pub(crate) fn responds(_: StatusCode) {}
