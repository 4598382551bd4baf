//! HTTP/2 (RFC 9113), on backends whose threads do not block.
//!
//! The crate `h2` has the frames, the streams and their flow control. This module gives it the transport of the
//! connection (`wire`), and gives its requests to the handler (`exchange`). A connection is one task: `h2` and all
//! exchanges are polled in it, so the handlers of one connection run on one thread at a time.
//!
//! The driver begins HTTP/2 when the first bytes of a connection are its preface. Over TLS, `h2` must have been
//! negotiated. The head parser refuses the preface, so a request of HTTP/1.1 pays nothing for the decision.
//!
//! | what belongs to an exchange | |
//! | --- | --- |
//! | deadlines of the handler, of the body, and of a peer that does not take the response | the list of the connection: `timers` |
//! | cancellation | the `Context` of the exchange, which is cancelled by `RST_STREAM`, by the end of the connection, and at the end of the exchange |
//! | `after`, the line of the access log | once the system has the last byte of the response |
//!
//! | what ends a connection | how |
//! | --- | --- |
//! | no request within `header_timeout` since it was accepted; `keep_alive`, `max_age` and `max_requests`; a stop after the first request; `Connection: close` of a handler | `GOAWAY`; requests that have arrived are answered |
//! | more than `max_resets` requests that the peer has given up or whose handlers run on without it, or the floods that `h2` limits | `GOAWAY` with `ENHANCE_YOUR_CALM`, at once |
//! | a peer that violates the protocol | `GOAWAY`, at once |
//! | a peer that takes no bytes within `write_timeout` and `min_rate`; a forced stop | it is closed |
//! | a peer that ends its sending side | its requests are given up |
//!
//! A `GOAWAY` of the first kind is sent twice (RFC 9113, 6.8): the first allows all streams, so that a request that is
//! on the way is answered, and the second, after the reply of the peer to a `PING`, allows no more. A peer that does
//! not reply is given `linger` after its last response, and its requests are refused `linger` after the first.

mod body;
mod exchange;
mod request;
mod shared;
mod timers;
mod wire;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake};

use crate::conn::driver::ConnectionState;
use crate::conn::http2::exchange::{End, Ended, exchange};
use crate::conn::http2::request::max_section;
use crate::conn::http2::shared::Shared;
use crate::conn::http2::wire::{Half, Wire};
use crate::conn::io::Io;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::runtime::clock::after;
use crate::runtime::config::Config;
#[cfg(doc)]
use crate::runtime::config::OnDisconnect;
use crate::runtime::task::lock;

/// The number of streams that the peer may reset before the connection has seen them. `h2` counts these.
const MAX_PENDING_RESETS: usize = 20;
/// The maximum number of bytes that the lingering close reads and drops.
const MAX_LINGER: u64 = 1 << 20;

/// Whether the peers of a server with these settings may speak HTTP/2.
#[inline]
pub(crate) fn speaks_http2(config: &Config, threads_block: bool) -> bool {
    config.http2.enabled && !threads_block
}

/// A connection that speaks HTTP/2, from its preface to its end. It is ready when the connection has ended.
pub(crate) struct Http2(BoxFuture<()>);

