//! A response on its way from the thread that makes it to its connection: the head, the pieces of the body, the end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gearshift::{Body, HeaderMap, Response};
use http_body::Frame;

/// The bytes that wait for the client before the application waits too. A single piece may be larger.
pub(crate) const MAX_QUEUED: usize = 64 * 1024;

/// What makes a response: the owner of a channel.
pub(crate) trait Producer: Send + Sync + 'static {
    /// The channel of the response.
    fn channel(&self) -> &Channel;

    /// There is room for pieces, or the connection has dropped the response. No lock is held.
    fn notify(self: Arc<Self>);
}

/// A response, or the head of one whose pieces follow.
pub(crate) enum Head {
    Whole(Response),
    Streamed(Response),
}

/// The end of the pieces.
#[derive(Debug)]
pub(crate) enum End {
    Complete,
    Trailers(HeaderMap),
    /// The application has failed.
    Cut,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Channel(Mutex<State>);

#[derive(Default)]
struct State {
    head: Option<Head>,
    pieces: VecDeque<Bytes>,
    /// The sum of the pieces in bytes.
    queued: usize,
    end: Option<End>,
    /// Whether the connection has dropped the response.
    is_closed: bool,
    /// The task of the connection.
    waker: Option<Waker>,
}

impl State {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.queued += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state. Returns the task of the connection if it waits.
    fn change(&self, change: impl FnOnce(&mut State)) -> Option<Waker> {
        let mut state = self.lock();
        change(&mut state);
        state.waker.take()
    }

    /// Changes the state and wakes the connection.
    fn update(&self, change: impl FnOnce(&mut State)) {
        self.change(change).into_iter().for_each(Waker::wake);
    }

    /// Sends the head.
    pub(crate) fn begin(&self, head: Head) {
        self.update(|state| state.head = Some(head));
    }

    /// Hands over a response that is complete. Returns the task of the connection if it waits, to be woken.
    pub(crate) fn complete(&self, response: Response) -> Option<Waker> {
        self.change(|state| state.head = Some(Head::Whole(response)))
    }

    /// Sends the head and the first piece of the body, which may be empty.
    pub(crate) fn begin_with(&self, head: Response, piece: Bytes) {
        self.update(|state| {
            state.head = Some(Head::Streamed(head));
            state.push(piece);
        });
    }

    /// Sends a piece of the body.
    pub(crate) fn send(&self, piece: Bytes) {
        self.update(|state| state.push(piece));
    }

    /// Ends the body.
    pub(crate) fn end(&self, end: End) {
        self.update(|state| state.end = Some(end));
    }

    /// Whether the application has to wait before it sends another piece.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.queued >= MAX_QUEUED && !state.is_closed
    }

    /// Whether the connection has taken all that was sent.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.head.is_none() && state.pieces.is_empty() && state.end.is_none()
    }

    /// Whether the connection has dropped the response.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes the head without waiting.
    pub(crate) fn take_head(&self) -> Option<Head> {
        self.lock().head.take()
    }

    /// Takes the next part of the body without waiting: `None` if there is none yet, `Some(None)` at the end.
    #[allow(clippy::option_option)]
    pub(crate) fn take(&self) -> Option<Option<Result<Frame<Bytes>, &'static str>>> {
        let mut state = self.lock();
        take(&mut state)
    }
}

/// Takes the next part of the body.
fn take(state: &mut State) -> Option<Option<Result<Frame<Bytes>, &'static str>>> {
    if let Some(piece) = state.pieces.pop_front() {
        state.queued -= piece.len();
        return Some(Some(Ok(Frame::data(piece))));
    }
    match state.end.take()? {
        End::Complete => Some(None),
        End::Cut => Some(Some(Err("the application has failed"))),
        End::Trailers(trailers) => {
            state.end = Some(End::Complete);
            Some(Some(Ok(Frame::trailers(trailers))))
        }
    }
}

/// The side of the connection. Dropping it, or the body that it becomes, closes the channel.
pub(crate) struct Receiver<P: Producer>(Arc<P>);

impl<P: Producer> Receiver<P> {
    pub(crate) fn new(producer: Arc<P>) -> Receiver<P> {
        Receiver(producer)
    }

    /// Waits for the head.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Head> {
        let mut state = self.0.channel().lock();
        match state.head.take() {
            Some(head) => Poll::Ready(head),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The response with this head, whose pieces are those of the channel.
    pub(crate) fn respond(self, head: Head) -> Response {
        match head {
            Head::Whole(response) => response,
            Head::Streamed(mut response) => {
                *response.body_mut() = Body::from_http(self);
                response
            }
        }
    }
}

impl<P: Producer> http_body::Body for Receiver<P> {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let mut state = self.0.channel().lock();
        let was_full = state.queued >= MAX_QUEUED;
        match take(&mut state) {
            Some(next) => {
                let has_room = was_full && state.queued < MAX_QUEUED;
                drop(state);
                if has_room {
                    self.0.clone().notify();
                }
                Poll::Ready(next)
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<P: Producer> Drop for Receiver<P> {
    fn drop(&mut self) {
        let mut state = self.0.channel().lock();
        state.is_closed = true;
        let dropped = (state.head.take(), std::mem::take(&mut state.pieces));
        drop(state);
        drop(dropped);
        self.0.clone().notify();
    }
}
