//! One request on a stream, and its response.
//!
//! An exchange has what a connection of HTTP/1.1 has for its current request: the deadlines, the cancellation, and the
//! place in the counters and in the access log. It ends with its response, or when the peer gives it up (`RST_STREAM`,
//! or the end of the connection). All exchanges of a connection are polled in one task.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::conn::access::StreamRecord;
use crate::conn::after::After;
use crate::conn::cancel::Cancel;
use crate::conn::client::Origin;
use crate::conn::context::Context;
use crate::conn::deadlines::Extendable;
use crate::conn::driver::ConnectionState;
use crate::conn::exchange::source::Source;
use crate::conn::exchange::{detached, handler_timed_out, not_switched, panicked};
use crate::conn::handler::{Answer, RouteOptions};
use crate::conn::http2::body::{RequestBody, Responder};
use crate::conn::http2::request::{Meaning, Refused, convert};
use crate::conn::http2::timers::{Deadline, Timers};
use crate::conn::liveness::EndOfWait;
use crate::conn::maybe_tls::TlsSlot;
use crate::conn::maybe_trace::{ConnectionTrace, RequestTrace, responds};
use crate::conn::min_rate::{MinRate, WaitLimits};
use crate::conn::service::Service;
use crate::proto::body::{Body, Inner as BodyInner, Part};
use crate::proto::encode::{BodyLength, http_date};
use crate::proto::error::Error;
use crate::proto::framing::Facts;
use crate::proto::request::Request;
use crate::proto::response::{Response, TEXT};
use crate::proto::response_state::{ResponseState, WrongLength, asks_to_close, status_instead};
use crate::proto::trailers;
use crate::proto::{BoxFuture, carry};
use crate::runtime::clock::after;
use crate::runtime::config::OnDisconnect;
use crate::runtime::contained::{Contained, discard};
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::{Origin as TaskOrigin, RouteName};
use crate::runtime::task::lock;

/// The number of pieces of a response that `h2` holds at most. Each is a frame, which takes a few hundred bytes beside
/// those of the body, and only these count for `Http2Config::send_buffer`.
const MAX_PIECES: usize = 64;

/// The state that a connection shares with its exchanges.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) timers: Arc<Timers>,
    pub(super) origin: Origin,
    pub(super) tls: TlsSlot,
    trace: ConnectionTrace,
    /// Whether a handler has asked for the end of the connection.
    pub(super) must_close: AtomicBool,
    /// Whether an exchange has used its stream, so that `h2` has frames to send.
    pub(super) has_acted: AtomicBool,
    /// The number of bytes of bodies that the windows of the peer have admitted.
    admitted: AtomicU64,
    /// The number of exchanges that wait for a window of the peer.
    waiting: AtomicUsize,
    /// Whether an exchange has given several pieces to `h2` since the last call of [`Shared::was_emptied`].
    pub(super) has_pieces: AtomicBool,
    /// The number of calls of [`Shared::was_emptied`].
    emptied: AtomicU64,
    /// The exchanges that wait until `h2` has written all it has.
    full: Mutex<Vec<Waker>>,
    /// The field `Date` of the current second.
    date: Mutex<Option<(u64, HeaderValue)>>,
}

impl Shared {
    pub(super) fn new(service: &Arc<Service>, state: &ConnectionState) -> Shared {
        Shared {
            service: service.clone(),
            timers: Arc::default(),
            origin: state.context.origin.clone(),
            tls: state.context.tls.clone(),
            trace: state.trace.clone(),
            must_close: AtomicBool::new(false),
            has_acted: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            has_pieces: AtomicBool::new(false),
            emptied: AtomicU64::new(0),
            full: Mutex::default(),
            date: Mutex::new(None),
        }
    }

    /// Records that `h2` has written all it had.
    pub(super) fn was_emptied(&self) {
        self.has_pieces.store(false, Ordering::Relaxed);
        self.emptied.fetch_add(1, Ordering::Relaxed);
        let full = std::mem::take(&mut *lock(&self.full));
        full.into_iter().for_each(Waker::wake);
    }

    fn date(&self) -> Option<HeaderValue> {
        let seconds = self.service.clock.unix_seconds();
        let mut date = lock(&self.date);
        if date.as_ref().is_none_or(|(known, _)| *known != seconds) {
            let text = http_date(seconds).to_string();
            *date = HeaderValue::try_from(text).ok().map(|value| (seconds, value));
        }
        date.as_ref().map(|(_, value)| value.clone())
    }

