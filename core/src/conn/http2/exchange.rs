//! One request on a stream, and its response.
//!
//! An exchange has what a connection of HTTP/1.1 has for its current request: the deadlines, the cancellation, and the
//! place in the counters and in the access log. It ends with its response, or when the peer gives it up (`RST_STREAM`,
//! or the end of the connection). All exchanges of a connection are polled in one task.

mod sending;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::conn::access::StreamRecord;
use crate::conn::after::After;
use crate::conn::cancel::Cancel;
use crate::conn::context::Context;
use crate::conn::deadlines::Extendable;
use crate::conn::exchange::{count, detached, handler_timed_out, not_switched, panicked};
use crate::conn::handler::{Answer, RouteOptions};
use crate::conn::http2::body::{RequestBody, Responder};
use crate::conn::http2::exchange::sending::Pieces;
use crate::conn::http2::request::{Meaning, Refused, convert};
use crate::conn::http2::shared::Shared;
use crate::conn::http2::timers::Deadline;
use crate::conn::liveness::EndOfWait;
use crate::conn::maybe_trace::RequestTrace;
use crate::conn::min_rate::MinRate;
use crate::proto::body::{Body, Inner as BodyInner};
use crate::proto::encode::BodyLength;
use crate::proto::error::Error;
use crate::proto::framing::Facts;
use crate::proto::request::Request;
use crate::proto::response::{Response, TEXT};
use crate::proto::response_state::{asks_to_close, status_instead};
use crate::proto::{BoxFuture, carry};
use crate::runtime::clock::after;
use crate::runtime::config::OnDisconnect;
use crate::runtime::contained::{Contained, discard};
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::{Origin as TaskOrigin, RouteName};
use crate::runtime::task::lock;

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
            service.runtime.stalls().polled(since, service.clock.coarse(), route, 1);
            match polled {
                Ok(Poll::Ready(response)) => return Poll::Ready(Ok(Contained::new(response))),
                Ok(Poll::Pending) => {}
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
        count(response.status, &service, end == End::Whole);
        if end != End::Whole {
            service.was_cut_if_forced();
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
}

/// A response of the server itself without `Connection: close`: it ends its stream alone.
fn without_close(response: Response) -> Contained<Response> {
    Contained::new(response.remove_header(header::CONNECTION))
}