impl Http2 {
    /// Begins HTTP/2 on a connection whose read buffer begins with the preface. Returns the connection if its peer may
    /// not speak HTTP/2.
    pub(crate) fn begin<T: Transport>(
        io: Box<Io<T>>,
        state: &ConnectionState,
        service: &Arc<Service>,
    ) -> Result<Http2, Box<Io<T>>> {
        if !speaks_http2(&service.config, service.threads_block()) || !state.context.tls.allows_http2() {
            return Err(io);
        }
        Ok(Http2(Box::pin(Session::new(*io, state, service))))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// See the [module](self).
struct Session<T: Transport> {
    // The exchanges are dropped before `h2`, and the transport last.
    exchanges: FuturesUnordered<BoxFuture<Ended>>,
    step: Step<T>,
    /// Exchanges that have ended, whose frames `h2` may not have written.
    ended: Vec<Ended>,
    /// Exchanges whose bytes were collected, with the position of the last one.
    collected: VecDeque<(u64, Ended)>,
    wire: Arc<Mutex<Wire<T>>>,
    shared: Arc<Shared>,
    service: Arc<Service>,
    timer: Option<(Instant, BoxFuture<()>)>,
    /// The number of requests.
    served: u64,
    /// The number of requests that the peer has given up, less the number of those that were answered.
    resets: u32,
    /// Deadline of the first request.
    first: Instant,
    /// The end of `Config::max_age`.
    expires: Instant,
    /// The time at which the connection was last without a request.
    idle_since: Instant,
    /// The time at which `GOAWAY` was queued.
    closing_since: Option<Instant>,
}

/// What the connection does.
enum Step<T: Transport> {
    Handshake(Handshake<Half<T>, Bytes>),
    Open(Connection<Half<T>, Bytes>),
    /// `h2` has ended. Exchanges that do not need the peer may run on.
    Over,
    /// The sending side was ended. The peer may still send: until this deadline, and this number of bytes.
    Linger(Instant, u64),
}

/// The result of [`Session::judge`].
enum Judged {
    /// The connection must end without another byte.
    Late,
    /// There is something to send, or the connection has ended.
    Acted,
    /// The earliest deadline.
    Wait(Instant),
}

impl<T: Transport> Session<T> {
    fn new(io: Io<T>, state: &ConnectionState, service: &Arc<Service>) -> Session<T> {
        let Io { transport, connection, deadlines, .. } = io;
        let config = &service.config;
        let wire = Wire::new(transport, connection.read_buffer, connection.write_queue, service);
        let wire = Arc::new(Mutex::new(wire));
        let mut builder = Builder::new();
        builder
            .initial_window_size(config.http2.stream_window)
            .initial_connection_window_size(config.http2.connection_window)
            .max_concurrent_streams(config.http2.max_streams)
            .max_header_list_size(max_section(&service.limits))
            .max_send_buffer_size(config.http2.send_buffer)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(Some(config.http2.max_resets as usize));
        let now = service.clock.now();
        let (coarse, forever) = (service.clock.coarse(), after(now, Duration::MAX));
        Session {
            exchanges: FuturesUnordered::new(),
            step: Step::Handshake(builder.handshake(Half(wire.clone()))),
            ended: Vec::new(),
            collected: VecDeque::new(),
            wire,
            shared: Arc::new(Shared::new(service, state)),
            service: service.clone(),
            timer: None,
            served: 0,
            resets: 0,
            first: deadlines.head.unwrap_or(forever),
            expires: after(now, state.expires.since(coarse)),
            idle_since: now,
            closing_since: None,
        }
    }

    /// Lets `h2` read and write, and begins the requests that have arrived.
    fn poll_h2(&mut self, cx: &mut Context<'_>) {
        loop {
            match &mut self.step {
                Step::Handshake(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Ready(Ok(connection)) => self.step = Step::Open(connection),
                    Poll::Ready(Err(error)) => self.failed(&error),
                    Poll::Pending => return,
                },
                Step::Open(connection) => match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, mut respond)))) => {
                        if self.is_past_the_end() {
                            respond.send_reset(Reason::REFUSED_STREAM);
                            self.resets = self.resets.saturating_add(1);
                            self.limit_resets();
                            continue;
                        }
                        if self.has_too_many_exchanges() {
                            self.calm();
                            continue;
                        }
                        self.served += 1;
                        self.exchanges.push(Box::pin(exchange(request, respond, self.shared.clone())));
                        if self.service.config.max_requests.is_some_and(|max| self.served >= max) {
                            self.close();
                        }
                    }
                    Poll::Ready(Some(Err(error))) => self.failed(&error),
                    Poll::Ready(None) => self.step = Step::Over,
                    Poll::Pending => return,
                },
                Step::Over | Step::Linger(..) => return,
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &h2::Error) {
        match self.shared.origin.peer {
            Some(peer) => log::debug!("HTTP/2 with {peer} has failed: {error}"),
            None => log::debug!("HTTP/2 has failed: {error}"),
        }
        // This tells the exchanges that the peer has left.
        self.step = Step::Over;
    }

    /// Polls the exchanges that can continue.
    fn poll_exchanges(&mut self, cx: &mut Context<'_>) {
        let had_exchanges = !self.exchanges.is_empty();
        while let Poll::Ready(Some(ended)) = self.exchanges.poll_next_unpin(cx) {
            match ended.end {
                End::Whole => self.resets = self.resets.saturating_sub(1),
                End::Left => self.resets = self.resets.saturating_add(1),
                End::Cut => {}
            }
            self.ended.push(ended);
        }
        if had_exchanges && self.exchanges.is_empty() {
            self.idle_since = self.service.clock.now();
        }
        self.limit_resets();
        if self.shared.must_close.load(Ordering::Acquire) {
            self.close();
        }
    }

    /// Whether requests are refused: the peer has not replied to the `PING` behind `GOAWAY` for [`Config::linger`].
    fn is_past_the_end(&self) -> bool {
        let Some(since) = self.closing_since else { return false };
        after(since, self.service.config.linger) <= self.service.clock.now()
    }

    /// Ends the connection if its peer has given up too many requests.
    fn limit_resets(&mut self) {
        if self.resets > self.service.config.http2.max_resets {
            self.calm();
            self.resets = 0;
        }
    }

    /// Whether too many requests run on that the peer has given up ([`OnDisconnect::Ignore`]). `h2` no longer counts
    /// their streams.
    fn has_too_many_exchanges(&self) -> bool {
        let limits = &self.service.config.http2;
        self.exchanges.len() >= limits.max_streams.saturating_add(limits.max_resets) as usize
    }

    /// Ends the connection at once, because its peer costs more than its requests need.
    fn calm(&mut self) {
        if let Step::Open(connection) = &mut self.step {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.shared.has_acted.store(true, Ordering::Release);
        }
    }

    /// Ends the connection after the requests that have arrived.
    fn close(&mut self) {
        if let Step::Open(connection) = &mut self.step
            && self.closing_since.is_none()
        {
            connection.graceful_shutdown();
            self.shared.has_acted.store(true, Ordering::Release);
            self.closing_since = Some(self.service.clock.now());
        }
    }

    /// Completes the exchanges whose bytes the system has.
    fn complete(&mut self) {
        let (collected, sent, is_blocked) = {
            let wire = lock(&self.wire);
            (wire.collected(), wire.sent, wire.is_blocked())
        };
        // Unless the wire is blocked, `h2` has written everything that the windows of the peer admit, and an exchange
        // gives it nothing else.
        if !is_blocked {
            self.collected.extend(self.ended.drain(..).map(|ended| (collected, ended)));
        }
        while self.collected.front().is_some_and(|(end, _)| *end <= sent)
            && let Some((_, mut ended)) = self.collected.pop_front()
        {
            ended.log(true);
        }
    }

    /// Judges the deadlines of the connection.
    fn judge(&mut self, now: Instant) -> Judged {
        let config = &self.service.config;
        let writing = lock(&self.wire).deadline();
        if writing.is_some_and(|at| at <= now) {
            return Judged::Late;
        }
        let is_idle = self.exchanges.is_empty() && self.ended.is_empty() && self.collected.is_empty();
        let (idle, age) = match (&self.step, self.closing_since) {
            (Step::Handshake(_), _) => (Some(self.first), None),
            (Step::Linger(until, _), _) => (Some(*until), None),
            (Step::Over, _) => (None, None),
            // A peer that has all responses has no more than `linger` to reply to the `PING`.
            (Step::Open(_), Some(since)) => (Some(after(since.max(self.idle_since), config.linger)), None),
            (Step::Open(_), None) if self.served == 0 => (Some(self.first), None),
            (Step::Open(_), None) => (Some(after(self.idle_since, config.keep_alive)), Some(self.expires)),
        };
        let idle = idle.filter(|_| is_idle);
        let is_stopping = age.is_some() && self.service.shutdown.is_requested();
        if !is_stopping && ![idle, age].into_iter().flatten().any(|at| at <= now) {
            let earliest = [writing, idle, age].into_iter().flatten().min();
            return Judged::Wait(earliest.unwrap_or_else(|| after(now, Duration::MAX)));
        }
        match self.step {
            Step::Handshake(_) | Step::Linger(..) => return Judged::Late,
            Step::Open(_) if self.closing_since.is_none() => self.close(),
            _ => self.step = Step::Over,
        }
        Judged::Acted
    }

    /// Sets the timer to `at`, unless it is set to an earlier time. Returns whether the timer has fired.
    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        if self.timer.as_ref().is_none_or(|(set, _)| at < *set) {
            self.timer = Some((at, self.service.runtime.sleep_until(at)));
        }
        self.has_timer_fired(cx)
    }

    fn has_timer_fired(&mut self, cx: &mut Context<'_>) -> bool {
        let has_fired = self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if has_fired {
            self.timer = None;
        }
        has_fired
    }

    /// Moves bytes until nothing can move. Ready if the connection has ended.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.shared.has_acted.store(false, Ordering::Release);
            self.poll_h2(cx);
            if self.shared.has_pieces.load(Ordering::Relaxed) && !lock(&self.wire).is_blocked() {
                self.shared.was_emptied();
            }
            self.poll_exchanges(cx);
            if !self.shared.has_acted.load(Ordering::Acquire) {
                break;
            }
        }
        let is_sent = match lock(&self.wire).poll_send(cx) {
            Poll::Ready(Err(_)) => {
                self.step = Step::Over;
                false
            }
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        self.complete();
        match &mut self.step {
            Step::Over if self.exchanges.is_empty() => {
                if lock(&self.wire).has_failed {
                    return Poll::Ready(());
                }
                if is_sent {
                    lock(&self.wire).shut_down(cx);
                    let until = after(self.service.clock.now(), self.service.config.linger);
                    self.step = Step::Linger(until, MAX_LINGER);
                    return self.poll_turn(cx);
                }
                Poll::Pending
            }
            Step::Linger(_, left) => lock(&self.wire).poll_linger(cx, left),
            _ => Poll::Pending,
        }
    }
}

impl<T: Transport> Future for Session<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.shared.timers.begin_turn();
        lock(&this.wire).begin_turn();
        let mut has_fired = this.has_timer_fired(cx);
        loop {
            if has_fired {
                this.shared.timers.wake_due(this.service.clock.now());
            }
            if this.poll_turn(cx).is_ready() {
                return Poll::Ready(());
            }
            // A deadline is judged after an attempt to move bytes.
            let earliest = match this.judge(this.service.clock.now()) {
                Judged::Late => return Poll::Ready(()),
                Judged::Acted => {
                    has_fired = false;
                    continue;
                }
                Judged::Wait(until) => until,
            };
            let requests = this.shared.timers.end_turn(cx.waker());
            let at = requests.map_or(earliest, |requests| requests.min(earliest));
            if !this.poll_timer(cx, at) {
                return Poll::Pending;
            }
            this.shared.timers.begin_turn();
            has_fired = true;
        }
    }
}

impl<T: Transport> Drop for Session<T> {
    fn drop(&mut self) {
        self.exchanges.clear();
        let unsent = self.collected.drain(..).map(|(_, ended)| ended);
        unsent.chain(self.ended.drain(..)).for_each(|mut ended| ended.log(false));
    }
}
