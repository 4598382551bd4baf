//! One request and its response, where that takes more than a call: a body that is still on the wire, a response
//! that is streamed, a protocol that changes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{StatusCode, header};

use crate::access::AccessLine;
use crate::after::After;
use crate::io::{Io, Verdict};
use crate::lease::Lease;
use crate::message::{BodyInner, Upgrade};
use crate::service::Service;
use crate::shutdown::Phase;
use crate::task::panic_message;
use crate::transport::Transport;
use crate::{Answer, Body, BoxFuture, IntoResponse, OnDisconnect, Response};

/// Bytes of a streamed response that are gathered before they are written.
const WRITE_AT: usize = 16 * 1024;
/// Writes of one streamed response before other connections have their turn.
const WRITES_A_TURN: usize = 32;

const CLOSE: http::HeaderValue = http::HeaderValue::from_static("close");

/// Who has the connection meanwhile.
#[expect(clippy::large_enum_variant, reason = "there is one in an exchange, which is boxed itself")]
pub(crate) enum Hold<T> {
    /// This exchange alone.
    Own(Io<T>),
    /// The request's body as well.
    Lent(Arc<Lease<T>>),
}

impl<T: Transport> Hold<T> {
    fn with<R>(&mut self, act: impl FnOnce(&mut Io<T>) -> R) -> R {
        match self {
            Hold::Own(io) => act(io),
            Hold::Lent(lease) => lease.with(act).expect("the lease ends with the exchange"),
        }
    }

    fn take_back(self) -> Io<T> {
        match self {
            Hold::Own(io) => io,
            Hold::Lent(lease) => lease.take_back().expect("the lease ends with the exchange"),
        }
    }
}

/// Waits for the response and sends it. `None` if the connection has ended, or is no longer HTTP.
pub(crate) async fn exchange<T: Transport>(
    mut hold: Hold<T>,
    service: Arc<Service>,
    answer: Answer,
    line: Option<AccessLine>,
) -> Option<Io<T>> {
    let policy = service.config.on_disconnect;
    let response = match answer {
        Answer::Ready(response) => Some(response),
        Answer::Later(future) => wait(&mut hold, &service, future, policy).await,
        Answer::Kept(future, policy) => wait(&mut hold, &service, future, policy).await,
    };
    let Some(mut response) = response else {
        // A handler that goes on without its peer may hold the body, but not the connection.
        drop(hold.take_back());
        return None;
    };
    hold.with(Io::handler_ends);
    if T::BLOCKING && service.shutdown.phase() == Phase::Forced {
        // The waits of a thread were ended, and what its handler says of that is not for the peer.
        service.was_cut();
        return None;
    }
    if service.shutdown.is_requested() {
        hold.with(|io| io.close_unless_more_came(&service));
    }
    let after = After::new(&service.runtime, response.take_after());
    if let Some(upgrade) = response.take_upgrade() {
        if hold.with(|io| io.connection.offers_upgrade()) {
            log_access(line, response.status, &service, true);
            return switch(hold, &service, response, upgrade).await;
        }
        response = upgrade_required(response);
    }
    let mut status = response.status;
    let sent = match response.body.0 {
        BodyInner::Empty | BodyInner::Full(_) => {
            hold.with(|io| io.connection.respond_whole(response, service.clock.unix_seconds()));
            Some(Streamed::Whole)
        }
        _ => stream(&mut hold, &service, response, &mut status).await,
    };
    log_access(line, status, &service, matches!(sent, Some(Streamed::Whole)));
    sent.map(|_| {
        let mut io = hold.take_back();
        io.then(after);
        io
    })
}

/// Waits for a handler's response. `None` if the peer has left, or the server was stopped by force.
async fn wait<T: Transport>(
    hold: &mut Hold<T>,
    service: &Service,
    mut future: BoxFuture<Response>,
    policy: OnDisconnect,
) -> Option<Response> {
    let waited = poll_fn(|cx| {
        if service.shutdown.phase() == Phase::Forced {
            service.was_cut();
            return Poll::Ready(Ok(None));
        }
        match poll_caught(&mut future, cx) {
            Poll::Ready(response) => Poll::Ready(Ok(Some(response))),
            Poll::Pending => hold.with(|io| io.poll_watch(cx, service, policy)).map(Err),
        }
    })
    .await;
    match waited {
        Ok(response) => response,
        Err(Verdict::Late) => Some(late()),
        Err(Verdict::Gone) => {
            give_up(future, policy, service);
            service.gave_up();
            None
        }
    }
}

