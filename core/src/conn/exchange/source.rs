//! The body of a response, as the exchange polls it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::conn::exchange::panicked;
use crate::proto::body::Body;
use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::runtime::task::panic_message;

/// A response body, of which the first piece may be polled before the head is sent.
pub(super) struct Source {
    body: Body,
    state: SourceState,
}

enum SourceState {
    Open,
    /// The first piece, which [`Source::poll_first`] has received.
    First(Bytes),
    Ended,
}

impl Source {
    pub(super) fn new(body: Body) -> Source {
        Source { body, state: SourceState::Open }
    }

    /// The number of bytes that [`Source::poll_next`] has yet to return, if the body knows its length.
    pub(super) fn remaining(&self) -> Option<u64> {
        match &self.state {
            SourceState::Open => self.body.remaining(),
            SourceState::First(piece) => self.body.remaining().map(|rest| rest + piece.len() as u64),
            SourceState::Ended => Some(0),
        }
    }

    /// Polls for the first piece and keeps it. Returns the response to send instead if the body fails or panics.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let next = match catch_unwind(AssertUnwindSafe(|| self.body.poll_chunk(cx))) {
            Ok(next) => next,
            Err(panic) => return Poll::Ready(Some(panicked(&*panic))),
        };
        next.map(|next| {
            self.state = match next {
                Some(Ok(piece)) => SourceState::First(piece),
                Some(Err(error)) => return Some(error.into_response()),
                None => SourceState::Ended,
            };
            None
        })
    }

    /// Returns the next piece. `Some(None)` is the end of the body. `None` means that the body has failed or panicked,
    /// which is logged.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Bytes>>> {
        match std::mem::replace(&mut self.state, SourceState::Open) {
            SourceState::First(piece) => return Poll::Ready(Some(Some(piece))),
            SourceState::Ended => {
                self.state = SourceState::Ended;
                return Poll::Ready(Some(None));
            }
            SourceState::Open => {}
        }
        match catch_unwind(AssertUnwindSafe(|| self.body.poll_chunk(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Some(Ok(piece)))) => Poll::Ready(Some(Some(piece))),
            Ok(Poll::Ready(None)) => {
                self.state = SourceState::Ended;
                Poll::Ready(Some(None))
            }
            Ok(Poll::Ready(Some(Err(error)))) => {
                log::warn!("a response was cut short: {error}");
                Poll::Ready(None)
            }
            Err(panic) => {
                log::error!("a response body panicked: {}", panic_message(&*panic));
                Poll::Ready(None)
            }
        }
    }
}
