//! The driver of a connection: it joins the sans-IO [`Connection`], a [`Transport`] and a handler.
//!
//! All backends use this driver. It therefore owns the behaviour that must be equal on all of them: pipelining, panics,
//! the lingering close, shutdown, and fairness among connections. The responses to pipelined requests leave together,
//! once the read buffer holds no further complete request.
//!
//! [`Driving`] is a hand-written future rather than an `async fn`, so that an idle connection needs no more memory than
//! its state. The state that only some requests need is in the future of [`exchange`](super::exchange), which is boxed
//! when such a request occurs.
//!
//! An event loop parks every connection whose poll returns `Pending`. A thread of a blocking backend keeps a pending
//! connection while [`Driving::is_handling`] returns true.
//!
//! [`Driving`] contains the panics of the application: neither its poll nor its drop panics because of a handler, a
//! body, or a value that one of them leaves.
//!
//! A turn is one call of `poll`. The connection is in one [`Step`] at a time; the table of the steps is in `step`.

mod blocking;
mod handling;
mod proxied;
mod step;
mod transfer;

use std::any::Any;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::conn::cancel::Cancel;
use crate::conn::client::Origin;
use crate::conn::context::{self, Peer};
use crate::conn::driver::proxied::has_header;
use crate::conn::driver::step::{AfterFlush, Step};
use crate::conn::exchange::{Exchanged, panicked};
use crate::conn::io::{Closed, Io};
use crate::conn::lease::{IoOwner, Lease};
use crate::conn::maybe_http2::Http2;
use crate::conn::maybe_tls::{MaybeTls, encrypt, plain};
use crate::conn::maybe_trace::{ConnectionTrace, RequestTrace};
use crate::conn::service::{ConnectionGuard, Service};
use crate::conn::tally::Tally;
use crate::conn::transport::Transport;
use crate::conn::upgraded::hand_over;
use crate::proto::connection::Event;
use crate::proto::error::Error;
use crate::proto::read_buffer::ReadBuffer;
use crate::runtime::clock::CoarseInstant;
use crate::runtime::contained::discard;
use crate::runtime::park::{EventLoopRole, StreamingRole};
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::RouteName;

/// The beginning of the preface of HTTP/2 (RFC 9113, 3.4), which has the form of a request line.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Serves a connection that was just accepted. The returned future is ready when the connection has ended.
///
/// `peer` is the address of the peer, `None` on a Unix socket. The connection counts as open until the future is
/// dropped, or until the stream is dropped that an upgrade has made of the connection. If
/// [`Config::max_connections`](crate::Config::max_connections) is exceeded and the overload policy is to refuse, the
/// future sends 503 and closes the connection.
pub fn drive<T: Transport>(transport: T, peer: Peer, service: &Arc<Service>) -> Driving<T> {
    let now = service.clock.coarse();
    let (guard, has_room) = service.enter();
    let cancel = Cancel::new(service.shutdown.clone());
    // The socket of `[::]` reports the address of an IPv4 peer as an IPv6 address.
    let peer = peer.map(|peer| match peer.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, peer.port())),
        IpAddr::V6(_) => peer,
    });
    let origin = Origin::new(peer, service.config.tls.is_some(), &service.config);
    let state = ConnectionState {
        guard,
        context: Arc::new(context::Context::new(origin, service.runtime.clone(), cancel)),
        trace: ConnectionTrace::new(peer),
        served: 0,
        expires: now.after(service.config.max_age),
    };
    let has_header = has_header(peer, &service.config);
    let mut transport = plain(transport);
    if !has_header {
        encrypt(&mut transport, &mut ReadBuffer::new(), &state.context, &service.config);
    }
    let mut io = Box::new(Io::new(transport, &state.context.origin, service));
    let mut step = if has_header { Step::ProxyHeader } else { Step::Next };
    if !has_room {
        service.was_refused();
        io.refuse(Error::Overload, service);
        step = Step::Flush(AfterFlush::Close);
    }
    Driving {
        io: IoOwner::Own(io),
        state: Some(state),
        service: service.clone(),
        lease: None,
        step,
        turn: Tally::default(),
        route: RouteName::NONE,
        trace: RequestTrace::default(),
        seconds: 0,
        since: now,
        is_calling: false,
    }
}