/// Does with a handler's future what is to be done with it, now that its peer has left.
pub(crate) fn give_up(future: BoxFuture<Response>, policy: OnDisconnect, service: &Service) {
    if policy == OnDisconnect::Detach {
        service.runtime.spawn(async move { drop(future.await) }).detach();
    }
}

/// 503, then the connection closes.
pub(crate) fn late() -> Response {
    log::warn!("a handler took too long, and was dropped");
    StatusCode::SERVICE_UNAVAILABLE.into_response().with_value(header::CONNECTION, CLOSE)
}

/// Polls a handler; a panic becomes the response that tells of it.
fn poll_caught(future: &mut BoxFuture<Response>, cx: &mut Context<'_>) -> Poll<Response> {
    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(panic) => Poll::Ready(panicked(&*panic)),
    }
}

/// 500, then the connection closes.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    log::error!("a handler panicked: {}", panic_message(panic));
    StatusCode::INTERNAL_SERVER_ERROR.into_response().with_value(header::CONNECTION, CLOSE)
}

/// How far the body of a response came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streamed {
    /// To its end.
    Whole,
    /// Its source failed. The connection closes behind what was queued.
    BrokenOff,
}

/// Sends a response whose body is not at hand, or another one if that fails before anything is sent. `None` if the
/// connection has to be cut.
async fn stream<T: Transport>(
    hold: &mut Hold<T>,
    service: &Arc<Service>,
    response: Response,
    status: &mut StatusCode,
) -> Option<Streamed> {
    // Of the request's own body nothing can be sent before some of it is here; until then it can still turn out to be
    // none, which is better told by a status than by half a response. Reading it also asks for it, and 100 has to come
    // before the final response.
    let waits =
        matches!(response.body.0, BodyInner::Lease(_)) || hold.with(|io| io.connection.awaits_continue());
    let mut source = Source { body: response.body, state: SourceState::Open };
    if waits && let Some(response) = poll_fn(|cx| poll_first(hold, cx, service, &mut source)).await? {
        drop(source);
        *status = response.status;
        hold.with(|io| io.connection.respond_whole(response, service.clock.unix_seconds()));
        return Some(Streamed::Whole);
    }
    let length = source.remaining();
    let wants_body = hold.with(|io| {
        io.connection.respond(response.status, &response.fields, length, service.clock.unix_seconds())
    });
    if !wants_body {
        // The connection may be wanted for what its body holds a lease on.
        drop(source);
        return hold.with(|io| io.connection.finish()).ok().map(|()| Streamed::Whole);
    }
    let sent = poll_fn(|cx| poll_stream(hold, cx, service, &mut source)).await;
    if sent.is_none() {
        service.gave_up();
    }
    sent
}

