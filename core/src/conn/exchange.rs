//! The exchange: sends a response that needs several polls.
//!
//! These are streamed responses, responses to requests whose body is still on the wire, upgrades, and responses with
//! tasks that run after them. The driver boxes the future of [`exchange`] for these responses. It sends all other
//! responses itself. An upgrade ends with the head of its response: the driver hands the connection over.

pub(crate) mod source;

use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{StatusCode, header};

use crate::conn::after::After;
use crate::conn::exchange::source::Source;
use crate::conn::io::{Closed, Io};
use crate::conn::lease::{IoOwner, poll_piece};
use crate::conn::maybe_trace::responds;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::proto::body::{BodyError, Inner as BodyInner, Part};
use crate::proto::into_response::IntoResponse;
use crate::proto::response::{Response, Upgrade};
use crate::runtime::contained::{Contained, discard, log_panic};
use crate::runtime::handle::before;
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::RouteName;

/// Bytes of a streamed response that are collected before they are written.
const MIN_WRITE: usize = 16 * 1024;

/// The number of pieces, each written before the next one is polled, after which a connection ends its turn.
const MAX_PIECES_PER_TURN: u32 = 64;

const CLOSE: http::HeaderValue = http::HeaderValue::from_static("close");

/// The connection after an exchange.
pub(crate) enum Exchanged<T> {
    /// The next request can be read.
    Http(Box<Io<T>>),
    /// The connection has left HTTP, and the function takes it over.
    Switched(Box<Io<T>>, Upgrade),
}

/// Sends the response of a handler. Bytes may be left in the write queue, for the driver to flush.
pub(crate) async fn exchange<T: Transport>(
    mut owner: IoOwner<T>,
    service: Arc<Service>,
    response: Response,
) -> Result<Exchanged<T>, Closed> {
    // A panic while a function returns leaks the value that it returns, which is the connection here.
    let mut response = Contained::new(response);
    owner.with(|io| io.has_body_reader = false);
    if service.keeps_no_connection() {
        owner.with(|io| io.close_unless_more_came(&service));
    }
    let after = After::new(&service.runtime, response.take_after());
    if let Some(upgrade) = response.take_upgrade() {
        if before_switch(&mut owner, &service, &mut response).await? {
            owner.with(|io| io.switch(&response, service.clock.unix_seconds()));
            count(response.status, &service, true);
            return switch(owner, &service, upgrade).await;
        }
        discard(upgrade);
    }
    owner.with(|io| {
        io.connection.replace_invalid(&mut response);
        io.body_holds_thread = response.body.holds_thread();
    });
    let sent = match response.body.0 {
        BodyInner::Empty | BodyInner::Full(_) => {
            respond_whole(&mut owner, &service, &mut response);
            Ok(true)
        }
        _ => stream(&mut owner, &service, &mut response).await,
    };
    count(response.status, &service, matches!(sent, Ok(true)));
    sent.inspect_err(|_| service.was_cut_if_forced())?;
    owner.take_back();
    let IoOwner::Own(mut io) = owner else { return Err(Closed) };
    io.body_holds_thread = false;
    io.spawn_after_flush(after);
    Ok(Exchanged::Http(io))
}