/// The future of one connection, created by [`drive()`]. Dropping it closes the connection and cancels its handler.
#[must_use = "a connection is served only while its future is polled"]
pub struct Driving<T> {
    io: IoOwner<MaybeTls<T>>,
    /// The ended lease of an earlier request. The next request uses its allocation again.
    lease: Option<Arc<Lease<MaybeTls<T>>>>,
    /// `None` once the connection has ended or has left HTTP.
    state: Option<ConnectionState>,
    service: Arc<Service>,
    step: Step<MaybeTls<T>>,
    /// The requests that were answered since the last flush.
    turn: Tally,
    /// The route of the handler in `Step::Handle`, or of the response in `Step::Exchange`, for the stall detector.
    route: RouteName,
    /// The span of the request whose handler or response is pending.
    trace: RequestTrace,
    /// The Unix time in seconds that was read in this turn; 0 if none was.
    seconds: u64,
    /// The last reading of the clock. On an event loop, the stall detector has charged the handlers for the time
    /// before.
    since: CoarseInstant,
    /// Whether `Handler::call` is running. A panic during the call is a panic of the handler.
    is_calling: bool,
}

/// The state of a connection that is independent of its transport.
pub(crate) struct ConnectionState {
    pub(crate) guard: ConnectionGuard,
    /// The values that the connection shares with its requests.
    pub(crate) context: Arc<context::Context>,
    /// The span of the connection.
    pub(crate) trace: ConnectionTrace,
    /// The number of requests for which the handler was called.
    served: u64,
    /// The end of `Config::max_age`. A later response is the last of the connection.
    pub(crate) expires: CoarseInstant,
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        self.context.cancel.set();
    }
}

impl<T> Unpin for Driving<T> {}

impl<T: Transport> Future for Driving<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(state) = &mut this.state else { return this.poll_detached(cx) };
        state.guard.register_task(cx);
        if this.service.shutdown.phase() == Phase::Forced {
            match &this.step {
                Step::Handle(..) | Step::Prepare(..) => this.service.was_cut_if_forced(),
                Step::Read if this.io.with(|io| io.connection.is_head_begun()) => this.service.was_refused(),
                _ => {}
            }
            if !matches!(this.step, Step::Exchange(..)) {
                return this.end(cx);
            }
        }
        this.seconds = 0;
        let threads_block = this.service.threads_block();
        if !threads_block {
            this.since = this.service.clock.coarse();
        }
        let _role = EventLoopRole::enter(!threads_block);
        loop {
            // One `catch_unwind` covers all requests of a turn, because it costs time.
            let recovered = match catch_unwind(AssertUnwindSafe(|| this.run(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(closed)) => Err(closed),
                Err(panic) => this.recover(panic),
            };
            if recovered.is_err() {
                return this.end(cx);
            }
        }
    }
}

impl<T> Driving<T> {
    /// Whether the future of a handler is pending, or the response that holds its thread is not sent
    /// ([`Body::holding_thread`](crate::Body::holding_thread)). A pending connection of a blocking backend keeps its
    /// thread while this returns true. After the connection was closed it returns true for a handler that was detached
    /// ([`OnDisconnect::Detach`](crate::OnDisconnect::Detach)).
    #[inline]
    pub fn is_handling(&self) -> bool {
        matches!(self.step, Step::Handle(..) | Step::Exchange(_, true) | Step::Detached(_))
    }

    /// Drops everything that belongs to the connection. A detached handler stays.
    fn close(&mut self) {
        // The step may hold the handler's future, which is dropped before the transport.
        if !matches!(self.step, Step::Detached(_)) {
            let trace = std::mem::take(&mut self.trace);
            let _entered = trace.enter();
            discard(std::mem::replace(&mut self.step, Step::Next));
        }
        // The responses are counted before the connection counts as closed.
        self.turn.settle(self.service.counters());
        discard(self.io.take());
        self.state = None;
    }

    /// Polls a handler that was detached and keeps its thread. Ready without one.
    fn poll_detached(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Step::Detached(handler) = &mut self.step else { return Poll::Ready(()) };
        ready!(handler.as_mut().poll(cx));
        self.step = Step::Next;
        Poll::Ready(())
    }
}

