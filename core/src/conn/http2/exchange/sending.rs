//! How an exchange sends its response: the head, and the pieces of the body as the windows of the peer admit them.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use crate::conn::exchange::replace;
use crate::conn::exchange::source::Source;
use crate::conn::http2::body::Responder;
use crate::conn::http2::exchange::{End, Exchange};
use crate::conn::http2::shared::Shared;
use crate::conn::min_rate::{MinRate, WaitLimits};
use crate::conn::service::Service;
use crate::proto::body::{Body, Inner as BodyInner, Part};
use crate::proto::framing::Facts;
use crate::proto::response::Response;
use crate::proto::response_state::{ResponseState, WrongLength};
use crate::proto::trailers;
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::RouteName;
use crate::runtime::task::lock;

/// The number of pieces of a response that `h2` holds at most. Each is a frame, which takes a few hundred bytes beside
/// those of the body, and only these count for `Http2::send_buffer`.
const MAX_PIECES: usize = 64;

/// The pieces of a response that were given to `h2`, since it had written all.
#[derive(Default)]
pub(super) struct Pieces {
    given: usize,
    /// The value of [`Shared::emptied`] at that time.
    emptied: u64,
    /// Whether the exchange is one of [`Shared::full`].
    waits: bool,
}

impl Pieces {
    /// Whether `h2` may hold as many as it should. The exchange is woken once it has written them.
    fn are_many(&mut self, shared: &Shared, cx: &Cx<'_>) -> bool {
        let emptied = shared.emptied.load(Ordering::Relaxed);
        if self.emptied != emptied {
            *self = Pieces { emptied, ..Pieces::default() };
        }
        let are_many = self.given >= MAX_PIECES;
        if are_many && !self.waits {
            self.waits = true;
            lock(&shared.full).push(cx.waker().clone());
        }
        are_many
    }
}

/// The body of a response whose head can be sent.
enum Content {
    Whole(Bytes),
    Streamed(Source),
}