/// Waits for the first piece, and gives the response to send instead if there is none. The connection is looked after
/// meanwhile; `None` if it has ended.
fn poll_first<T: Transport>(
    hold: &mut Hold<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Option<Option<Response>>> {
    if service.shutdown.phase() == Phase::Forced {
        service.was_cut();
        return Poll::Ready(None);
    }
    match source.poll_first(cx) {
        // A stop by force ends the waits of a thread, which the body cannot tell from its peer's failure.
        Poll::Ready(Some(_)) if service.shutdown.phase() == Phase::Forced => {
            service.was_cut();
            Poll::Ready(None)
        }
        Poll::Ready(instead) => Poll::Ready(Some(instead)),
        Poll::Pending => hold.with(|io| io.poll_left(cx, service)).map(|()| {
            service.gave_up();
            None
        }),
    }
}

/// Ends the connection where its response breaks off: what was queued is still sent, whole responses among it.
fn break_off<T: Transport>(hold: &mut Hold<T>) -> Streamed {
    hold.with(|io| io.connection.close());
    Streamed::BrokenOff
}

/// A response body being sent.
struct Source {
    body: Body,
    state: SourceState,
}

enum SourceState {
    Open,
    /// A piece that was asked for before the head was sent.
    First(bytes::Bytes),
    Ended,
}

impl Source {
    /// How many bytes are to be sent, if that is known.
    fn remaining(&self) -> Option<u64> {
        match &self.state {
            SourceState::Open => self.body.remaining(),
            SourceState::First(piece) => self.body.remaining().map(|rest| rest + piece.len() as u64),
            SourceState::Ended => Some(0),
        }
    }

    /// Asks for a piece and keeps it. If the body fails: what the peer is told instead.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
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

    /// The next piece; `Some(None)` at the end, `None` if the body failed or panicked.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<bytes::Bytes>>> {
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

/// Moves the body to the peer. Reading from the body and writing to the peer go on independently, within
/// [`Limits::output`](crate::Limits::output): a peer that sends while it does not read is still read from.
fn poll_stream<T: Transport>(
    hold: &mut Hold<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Option<Streamed>> {
    // A blocking body may wait inside for the peer, who may wait for what was queued.
    let mut gather = if T::BLOCKING { 1 } else { WRITE_AT };
    let turns = if T::BLOCKING { usize::MAX } else { WRITES_A_TURN };
    for _ in 0..turns {
        if service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(None);
        }
        let mut starved = false;
        while !starved && hold.with(|io| io.connection.outbox().len()) < gather {
            match source.poll_next(cx) {
                Poll::Ready(Some(Some(piece))) => {
                    if let Err(error) = hold.with(|io| io.connection.send(piece)) {
                        log::error!("a response was cut short: {error}");
                        return Poll::Ready(Some(break_off(hold)));
                    }
                }
                Poll::Ready(Some(None)) => {
                    let finished = hold.with(|io| io.connection.finish());
                    if let Err(error) = finished {
                        log::error!("a response was cut short: {error}");
                        return Poll::Ready(Some(break_off(hold)));
                    }
                    // What is left in the outbox is the driver's to send.
                    return Poll::Ready(Some(Streamed::Whole));
                }
                // A stop by force ends the waits of a thread, which the body cannot tell from its peer's failure.
                Poll::Ready(None) if service.shutdown.phase() == Phase::Forced => return Poll::Ready(None),
                Poll::Ready(None) => return Poll::Ready(Some(break_off(hold))),
                Poll::Pending => starved = true,
            }
        }
        match hold.with(|io| io.poll_flush(cx, service)) {
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Ready(Ok(())) if starved => {
                return hold.with(|io| io.poll_left(cx, service)).map(|()| None);
            }
            Poll::Ready(Ok(())) => {}
            Poll::Pending if starved || gather == service.limits.output => return Poll::Pending,
            Poll::Pending => gather = service.limits.output,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Hands the connection over to what it becomes.
async fn switch<T: Transport>(
    mut hold: Hold<T>,
    service: &Arc<Service>,
    response: Response,
    upgrade: Upgrade,
) -> Option<Io<T>> {
    hold.with(|io| {
        io.connection.switch(response.status, &response.fields, service.clock.unix_seconds());
    });
    poll_fn(|cx| hold.with(|io| io.poll_flush(cx, service))).await.ok()?;
    let mut io = hold.take_back();
    let inbox = io.connection.inbox_mut();
    let early = inbox.take(inbox.len());
    io.transport.set_deadline(None);
    match io.transport.into_stream() {
        Ok(stream) => service.runtime.spawn(upgrade(stream.with_early(early))).detach(),
        Err(error) => log::error!("a connection could not be handed over: {error}"),
    }
    None
}

/// 426 (RFC 9110, 15.5.22), with the protocol that was to be spoken.
fn upgrade_required(response: Response) -> Response {
    let mut required = StatusCode::UPGRADE_REQUIRED.into_response();
    required.fields.extend(response.fields.into_iter().filter(|(name, _)| *name == header::UPGRADE));
    required
}

/// Says how a request was answered, and counts it.
fn log_access(line: Option<AccessLine>, status: StatusCode, service: &Service, is_whole: bool) {
    service.counters().here().responded(status);
    if is_whole && service.shutdown.is_requested() {
        service.answered();
    }
    if let Some(line) = line {
        line.log(status);
    }
}