/// Returns the response for the handler of `route`, which has exceeded `Config::handler_timeout`: 503, after which the
/// connection closes.
pub(crate) fn handler_timed_out(route: RouteName) -> Response {
    match route.route() {
        Some(path) => log::warn!("{path} took too long, and was dropped"),
        // The application may have no router. If it has one, the access log has the request.
        None => log::warn!("a handler took too long, and was dropped"),
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response().with_header(header::CONNECTION, CLOSE)
}

/// Returns the rest of a handler whose peer has left. It ends at `deadline`.
pub(crate) fn detached(
    handler: BoxFuture<Response>,
    deadline: Option<Instant>,
    route: RouteName,
    service: &Service,
) -> impl Future<Output = ()> + Send + use<> {
    let (runtime, forced) = (service.runtime.clone(), service.shutdown.reached(Phase::Forced));
    async move {
        let late = async {
            match deadline {
                Some(deadline) => runtime.sleep_until(deadline).await,
                None => pending().await,
            }
        };
        match before(before(handler, forced), late).await {
            Some(Some(mut response)) => drop(After::new(&runtime, response.take_after())),
            Some(None) => {}
            None => log::warn!("{} took too long after its peer had left, and was dropped", route.name()),
        }
    }
}

/// Logs a panic of the handler of `route` and returns the response for it: 500, after which the connection closes.
pub(crate) fn panicked(route: RouteName, panic: Box<dyn std::any::Any + Send>) -> Response {
    match route.route() {
        Some(path) => log_panic(format_args!("the handler of {path}"), panic),
        None => log_panic("a handler", panic),
    }
    StatusCode::INTERNAL_SERVER_ERROR.into_response().with_header(header::CONNECTION, CLOSE)
}

/// Sends a response with a streamed body. Returns whether all of the body was queued: if the body has failed, the
/// connection closes after the queued bytes. If the body fails before its head is sent, `response` is replaced by an
/// error response, which is sent.
async fn stream<T: Transport>(
    owner: &mut IoOwner<T>,
    service: &Service,
    response: &mut Response,
) -> Result<bool, Closed> {
    // Two kinds of bodies are polled before the head is sent. The body of the request may still fail, which a status
    // can report only before the head. Any body may read a request that expects 100 Continue, and 100 must be sent
    // before the final response.
    let awaits_first = response.body.is_lease() || owner.with(|io| io.connection.awaits_continue());
    let mut source = Source::new(std::mem::take(&mut response.body));
    if awaits_first && let Some(instead) = poll_fn(|cx| poll_first(owner, cx, service, &mut source)).await? {
        drop(source);
        replace(response, instead);
        respond_whole(owner, service, response);
        return Ok(true);
    }
    if owner.is_unread() {
        owner.with(|io| io.connection.abandon_body());
    }
    let (length, seconds) = (source.remaining(), service.clock.unix_seconds());
    if !owner.with(|io| io.respond(response, length, seconds)) {
        // The body may hold a lease of the connection.
        drop(source);
        return owner.with(Io::finish).map(|()| true).map_err(|_| Closed);
    }
    poll_fn(|cx| poll_stream(owner, cx, service, &mut source)).await
}

/// Queues a response whose body is in memory. Nothing reads the rest of the request's body after this.
fn respond_whole<T: Transport>(owner: &mut IoOwner<T>, service: &Service, response: &mut Response) {
    owner.with(|io| {
        io.connection.abandon_body();
        io.respond_whole(response, service.clock.unix_seconds());
    });
}

/// Waits for the first piece of the body and watches the peer during the wait. Returns the response to send instead if
/// the body has failed.
fn poll_first<T: Transport>(
    owner: &mut IoOwner<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Result<Option<Response>, Closed>> {
    let first = source.poll_first(cx);
    // A forced stop fails the reads of request bodies. The peer does not get a response that reports this.
    if service.shutdown.phase() == Phase::Forced {
        return Poll::Ready(Err(Closed));
    }
    match first {
        Poll::Ready(instead) => Poll::Ready(Ok(instead)),
        Poll::Pending => owner.poll_with(cx, |io, cx| io.poll_peer_left(cx, service)).map(Err),
    }
}

/// Closes the connection after the queued bytes, which may contain complete earlier responses.
fn break_off<T: Transport>(owner: &mut IoOwner<T>) -> Poll<Result<bool, Closed>> {
    owner.with(|io| {
        io.is_cut = true;
        io.connection.close();
    });
    Poll::Ready(Ok(false))
}

/// Moves the body to the peer. The body is polled until [`Limits::output`](crate::Limits::output) bytes are queued,
/// even while the peer receives nothing. A body that reads the request therefore still reads from a peer that sends
/// everything before it receives. A body that holds its thread is polled only when its last piece is written.
fn poll_stream<T: Transport>(
    owner: &mut IoOwner<T>,
    cx: &mut Context<'_>,
    service: &Service,
    source: &mut Source,
) -> Poll<Result<bool, Closed>> {
    let limit = service.limits.output.max(1);
    let mut max_queued = if source.holds_thread { limit } else { MIN_WRITE };
    let mut written_pieces = 0;
    loop {
        if service.shutdown.phase() == Phase::Forced {
            // A poll that has blocked until the stop may have returned the last piece, which is then written.
            let is_sent =
                owner.with(|io| io.connection.is_response_whole() && io.connection.write_queue.is_empty());
            let sent =
                if is_sent { owner.with(Io::finish).map(|()| true).map_err(|_| Closed) } else { Err(Closed) };
            return Poll::Ready(sent);
        }
        let mut starved = false;
        while !starved && owner.with(|io| io.connection.write_queue.len()) < source.max_queued(max_queued) {
            let (is_end, sent) = match source.poll_next(cx) {
                Poll::Ready(Some(Some(Part::Data(piece)))) => (false, owner.with(|io| io.send(piece))),
                Poll::Ready(Some(Some(Part::Trailers(trailers)))) => {
                    (true, owner.with(|io| io.finish_with_trailers(&trailers)))
                }
                Poll::Ready(Some(None)) => (true, owner.with(Io::finish)),
                Poll::Ready(None) if service.shutdown.phase() == Phase::Forced => {
                    return Poll::Ready(Err(Closed));
                }
                Poll::Ready(None) => return break_off(owner),
                Poll::Pending => {
                    starved = true;
                    continue;
                }
            };
            if let Err(error) = sent {
                log::error!("a response was cut short: {error}");
                return break_off(owner);
            }
            if is_end {
                // The driver flushes the rest of the write queue.
                return Poll::Ready(Ok(true));
            }
        }
        match owner.poll_with(cx, |io, cx| io.poll_flush(cx, service))? {
            Poll::Ready(()) if starved => {
                return owner.poll_with(cx, |io, cx| io.poll_peer_left(cx, service)).map(Err);
            }
            Poll::Ready(()) if source.holds_thread => {
                written_pieces += 1;
                if written_pieces >= MAX_PIECES_PER_TURN {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Poll::Ready(()) => {}
            Poll::Pending if starved || max_queued == limit || owner.with(|io| io.has_yielded) => {
                return Poll::Pending;
            }
            Poll::Pending => max_queued = limit,
        }
    }
}

/// Waits for the end of a request that `response` answers with an upgrade. The new protocol begins after the body, so a
/// body that the handler has not read is read and dropped. Returns whether the response is an upgrade. It is replaced
/// by the response to send instead if the request does not allow the upgrade or its body fails.
async fn before_switch<T: Transport>(
    owner: &mut IoOwner<T>,
    service: &Service,
    response: &mut Response,
) -> Result<bool, Closed> {
    if !owner.with(|io| io.connection.may_switch(response.status, &response.fields)) {
        if let Some(instead) = not_switched(response) {
            replace(response, instead);
        }
        return Ok(false);
    }
    // A task may still read the body.
    owner.take_back();
    let IoOwner::Own(io) = owner else { return Err(Closed) };
    io.begin_drain();
    let limit = service.limits.drain;
    let mut left = limit;
    loop {
        // A body that is too large is not asked for by `100 Continue`.
        let piece = match io.connection.body_remaining() {
            Some(remaining) if remaining > left => Some(Err(BodyError::TooLarge { limit })),
            _ => poll_fn(|cx| or_cut(poll_piece(io, cx, cx.waker(), service).map(Ok), service)).await?,
        };
        let error = match piece {
            None => return Ok(true),
            Some(Ok(Part::Trailers(_))) => continue,
            Some(Ok(Part::Data(data))) if data.len() as u64 <= left => {
                left -= data.len() as u64;
                continue;
            }
            Some(Ok(Part::Data(_))) => BodyError::TooLarge { limit },
            Some(Err(error)) => error,
        };
        let instead = io.connection.break_body(error).into_response();
        replace(response, instead);
        return Ok(false);
    }
}

/// Sets `response` to `instead`. A panic while the values of the old response are dropped is logged.
pub(crate) fn replace(response: &mut Response, instead: Response) {
    discard(std::mem::replace(response, instead));
}

/// Sends the head of an upgrade, which is queued.
async fn switch<T: Transport>(
    mut owner: IoOwner<T>,
    service: &Service,
    upgrade: Upgrade,
) -> Result<Exchanged<T>, Closed> {
    let flush = |io: &mut Io<T>, cx: &mut Context<'_>| io.poll_flush(cx, service).map_err(Closed::from);
    poll_fn(|cx| or_cut(owner.poll_with(cx, flush), service)).await?;
    match owner {
        IoOwner::Own(io) => Ok(Exchanged::Switched(io, upgrade)),
        _ => Err(Closed),
    }
}

/// Ends a wait after a forced stop. The request then counts as cut.
fn or_cut<R>(polled: Poll<Result<R, Closed>>, service: &Service) -> Poll<Result<R, Closed>> {
    if service.shutdown.phase() != Phase::Forced {
        return polled;
    }
    service.was_cut_if_forced();
    Poll::Ready(Err(Closed))
}

/// Returns the response to send instead of an upgrade that the request does not allow. For a protocol that the peer has
/// not offered this is 426, with the protocol that the application requires (RFC 9110, 15.5.22). `None` if `response`
/// has a status that needs no upgrade. A tunnel has no `Upgrade`.
pub(crate) fn not_switched(response: &Response) -> Option<Response> {
    let is_tunnel = response.fields.iter().all(|(name, _)| *name != header::UPGRADE);
    let status = match response.status {
        StatusCode::SWITCHING_PROTOCOLS => StatusCode::UPGRADE_REQUIRED,
        status if status.is_success() && is_tunnel => {
            log::error!("a handler answered a request that is not a CONNECT with a tunnel");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => return None,
    };
    let mut instead = status.into_response();
    instead.fields.extend(response.fields.iter().filter(|(name, _)| *name == header::UPGRADE).cloned());
    Some(instead)
}

/// Counts a response. `is_whole` is whether all of its body was queued.
pub(crate) fn count(status: StatusCode, service: &Service, is_whole: bool) {
    responds(status);
    service.counters().here().responded(status);
    if is_whole && service.shutdown.is_requested() {
        service.answered();
    }
}