impl Exchange {
    /// Sends a response and its body.
    pub(super) async fn send(&mut self, respond: &Responder, response: &mut Response, facts: Facts) -> End {
        let content = match self.content(respond, response).await {
            Ok(content) => content,
            Err(end) => return end,
        };
        if let Some(body) = &self.body {
            body.response_begins();
        }
        let length = match &content {
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Streamed(source) => source.remaining(),
        };
        let (announced, state) = ResponseState::after_head(response.status, &response.fields, length, facts);
        let head = self.shared.head(response.status, &response.fields, announced);
        let is_bodiless = matches!(state, ResponseState::Bodiless | ResponseState::Length(0));
        let mut stream = match self.begin(respond, head, is_bodiless) {
            Ok(None) => return End::Whole,
            Ok(Some(stream)) => stream,
            Err(end) => return end,
        };
        let sent = match content {
            Content::Whole(bytes) => self.piece(&mut stream, bytes, true).await,
            Content::Streamed(mut source) => {
                let left = match state {
                    ResponseState::Length(left) => Some(left),
                    _ => None,
                };
                self.stream(&mut stream, &mut source, left).await
            }
        };
        match sent {
            Ok(()) => End::Whole,
            Err(End::Left) => End::Left,
            Err(end) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                end
            }
        }
    }

    /// Takes the body of `response`. If the body fails before the head, `response` is replaced by the one to send
    /// instead.
    async fn content(&mut self, respond: &Responder, response: &mut Response) -> Result<Content, End> {
        // No request holds a thread here.
        let (body, _) = std::mem::take(&mut response.body).into_parts();
        let body = match body.0 {
            BodyInner::Empty => return Ok(Content::Whole(Bytes::new())),
            BodyInner::Full(bytes) => return Ok(Content::Whole(bytes)),
            body => body,
        };
        // The body of the request may still fail, which a status can report only before the head. Any body may read a
        // request that expects 100 Continue.
        let awaits_first = matches!(body, BodyInner::Lease(_))
            || self.body.as_ref().is_some_and(|body| body.awaits_continue());
        let mut source = Source::new(Body(body));
        if awaits_first && let Some(instead) = self.first(respond, &mut source).await? {
            replace(response, instead);
            return Ok(Content::Whole(match std::mem::take(&mut response.body).0 {
                BodyInner::Full(bytes) => bytes,
                _ => Bytes::new(),
            }));
        }
        Ok(Content::Streamed(source))
    }

    /// Sends the head. Returns the stream if a body follows.
    pub(super) fn begin(
        &mut self,
        respond: &Responder,
        head: http::Response<()>,
        is_end: bool,
    ) -> Result<Option<SendStream<Bytes>>, End> {
        let status = head.status();
        self.acts();
        let stream = lock(respond).send_response(head, is_end).map_err(|_| End::Left)?;
        self.status = Some(status);
        Ok(if is_end { None } else { Some(stream) })
    }

    /// Waits for the first piece of the body. Returns the response to send instead if the body has failed.
    async fn first(&mut self, respond: &Responder, source: &mut Source) -> Result<Option<Response>, End> {
        let service = self.shared.service.clone();
        poll_fn(|cx| {
            let first = source.poll_first(cx);
            if service.shutdown.phase() == Phase::Forced {
                return Poll::Ready(Err(End::Cut));
            }
            match first {
                Poll::Ready(instead) => Poll::Ready(Ok(instead)),
                Poll::Pending if lock(respond).poll_reset(cx).is_ready() => Poll::Ready(Err(End::Left)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Sends a body of several pieces, of `left` bytes if that is known.
    async fn stream(
        &mut self,
        stream: &mut SendStream<Bytes>,
        source: &mut Source,
        mut left: Option<u64>,
    ) -> Result<(), End> {
        loop {
            let next = poll_fn(|cx| self.poll_next(cx, stream, source)).await?;
            let fields = match next {
                Some(Part::Data(piece)) => {
                    left = match left.map(|left| left.checked_sub(piece.len() as u64)) {
                        Some(None) => return Err(wrong_length()),
                        left => left.flatten(),
                    };
                    self.piece(stream, piece, false).await?;
                    continue;
                }
                Some(Part::Trailers(fields)) => allowed(*fields),
                None => HeaderMap::new(),
            };
            if left.is_some_and(|left| left > 0) {
                return Err(wrong_length());
            }
            self.acts();
            let sent = match fields.is_empty() {
                true => stream.send_data(Bytes::new(), true),
                false => stream.send_trailers(fields),
            };
            return sent.map_err(|_| End::Left);
        }
    }

    /// Waits for the next piece of the body, and watches the peer.
    fn poll_next(
        &mut self,
        cx: &mut Cx<'_>,
        stream: &mut SendStream<Bytes>,
        source: &mut Source,
    ) -> Poll<Result<Option<Part>, End>> {
        let service = &self.shared.service;
        if service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(Err(End::Cut));
        }
        let since = service.clock.coarse();
        let next = source.poll_next(cx);
        service.runtime.stalls().polled(since, service.clock.coarse(), RouteName::current(), 1);
        match next {
            Poll::Ready(Some(part)) => Poll::Ready(Ok(part)),
            Poll::Ready(None) => Poll::Ready(Err(End::Cut)),
            Poll::Pending if stream.poll_reset(cx).is_ready() => Poll::Ready(Err(End::Left)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Gives a piece of the body to `h2`, as the windows of the peer have room for it.
    pub(super) async fn piece(
        &mut self,
        stream: &mut SendStream<Bytes>,
        mut piece: Bytes,
        is_end: bool,
    ) -> Result<(), End> {
        while !piece.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, stream, piece.len())).await?;
            let part = piece.split_to(room.min(piece.len()));
            let len = part.len() as u64;
            self.acts();
            stream.send_data(part, is_end && piece.is_empty()).map_err(|_| End::Left)?;
            self.bytes += len;
            self.pieces.given += 1;
            if self.pieces.given > 1 {
                self.shared.has_pieces.store(true, Ordering::Relaxed);
            }
            self.shared.admitted.fetch_add(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the windows of the peer have room. Returns the number of bytes.
    fn poll_room(
        &mut self,
        cx: &mut Cx<'_>,
        stream: &mut SendStream<Bytes>,
        wanted: usize,
    ) -> Poll<Result<usize, End>> {
        let service = self.shared.service.clone();
        if service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(Err(End::Cut));
        }
        if self.pieces.are_many(&self.shared, cx) {
            return match stream.poll_reset(cx) {
                Poll::Ready(_) => Poll::Ready(Err(End::Left)),
                Poll::Pending => Poll::Pending,
            };
        }
        stream.reserve_capacity(wanted.min(service.config.http2.send_buffer));
        loop {
            let room = stream.capacity();
            if room > 0 {
                if self.writing.is_begun() {
                    self.writing.moved(service.clock.now(), room.min(wanted));
                }
                self.stop_waiting();
                self.deadline.clear();
                return Poll::Ready(Ok(room));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(End::Left)),
                Poll::Pending if stream.poll_reset(cx).is_ready() => return Poll::Ready(Err(End::Left)),
                Poll::Pending => break,
            }
        }
        self.poll_window(cx, &service).map(Err)
    }

    /// Waits for a window of the peer. Ready if the peer is late.
    ///
    /// The windows of a connection are shared, so an exchange may wait while others proceed. It is not late as long as
    /// all together proceed at the minimum rate of each that waits.
    fn poll_window(&mut self, cx: &mut Cx<'_>, service: &Service) -> Poll<End> {
        let (config, now) = (&service.config, service.clock.now());
        let admitted = self.shared.admitted.load(Ordering::Relaxed);
        let limits = WaitLimits::new(config.write_timeout, config.min_rate);
        let (since, before) = *self.waiting.get_or_insert_with(|| {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            (now, admitted)
        });
        self.writing.wait(now, limits);
        if self.writing.deadline().is_some_and(|at| at <= now) {
            let (moved, seconds) = (admitted - before, now.saturating_duration_since(since).as_secs());
            let waiting = self.shared.waiting.load(Ordering::Relaxed) as u64;
            if moved == 0
                || moved < seconds.saturating_mul(u64::from(config.min_rate)).saturating_mul(waiting)
            {
                log::debug!("a response was cut short: the peer takes it too slowly");
                return Poll::Ready(End::Cut);
            }
            self.waiting = Some((now, admitted));
            self.writing = MinRate::default();
            self.writing.wait(now, limits);
        }
        if let Some(at) = self.writing.deadline() {
            self.deadline.set(at, cx.waker());
        }
        Poll::Pending
    }

    pub(super) fn stop_waiting(&mut self) {
        if self.waiting.take().is_some() {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Records that `h2` gets something to send.
    fn acts(&self) {
        self.shared.has_acted.store(true, Ordering::Release);
    }
}

fn wrong_length() -> End {
    log::error!("a response was cut short: {WrongLength}");
    End::Cut
}

/// The trailers that may be sent.
fn allowed(fields: HeaderMap) -> HeaderMap {
    if fields.keys().all(|name| trailers::is_allowed(name.as_str().as_bytes())) {
        return fields;
    }
    let mut allowed = HeaderMap::new();
    for (name, value) in &fields {
        if trailers::is_allowed(name.as_str().as_bytes()) {
            allowed.append(name, value.clone());
        }
    }
    allowed
}