    /// The head of a response. Fields of a connection are left out (RFC 9113, 8.2.2).
    fn head(
        &self,
        status: StatusCode,
        fields: &[(HeaderName, HeaderValue)],
        length: BodyLength,
    ) -> http::Response<()> {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(fields.len() + 3);
        for (name, value) in fields.iter().filter(|(name, _)| !is_of_connection(name)) {
            headers.append(name, value.clone());
        }
        let config = &self.service.config;
        if config.server_header && !headers.contains_key(header::SERVER) {
            headers.insert(header::SERVER, const { HeaderValue::from_static("gearshift") });
        }
        if config.date_header
            && !headers.contains_key(header::DATE)
            && let Some(date) = self.date()
        {
            headers.insert(header::DATE, date);
        }
        if let BodyLength::Known(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// Whether the server decides about a field with this name, or HTTP/2 has none.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The whole response was given to `h2`.
    Whole,
    /// The response was cut short by the server, or there is none because of a forced stop.
    Cut,
    /// The peer has given up the request, or has left.
    Left,
}

/// An exchange that has ended. The connection completes it once the system has the last byte.
pub(super) struct Ended {
    pub(super) end: End,
    /// The tasks that run after the response. They begin when this is dropped.
    _after: Option<After>,
    record: Option<StreamRecord>,
    route: RouteName,
    status: Option<StatusCode>,
    bytes: u64,
}

impl Ended {
    /// Writes the line of the access log, and counts the request. `is_sent` is whether the system has the last byte of
    /// the response.
    pub(super) fn log(&mut self, is_sent: bool) {
        if let Some(record) = self.record.take() {
            record.end(self.route, self.status, self.bytes, is_sent && self.end == End::Whole);
        }
    }
}

/// The pieces of a response that were given to `h2`, since it had written all.
#[derive(Default)]
struct Pieces {
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

/// An exchange that has not ended. Dropping it cancels the request.
struct Exchange {
    shared: Arc<Shared>,
    context: Arc<Context>,
    deadline: Deadline,
    body: Option<Arc<RequestBody>>,
    record: Option<StreamRecord>,
    /// The route whose handler has answered.
    route: RouteName,
    /// The status of the response, once its head was given to `h2`.
    status: Option<StatusCode>,
    /// The number of bytes of the response's body that were given to `h2`.
    bytes: u64,
    pieces: Pieces,
    /// The waits for the windows of the peer.
    writing: MinRate,
    /// The time at which the current wait for a window began, and the bytes that all windows had admitted by then.
    waiting: Option<(Instant, u64)>,
    /// Whether the request counts as being in flight.
    is_busy: bool,
    is_over: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop_waiting();
        self.context.cancel.set();
        if let Some(body) = &self.body {
            body.end();
        }
        let service = &self.shared.service;
        if self.is_busy {
            service.counters().here().idle(0);
        }
        if !self.is_over {
            service.was_cut_if_forced();
            if let Some(record) = self.record.take() {
                record.end(self.route, self.status, self.bytes, false);
            }
        }
    }
}

/// Answers the request of a stream.
pub(super) async fn exchange(
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
) -> Ended {
    let (parts, stream) = request.into_parts();
    let service = shared.service.clone();
    let has_body = !stream.is_end_stream();
    let (request, meaning) = convert(&parts, has_body, &service.limits);
    let is_head = parts.method == http::Method::HEAD;
    drop(parts);
    let record = StreamRecord::begin(&shared.origin, &service, request.as_ref());
    let mut context =
        Context::new(shared.origin.clone(), service.runtime.clone(), Cancel::new(service.shutdown.clone()));
    context.tls = shared.tls.clone();
    let mut exchange = Exchange {
        deadline: Deadline::new(&shared.timers),
        shared: shared.clone(),
        context: Arc::new(context),
        body: None,
        record,
        route: RouteName::NONE,
        status: None,
        bytes: 0,
        pieces: Pieces::default(),
        writing: MinRate::default(),
        waiting: None,
        is_busy: false,
        is_over: false,
    };
    let respond = Arc::new(Mutex::new(respond));
    let (mut request, Meaning { facts, length }) = match (request, meaning) {
        (Some(request), Ok(meaning)) => (request, meaning),
        (_, meaning) => {
            drop(stream);
            return match meaning.err() {
                Some(Refused::Answered(error)) => exchange.refuse(&respond, error, is_head).await,
                _ => {
                    lock(&respond).send_reset(Reason::PROTOCOL_ERROR);
                    exchange.end(End::Left, None)
                }
            };
        }
    };
    if has_body {
        let awaits_continue = facts.expects_continue.then(|| respond.clone());
        let body = Arc::new(RequestBody::new(stream, length, awaits_continue, &shared.timers, &service));
        request.inner_mut().body = Body(BodyInner::Lease(body.clone()));
        exchange.body = Some(body);
    }
    request.inner_mut().context = Some(exchange.context.clone());
    exchange.is_busy = true;
    service.counters().here().busy();
    let trace = match RequestTrace::is_wanted() {
        true => RequestTrace::begin(&request, &shared.trace),
        false => RequestTrace::default(),
    };
    trace.around(exchange.run(request, &respond, facts)).await
}

impl Exchange {
    /// Calls the handler, and sends its response.
    async fn run(mut self, request: Request, respond: &Responder, facts: Facts) -> Ended {
        match self.call(request, respond).await {
            Some(response) => {
                self.route = RouteName::current();
                self.answer(respond, response, facts).await
            }
            None => self.end(End::Left, None),
        }
    }

    /// Calls the handler, and waits for its response. `None` if the peer has left.
    async fn call(&mut self, request: Request, respond: &Responder) -> Option<Contained<Response>> {
        let service = self.shared.service.clone();
        RouteName::NONE.enter();
        let since = service.clock.coarse();
        let answer = catch_unwind(AssertUnwindSafe(|| service.handler.call(request)));
        let route = RouteName::current();
        service.runtime.stalls().polled(since, service.clock.coarse(), route, 1);
        let (future, options) = match answer {
            Ok(Answer::Ready(response)) => return Some(Contained::new(response)),
            Ok(Answer::Later(future, options)) => (future, options),
            Err(panic) => return Some(without_close(panicked(route, panic))),
        };
        self.wait(Contained::new(future), options, route, respond).await
    }

    async fn wait(
        &mut self,
        mut future: Contained<BoxFuture<Response>>,
        options: RouteOptions,
        mut route: RouteName,
        respond: &Responder,
    ) -> Option<Contained<Response>> {
        let service = self.shared.service.clone();
        let policy = options.on_disconnect.unwrap_or(service.config.on_disconnect);
        let timeout = options.timeout.unwrap_or(service.config.handler_timeout);
        let mut late: Option<Extendable> = None;
        let outcome = poll_fn(|cx| {
            route.enter();
            let since = service.clock.coarse();
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            route = RouteName::current();
            match polled {
                Ok(Poll::Ready(response)) => {
                    let response = Contained::new(response);
                    service.runtime.stalls().polled(since, service.clock.coarse(), route, 1);
                    return Poll::Ready(Ok(response));
                }
                Ok(Poll::Pending) => {
                    service.runtime.stalls().polled(since, service.clock.coarse(), route, 1);
                }
                Err(panic) => return Poll::Ready(Ok(without_close(panicked(route, panic)))),
            }
            if policy != OnDisconnect::Ignore && lock(respond).poll_reset(cx).is_ready() {
                return Poll::Ready(Err(EndOfWait::PeerLeft));
            }
            let now = service.clock.now();
            let late = late.get_or_insert_with(|| Extendable::new(after(now, timeout)));
            // The time that the handler waits for the body does not count.
            let (reading, read_at) = self.body.as_ref().map_or((None, None), |body| body.waits());
            let begins = reading.filter(|at| *at > now).map_or(read_at, |_| Some(now));
            if let Some(at) = begins.map(|begins| after(begins, timeout)).filter(|at| *at > late.at) {
                *late = Extendable::new(at);
            }
            if late.has_passed(now, timeout) {
                return Poll::Ready(Err(EndOfWait::TimedOut));
            }
            self.deadline.set(late.at, cx.waker());
            Poll::Pending
        })
        .await;
        self.deadline.clear();
        match outcome {
            Ok(response) => Some(response),
            Err(EndOfWait::TimedOut) => {
                self.context.cancel.set();
                future.clear();
                Some(without_close(handler_timed_out(route)))
            }
            Err(EndOfWait::PeerLeft) => {
                self.context.cancel.set();
                if policy == OnDisconnect::Detach {
                    let rest = detached(future.take(), late.map(|late| late.at), route, &service);
                    service.runtime.spawn_at(carry(rest), TaskOrigin::Detached(route), true).detach();
                }
                None
            }
        }
    }

    /// Sends the response of the handler.
    async fn answer(mut self, respond: &Responder, mut response: Contained<Response>, facts: Facts) -> Ended {
        let service = self.shared.service.clone();
        let after = After::new(&service.runtime, response.take_after());
        if service.shutdown.phase() == Phase::Forced {
            // A forced stop fails the handler's reads and waits. The peer does not get a response that reports this.
            service.was_cut_if_forced();
            return self.end(End::Cut, Some(after));
        }
        // HTTP/2 has no upgrades (RFC 9113, 8.6).
        if let Some(upgrade) = response.take_upgrade() {
            discard(upgrade);
            if let Some(instead) = not_switched(&response) {
                response = Contained::new(instead);
            }
        }
        if let Some(status) = status_instead(response.status, facts) {
            response = Contained::new(Response::status_only(status));
        }
        if asks_to_close(&response.fields) {
            self.shared.must_close.store(true, Ordering::Release);
        }
        let end = self.send(respond, &mut response, facts).await;
        responds(response.status);
        service.counters().here().responded(response.status);
        match end {
            End::Whole if service.shutdown.is_requested() => service.answered(),
            End::Whole => {}
            _ => service.was_cut_if_forced(),
        }
        self.end(end, Some(after))
    }

    /// Sends the response to a request that the application does not see.
    async fn refuse(mut self, respond: &Responder, error: Error, is_head: bool) -> Ended {
        let text = error.to_string();
        let mut fields = vec![(header::CONTENT_TYPE, TEXT)];
        if error == Error::Overload {
            fields.push((header::RETRY_AFTER, HeaderValue::from(Error::RETRY_AFTER)));
        }
        self.shared.service.counters().rejected(error.status());
        let head = self.shared.head(error.status(), &fields, BodyLength::Known(text.len() as u64));
        let end = match self.begin(respond, head, is_head) {
            Ok(None) => End::Whole,
            Ok(Some(mut stream)) => {
                self.piece(&mut stream, text.into(), true).await.map_or_else(|end| end, |()| End::Whole)
            }
            Err(end) => end,
        };
        self.end(end, None)
    }

    /// Ends the exchange.
    fn end(mut self, end: End, after: Option<After>) -> Ended {
        self.is_over = true;
        self.shared.has_acted.store(true, Ordering::Release);
        Ended {
            end,
            _after: after,
            record: self.record.take(),
            route: self.route,
            status: self.status,
            bytes: self.bytes,
        }
    }

    async fn send(&mut self, respond: &Responder, response: &mut Response, facts: Facts) -> End {
        let body = std::mem::take(&mut response.body);
        let (body, mut source) = match body.0 {
            BodyInner::Empty => (Some(Bytes::new()), None),
            BodyInner::Full(bytes) => (Some(bytes), None),
            inner => {
                // The body of the request may still fail, which a status can report only before the head. Any body may
                // read a request that expects 100 Continue.
                let awaits_first = matches!(inner, BodyInner::Lease(_))
                    || self.body.as_ref().is_some_and(|body| body.awaits_continue());
                let mut source = Source::new(Body(inner));
                match if awaits_first { self.first(respond, &mut source).await } else { Ok(None) } {
                    Ok(None) => (None, Some(source)),
                    Ok(Some(instead)) => {
                        *response = instead;
                        match std::mem::take(&mut response.body).0 {
                            BodyInner::Full(bytes) => (Some(bytes), None),
                            _ => (Some(Bytes::new()), None),
                        }
                    }
                    Err(end) => return end,
                }
            }
        };
        if let Some(body) = &self.body {
            body.response_begins();
        }
        let length = match (&body, &source) {
            (Some(bytes), _) => Some(bytes.len() as u64),
            (None, source) => source.as_ref().and_then(Source::remaining),
        };
        let (announced, state) = ResponseState::after_head(response.status, &response.fields, length, facts);
        let head = self.shared.head(response.status, &response.fields, announced);
        let is_bodiless = matches!(state, ResponseState::Bodiless | ResponseState::Length(0));
        let mut stream = match self.begin(respond, head, is_bodiless) {
            Ok(None) => return End::Whole,
            Ok(Some(stream)) => stream,
            Err(end) => return end,
        };
        let sent = match (body, &mut source) {
            (Some(bytes), _) => self.piece(&mut stream, bytes, true).await,
            (None, Some(source)) => {
                let left = match state {
                    ResponseState::Length(left) => Some(left),
                    _ => None,
                };
                self.stream(&mut stream, source, left).await
            }
            (None, None) => Ok(()),
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

    /// Sends the head. Returns the stream if a body follows.
    fn begin(
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
    async fn piece(
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

    fn stop_waiting(&mut self) {
        if self.waiting.take().is_some() {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Records that `h2` gets something to send.
    fn acts(&self) {
        self.shared.has_acted.store(true, Ordering::Release);
    }
}

/// A response of the server itself without `Connection: close`: it ends its stream alone.
fn without_close(response: Response) -> Contained<Response> {
    Contained::new(response.remove_header(header::CONNECTION))
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
