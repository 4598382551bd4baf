//! The body of a response, as the exchange polls it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use crate::conn::exchange::panicked;
use crate::proto::body::{Body, BodyError, Part};
use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::runtime::contained::{Contained, contain};
use crate::runtime::stall::RouteName;

/// A response body, of which the first part may be polled before the head is sent.
pub(crate) struct Source {
    body: Contained<Body>,
    /// Whether this is a body of [`Body::holding_thread`].
    pub(crate) holds_thread: bool,
    /// Whether [`Source::poll_next`] was called.
    is_begun: bool,
    /// The first part, once [`Source::poll_first`] has received it. `Some(None)` is the end of the body.
    first: Option<Option<Part>>,
}

impl Source {
    pub(crate) fn new(body: Body) -> Source {
        let (body, holds_thread) = body.into_parts();
        Source { body: Contained::new(body), holds_thread, is_begun: false, first: None }
    }

    /// The number of queued bytes from which on the body is not polled, if that is `max` for other bodies. A body that
    /// holds its thread is polled when everything before is written. Its first part leaves with the head.
    pub(crate) fn max_queued(&self, max: usize) -> usize {
        if self.holds_thread && self.is_begun { 1 } else { max }
    }

    /// The number of bytes that [`Source::poll_next`] has yet to return, if the body knows its length. A body that has
    /// trailers needs the chunked coding, so its length counts as unknown.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match &self.first {
            None => self.body.remaining(),
            Some(Some(Part::Data(piece))) => self.body.remaining().map(|rest| rest + piece.len() as u64),
            Some(Some(Part::Trailers(_))) => None,
            Some(None) => Some(0),
        }
    }

    /// Polls for the first part and keeps it. Returns the response to send instead if the body fails or panics.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let instead = match catch_unwind(AssertUnwindSafe(|| self.poll_body(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Some(Err(error)))) => Some(error.into_response()),
            Ok(Poll::Ready(next)) => {
                self.first = Some(next.and_then(Result::ok));
                None
            }
            Err(panic) => Some(panicked(RouteName::NONE, panic)),
        };
        Poll::Ready(instead)
    }

    /// Returns the next part. `Some(None)` and trailers are the end of the body, after which this must not be called
    /// again. `None` means that the body has failed or panicked, which is logged.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Part>>> {
        self.is_begun = true;
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        match contain("a response body", || self.poll_body(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Some(Err(error)))) => {
                log::warn!("a response was cut short: {error}");
                Poll::Ready(None)
            }
            Some(Poll::Ready(next)) => Poll::Ready(Some(next.and_then(Result::ok))),
            None => Poll::Ready(None),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        self.body.0.as_mut().map_or(Poll::Ready(None), |body| body.poll_part(cx))
    }
}
