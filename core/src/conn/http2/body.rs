//! The body of a request on a stream, which its handler reads.
//!
//! A piece that was read makes room for as many bytes of the peer, so a handler that does not read stops the peer, for
//! its own stream alone. The body ends with its exchange.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::StatusCode;

use crate::conn::http2::timers::{Deadline, Timers};
use crate::conn::min_rate::{MinRate, WaitLimits};
use crate::conn::service::Service;
use crate::proto::body::{BodyError, BodySource, Part};
use crate::proto::error::Error;
use crate::proto::trailers;
use crate::runtime::shutdown::Phase;
use crate::runtime::task::lock;

/// The sending side of a stream, before the response.
pub(super) type Responder = Arc<Mutex<SendResponse<Bytes>>>;

/// See the [module](self).
pub(super) struct RequestBody {
    state: Mutex<State>,
    service: Arc<Service>,
}

struct State {
    /// The stream; `None` once the body has ended, has failed or is gone.
    stream: Option<RecvStream>,
    /// The stream on which the peer waits for `100 Continue`.
    awaits_continue: Option<Responder>,
    /// The announced length, if there is one.
    length: Option<u64>,
    /// The number of bytes that were read.
    received: u64,
    /// The waits for the peer.
    reading: MinRate,
    /// Wakes the reader at the end of the current wait.
    deadline: Deadline,
    /// The waker of the task that waits for a piece.
    reader: Option<Waker>,
    /// The time of the last read.
    read_at: Option<Instant>,
}

impl RequestBody {
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        awaits_continue: Option<Responder>,
        timers: &Arc<Timers>,
        service: &Arc<Service>,
    ) -> RequestBody {
        let state = State {
            stream: Some(stream),
            awaits_continue,
            length,
            received: 0,
            reading: MinRate::default(),
            deadline: Deadline::new(timers),
            reader: None,
            read_at: None,
        };
        RequestBody { state: Mutex::new(state), service: service.clone() }
    }

    /// Deadline of the current wait for the peer, and the time of the last read.
    pub(super) fn waits(&self) -> (Option<Instant>, Option<Instant>) {
        let state = lock(&self.state);
        (state.reading.deadline(), state.read_at)
    }

    /// Whether the peer waits for `100 Continue`.
    pub(super) fn awaits_continue(&self) -> bool {
        lock(&self.state).awaits_continue.is_some()
    }

    /// Forgets that the peer waits for `100 Continue`: the response begins.
    pub(super) fn response_begins(&self) {
        let responder = lock(&self.state).awaits_continue.take();
        drop(responder);
    }

    /// Ends the body. A task that waits for a piece is woken and gets [`BodyError::Gone`].
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.deadline.clear();
        let (stream, reader) = (state.stream.take(), state.reader.take());
        drop(state);
        drop(stream);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Waits for the next piece or the trailers.
    fn poll(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Option<Result<Part, BodyError>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Some(Err(BodyError::Gone))) };
        loop {
            let received = stream.poll_data(cx);
            let Poll::Ready(received) = received else {
                return self.poll_wait(cx, service).map(|error| Some(Err(error)));
            };
            self.deadline.clear();
            match received {
                Some(Ok(data)) => {
                    let now = service.clock.now();
                    self.reading.moved(now, data.len());
                    self.read_at = Some(now);
                    self.received += data.len() as u64;
                    let limit = service.limits.body;
                    if self.received > limit {
                        return Poll::Ready(Some(Err(BodyError::TooLarge { limit })));
                    }
                    // This fails if the stream was reset, which the next poll reports.
                    let _ = stream.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Part::Data(data))));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
                None => break,
            }
        }
        match ready!(stream.poll_trailers(cx)) {
            Ok(None) => Poll::Ready(None),
            Ok(Some(fields)) if fields.is_empty() => Poll::Ready(None),
            Ok(Some(fields)) => {
                let is_allowed = fields.keys().all(|name| trailers::is_allowed(name.as_str().as_bytes()));
                Poll::Ready(Some(match is_allowed {
                    true => Ok(Part::Trailers(Box::new(fields))),
                    false => Err(BodyError::Malformed(Error::Trailer)),
                }))
            }
            Err(_) => Poll::Ready(Some(Err(BodyError::Incomplete))),
        }
    }

    /// Waits for the peer. Ready if it is late.
    fn poll_wait(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<BodyError> {
        if let Some(responder) = self.awaits_continue.take() {
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            // This fails if the response has begun, or if the peer has left.
            let _ = lock(&responder).send_informational(response);
        }
        let (config, now) = (&service.config, service.clock.now());
        self.reading.wait(now, WaitLimits::new(config.body_timeout, config.min_rate));
        match self.reading.deadline() {
            Some(at) if at <= now => Poll::Ready(BodyError::TimedOut),
            Some(at) => {
                self.deadline.set(at, cx.waker());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl BodySource for RequestBody {
    fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if self.service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let mut state = lock(&self.state);
        let part = state.poll(cx, &self.service);
        let reader = part.is_pending().then(|| cx.waker().clone());
        let previous = std::mem::replace(&mut state.reader, reader);
        let is_over = matches!(part, Poll::Ready(None | Some(Err(_) | Ok(Part::Trailers(_)))));
        let stream = if is_over { state.stream.take() } else { None };
        if is_over {
            state.deadline.clear();
        }
        drop(state);
        // Dropping them may run code of a runtime, so the lock is released first.
        drop((previous, stream));
        part
    }

    fn remaining(&self) -> Option<u64> {
        let state = lock(&self.state);
        state.length.map(|length| length.saturating_sub(state.received))
    }
}
