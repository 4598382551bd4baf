//! Bodies of streamed responses: the body of the request, and pieces with waits between them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use gearshift_core::{Body, BodyError, BoxFuture, HeaderMap, HeaderName, HeaderValue, Response, Runtime};
use http_body::{Frame, SizeHint};

use crate::action::{Action, Kind};
use crate::application::panic_quietly;
use crate::application::reading::{Reading, Waits};
use crate::ask::{TRAILER, pattern};
use crate::fault::Fault;

/// The body of a streamed response.
pub(super) fn pieces(runtime: Runtime, id: u64, action: Action) -> Pieces {
    let all = Bytes::from(pattern(id, action.size));
    let each = all.len().div_ceil(action.pieces).max(1);
    let left = (0..all.len()).step_by(each).map(|at| all.slice(at..all.len().min(at + each))).collect();
    let end = match action.kind {
        Kind::Broken => End::Fails,
        Kind::PanicWithin => End::Panics,
        _ => End::Fine,
    };
    Pieces { runtime, left, pause: action.pause / 4, sleep: None, end }
}

/// A streamed response of unknown length, with its trailer if it has one.
pub(super) fn streamed(runtime: Runtime, id: u64, action: Action) -> Response {
    let body = Body::from_stream(pieces(runtime, id, action));
    Response::new(match action.has_trailer() {
        true => body.with_trailers(async move {
            let name = HeaderName::from_bytes(TRAILER.as_bytes()).ok()?;
            Some(Ok(HeaderMap::from_iter([(name, HeaderValue::from(id))])))
        }),
        false => body,
    })
}

/// A request's body as the body of its response, compared with what the client sent.
pub(super) struct Echo {
    reading: Reading,
    body: Body,
    /// While the next piece is awaited.
    waits: Option<Waits>,
}

impl Echo {
    /// The response with this body.
    pub(super) fn response(reading: Reading, body: Body) -> Response {
        Response::new(Body::from_http(Echo { reading, body, waits: None }))
    }
}

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut this.body), cx) else {
            let reading = &this.reading;
            this.waits.get_or_insert_with(|| Waits::new(&reading.world, reading.at));
            return Poll::Pending;
        };
        this.waits = None;
        let frame = match frame {
            Some(Ok(frame)) if frame.is_trailers() => {
                let _ = this.reading.judge(None);
                this.reading.judge_trailers(Ok(frame.trailers_ref()));
                let is_dropped = this.reading.world.lock().plays(Fault::DropTrailers);
                return Poll::Ready((!is_dropped).then_some(Ok(frame)));
            }
            None => {
                this.reading.judge_trailers(Ok(None));
                None
            }
            frame => frame,
        };
        let chunk = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
        match this.reading.judge(chunk.as_ref().map(|chunk| match chunk {
            Ok(bytes) => Ok(bytes.clone()),
            Err(_) => Err(BodyError::Incomplete),
        })) {
            Ok(true) | Err(_) => Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data))),
            Ok(false) => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A streamed response, with waits between its pieces.
pub(super) struct Pieces {
    runtime: Runtime,
    left: VecDeque<Bytes>,
    pause: Duration,
    sleep: Option<BoxFuture<()>>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Fine,
    Fails,
    Panics,
}

impl Pieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.pause.is_zero() && !self.left.is_empty() {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(self.runtime.sleep(self.pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        match (self.left.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(piece))),
            (None, End::Fine) => Poll::Ready(None),
            (None, End::Fails) => Poll::Ready(Some(Err(BodyError::Source("as the request said".into())))),
            (None, End::Panics) => panic_quietly(),
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
    }
}
