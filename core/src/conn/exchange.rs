//! One request and its response, where that takes more than a call: a body that is still on the wire, a response
//! that is streamed, a protocol that changes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{StatusCode, header};

use crate::conn::access::AccessLine;
use crate::conn::after::After;
use crate::conn::io::Io;
use crate::conn::lease::IoOwner;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::proto::body::{Body, Inner as BodyInner};
use crate::proto::into_response::IntoResponse;
use crate::proto::response::{Response, Upgrade};
use crate::runtime::config::OnDisconnect;
use crate::runtime::shutdown::Phase;
use crate::runtime::task::panic_message;

/// Bytes of a streamed response that are gathered before they are written.
const WRITE_AT: usize = 16 * 1024;
/// Bytes of one streamed response that are written before other connections have their turn.
const WRITTEN_A_TURN: usize = 1024 * 1024;

const CLOSE: http::HeaderValue = http::HeaderValue::from_static("close");

/// Sends a handler's response. `None` if the connection has ended, or is no longer HTTP.
pub(crate) async fn exchange<T: Transport>(
    mut owner: IoOwner<T>,
    service: Arc<Service>,
    mut response: Response,
    line: Option<AccessLine>,
) -> Option<Box<Io<T>>> {
    if service.shutdown.is_requested() {
        owner.with(|io| io.close_unless_more_came(&service));
    }
    let after = After::new(&service.runtime, response.take_after());
    if let Some(upgrade) = response.take_upgrade() {
        if owner.with(|io| io.connection.offers_upgrade()) {
            log_access(line, response.status, &service, true);
            return switch(owner, &service, response, upgrade).await;
        }
        response = upgrade_required(response);
    }
    let mut status = response.status;
    let sent = match response.body.0 {
        BodyInner::Empty | BodyInner::Full(_) => {
            owner.with(|io| io.connection.respond_in_place(&mut response, service.clock.unix_seconds()));
            Some(Streamed::Whole)
        }
        _ => stream(&mut owner, &service, response, &mut status).await,
    };
    log_access(line, status, &service, matches!(sent, Some(Streamed::Whole)));
    sent.map(|_| {
        let mut io = owner.take_back();
        io.then(after);
        io
    })
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
    owner: &mut IoOwner<T>,
    service: &Arc<Service>,
    response: Response,
    status: &mut StatusCode,
) -> Option<Streamed> {
    // Of the request's own body nothing can be sent before some of it is here; until then it can still turn out to be
    // none, which is better told by a status than by half a response. Reading it also asks for it, and 100 has to come
    // before the final response.
    let waits =
        matches!(response.body.0, BodyInner::Lease(_)) || owner.with(|io| io.connection.awaits_continue());
    let mut source = Source { body: response.body, state: SourceState::Open };
    if waits && let Some(mut response) = poll_fn(|cx| poll_first(owner, cx, service, &mut source)).await? {
        drop(source);
        *status = response.status;
        owner.with(|io| io.connection.respond_in_place(&mut response, service.clock.unix_seconds()));
        return Some(Streamed::Whole);
    }
    let length = source.remaining();
    let wants_body = owner.with(|io| {
        io.connection.respond(response.status, &response.fields, length, service.clock.unix_seconds())
    });
    if !wants_body {
        // The connection may be wanted for what its body holds a lease on.
        drop(source);
        return owner.with(|io| io.connection.finish()).ok().map(|()| Streamed::Whole);
    }
    let sent = poll_fn(|cx| poll_stream(owner, cx, service, &mut source)).await;
    if sent.is_none() {
        service.gave_up();
    }
    sent
}

/// Waits for the first piece, and gives the response to send instead if there is none. The connection is looked after
/// meanwhile; `None` if it has ended.
fn poll_first<T: Transport>(
    owner: &mut IoOwner<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Option<Option<Response>>> {
    if service.shutdown.phase() == Phase::Forced {
        service.was_cut();
        return Poll::Ready(None);
    }
    match source.poll_first(cx) {
        // A forced stop ends the reads of a body, which the body cannot tell from a failure of its peer.
        Poll::Ready(Some(_)) if service.shutdown.phase() == Phase::Forced => {
            service.was_cut();
            Poll::Ready(None)
        }
        Poll::Ready(instead) => Poll::Ready(Some(instead)),
        Poll::Pending => owner.poll_with(cx, |io, cx| io.poll_left(cx, service)).map(|()| {
            service.gave_up();
            None
        }),
    }
}

/// Ends the connection where its response breaks off: what was queued is still sent, whole responses among it.
fn break_off<T: Transport>(owner: &mut IoOwner<T>) -> Streamed {
    owner.with(|io| io.connection.close());
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
    owner: &mut IoOwner<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Option<Streamed>> {
    let limit = service.limits.output.max(1);
    let (mut gather, mut written) = (WRITE_AT, 0);
    while written < WRITTEN_A_TURN {
        if service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(None);
        }
        let mut starved = false;
        while !starved && owner.with(|io| io.connection.write_queue().len()) < gather {
            match source.poll_next(cx) {
                Poll::Ready(Some(Some(piece))) => {
                    if let Err(error) = owner.with(|io| io.connection.send(piece)) {
                        log::error!("a response was cut short: {error}");
                        return Poll::Ready(Some(break_off(owner)));
                    }
                }
                Poll::Ready(Some(None)) => {
                    let finished = owner.with(|io| io.connection.finish());
                    if let Err(error) = finished {
                        log::error!("a response was cut short: {error}");
                        return Poll::Ready(Some(break_off(owner)));
                    }
                    // What is left in the write_queue is the driver's to send.
                    return Poll::Ready(Some(Streamed::Whole));
                }
                Poll::Ready(None) if service.shutdown.phase() == Phase::Forced => return Poll::Ready(None),
                Poll::Ready(None) => return Poll::Ready(Some(break_off(owner))),
                Poll::Pending => starved = true,
            }
        }
        let queued = owner.with(|io| io.connection.write_queue().len());
        match owner.poll_with(cx, |io, cx| io.poll_flush(cx, service)) {
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Ready(Ok(())) if starved => {
                return owner.poll_with(cx, |io, cx| io.poll_left(cx, service)).map(|()| None);
            }
            Poll::Ready(Ok(())) => written += queued,
            Poll::Pending if starved || gather == limit => return Poll::Pending,
            Poll::Pending => gather = limit,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Hands the connection over to what it becomes.
async fn switch<T: Transport>(
    mut owner: IoOwner<T>,
    service: &Arc<Service>,
    response: Response,
    upgrade: Upgrade,
) -> Option<Box<Io<T>>> {
    owner.with(|io| {
        io.connection.switch(response.status, &response.fields, service.clock.unix_seconds());
    });
    poll_fn(|cx| owner.with(|io| io.poll_flush(cx, service))).await.ok()?;
    let mut io = *owner.take_back();
    let read_buffer = io.connection.read_buffer_mut();
    let early = read_buffer.take(read_buffer.len());
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