impl<T: Transport> Driving<T> {
    /// Closes the connection. Returns the result of the poll.
    #[cold]
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let IoOwner::Own(io) = &mut self.io {
            io.announce_end(cx);
        }
        self.close();
        self.poll_detached(cx)
    }

    /// Runs steps until one is pending or closes the connection.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            if let Err(closed) = ready!(self.step(cx)) {
                return Poll::Ready(closed);
            }
        }
    }

    /// Continues after a panic. A panic of a handler is answered with 500. Any other panic closes the connection.
    #[cold]
    fn recover(&mut self, panic: Box<dyn Any + Send>) -> Result<(), Closed> {
        let route = RouteName::current();
        let mut response = panicked(route, panic);
        if !std::mem::take(&mut self.is_calling) && !matches!(self.step, Step::Handle(..)) {
            return Err(Closed);
        }
        // The report of a panic may take long, and is no stall of the handler.
        self.since = self.service.clock.coarse();
        self.handler_paused(route);
        discard(std::mem::replace(&mut self.step, Step::Next));
        self.answer(&mut response);
        Ok(())
    }

    /// Answers a request that breaks a rule, or begins HTTP/2 if the bytes are its preface.
    #[cold]
    fn refused(&mut self, error: Error) {
        let service = &self.service;
        if let (IoOwner::Own(io), Some(state)) = (self.io.take(), &self.state) {
            let is_preface = error == Error::Version
                && state.served == 0
                && io.connection.read_buffer.as_slice().starts_with(PREFACE);
            self.io = match is_preface {
                true => match Http2::begin(io, state, service) {
                    Ok(http2) => return self.step = Step::Http2(http2),
                    Err(io) => IoOwner::Own(io),
                },
                false => IoOwner::Own(io),
            };
        }
        self.io.with(|io| io.refuse(error, service));
        self.step = Step::Flush(AfterFlush::Close);
    }

    /// Runs the current step.
    #[inline]
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let service = &self.service;
        match &mut self.step {
            Step::Next => {
                let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Err(Closed)) };
                let event = io.connection.next_event();
                if let Some(access) = &mut io.access {
                    access.event(&event, &io.connection);
                }
                match event {
                    Event::Request(request) if service.threads_block() => self.receive_for_thread(request)?,
                    Event::Request(request) => self.begin(request),
                    Event::NeedBytes => self.step = Step::Flush(AfterFlush::Read),
                    Event::Refused(error) => self.refused(error),
                    Event::Finished | Event::AwaitResponse => self.step = Step::Flush(AfterFlush::Close),
                }
            }
            Step::Flush(then) => {
                let then = *then;
                return self.poll_flush(cx, then);
            }
            Step::Read => return self.poll_read(cx),
            Step::Prepare(..) => return self.poll_prepare(cx),
            Step::Handle(..) => return self.poll_handler(cx),
            Step::Exchange(exchange, holds_thread) => {
                // The record of the response has the route, and so has a report of a stall.
                self.route.enter();
                let polled = {
                    let _role = (!*holds_thread).then(StreamingRole::enter);
                    let _entered = self.trace.enter();
                    exchange.as_mut().poll(cx)
                };
                self.handler_paused(self.route);
                let mut io = match ready!(polled)? {
                    Exchanged::Http(io) => io,
                    Exchanged::Switched(io, upgrade) => {
                        // The response is counted before the stream can be closed.
                        self.turn.settle(self.service.counters());
                        if let Some(state) = self.state.take() {
                            let _entered = self.trace.enter();
                            hand_over(*io, state, upgrade);
                        }
                        return Poll::Ready(Err(Closed));
                    }
                };
                io.stop_waiting_for_body();
                self.io = IoOwner::Own(io);
                self.step = Step::Next;
                self.trace = RequestTrace::default();
                self.turn.responded();
                self.count();
            }
            Step::Linger(_) => return self.poll_linger(cx),
            Step::ProxyHeader => return self.poll_proxy_header(cx),
            Step::Http2(http2) => return http2.poll(cx).map(|()| Err(Closed)),
            Step::Detached(_) => return Poll::Ready(Err(Closed)),
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Driving<T> {
    fn drop(&mut self) {
        self.close();
    }
}
