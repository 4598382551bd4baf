//! The step `Handle`: the call of a handler, the wait for its future, and the start of the response.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use crate::conn::cancel::CheckPeer;
use crate::conn::driver::Driving;
use crate::conn::driver::step::{AfterFlush, Step};
use crate::conn::exchange::{detached, exchange, handler_timed_out};
use crate::conn::handler::Answer;
use crate::conn::io::Closed;
use crate::conn::lease::{IoOwner, Lease, Lender};
use crate::conn::liveness::EndOfWait;
use crate::conn::maybe_tls::MaybeTls;
use crate::conn::maybe_trace::RequestTrace;
use crate::conn::transport::Transport;
use crate::proto::body::{Body, Inner as BodyInner};
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;
use crate::runtime::contained::discard;
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::{Origin, RouteName};

impl<T: Transport> Driving<T> {
    /// Calls the handler. Sets the step to `Handle` if the handler returns a future, otherwise answers.
    #[inline(always)]
    pub(super) fn begin(&mut self, mut request: Request) {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &mut self.state) else { return };
        let service = &self.service;
        state.served += 1;
        request.inner_mut().context = Some(state.context.clone());
        if service.config.max_requests.is_some_and(|max| state.served >= max) {
            io.connection.close_after_this();
        }
        io.handler_begins();
        self.turn.begin(service.counters());
        let has_pending_body = io.connection.is_body_pending();
        if has_pending_body || self.service.threads_block() {
            self.lend(has_pending_body.then_some(&mut request));
        }
        self.is_calling = true;
        RouteName::NONE.enter();
        let mut answer = match RequestTrace::is_wanted() {
            false => self.service.handler.call(request),
            true => self.call_traced(request),
        };
        self.is_calling = false;
        match answer {
            Answer::Ready(ref mut response) => {
                if !has_pending_body && self.service.threads_block() {
                    self.take_back();
                }
                self.answer(response);
            }
            Answer::Later(future, options) => {
                let policy = options.on_disconnect.unwrap_or(self.service.config.on_disconnect);
                if options.timeout.is_some() {
                    self.io.with(|io| io.deadlines.handler_timeout = options.timeout);
                }
                self.step = Step::Handle(future, policy);
                self.handler_paused(RouteName::current());
            }
        }
    }

    /// Calls the handler inside of a span.
    #[cold]
    fn call_traced(&mut self, request: Request) -> Answer {
        if let Some(state) = &self.state {
            self.trace = RequestTrace::begin(&request, &state.trace);
        }
        let _entered = self.trace.enter();
        self.service.handler.call(request)
    }

    /// Begins a lease of the connection, which lasts until the handler has answered. A request with an unread body
    /// reads it through the lease. On a blocking backend the cancel tokens also use the lease, to check the peer while
    /// the handler, or the body of its response, holds the thread.
    #[inline(never)]
    fn lend(&mut self, request: Option<&mut Request>) {
        let (service, IoOwner::Own(mut io)) = (&self.service, self.io.take()) else { return };
        let Some(state) = &self.state else { return };
        io.has_body_reader = request.is_some();
        let lease = match self.lease.take().filter(|lease| Arc::strong_count(lease) == 1) {
            Some(lease) => {
                lease.lend(io);
                lease
            }
            // The application still holds the body of an earlier request. That body must not read this one.
            None => {
                let lease = Arc::new(Lease::new(io, service.clone()));
                if service.threads_block() {
                    let peer: Weak<dyn CheckPeer> = Arc::<Lease<MaybeTls<T>>>::downgrade(&lease);
                    state.context.cancel.check_peer_by(Some(peer));
                }
                lease
            }
        };
        if let Some(request) = request {
            request.inner_mut().body = Body(BodyInner::Lease(lease.clone()));
        }
        self.io = IoOwner::Lent(Lender(lease));
    }

    /// Ends the lease, if there is one, and keeps its allocation for the next request.
    pub(super) fn take_back(&mut self) {
        self.lease = self.io.take_back().or_else(|| self.lease.take());
    }

    /// Polls the handler's future. While it is pending, watches the peer and the handler's deadline.
    pub(super) fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Step::Handle(future, policy) = &mut self.step else { return Poll::Ready(Ok(())) };
        let policy = *policy;
        // The thread may have called handlers of other connections since. A router may be called in the future.
        self.route.enter();
        let polled = {
            let _entered = self.trace.enter();
            future.as_mut().poll(cx)
        };
        self.handler_paused(RouteName::current());
        let service = &self.service;
        let mut response = match polled {
            Poll::Ready(response) => response,
            Poll::Pending => match ready!(self.io.poll_with(cx, |io, cx| io.poll_watch(cx, service, policy)))
            {
                EndOfWait::TimedOut => {
                    if let Some(state) = &self.state {
                        state.context.cancel.set();
                    }
                    handler_timed_out(self.route)
                }
                EndOfWait::PeerLeft => {
                    service.was_cut_if_forced();
                    if policy == OnDisconnect::Detach {
                        self.detach();
                    }
                    return Poll::Ready(Err(Closed));
                }
            },
        };
        // The response has its own deadlines. A streamed response may read the rest of the body.
        let has_body_reader = self.io.with(|io| {
            io.handler_ends();
            std::mem::take(&mut io.has_body_reader)
        });
        if !has_body_reader {
            self.take_back();
        }
        {
            let _entered = self.trace.enter();
            discard(std::mem::replace(&mut self.step, Step::Next));
        }
        self.answer(&mut response);
        Poll::Ready(Ok(()))
    }

    /// Lets the handler run on without its connection, which ends next. It counts as a background task. On an event
    /// loop it is one. On a blocking backend the handler may block, so it keeps its thread instead.
    fn detach(&mut self) {
        let Step::Handle(handler, ..) = std::mem::replace(&mut self.step, Step::Next) else { return };
        let service = &self.service;
        let (deadline, route) = (self.io.with(|io| io.deadlines.handler()), self.route);
        let rest = self.trace.carry(detached(handler, deadline, route, service));
        match service.threads_block() {
            false => service.runtime.spawn_at(rest, Origin::Detached(self.route), true).detach(),
            true => {
                self.step = Step::Detached(service.runtime.task_in_place(rest, Origin::Detached(self.route)))
            }
        }
    }

    /// Tells the stall detector that the handler of the current request, or the body of its response, has returned or
    /// is pending. The detector logs `route` if the thread was held for too long since the last call. Handlers that
    /// were called in that time and not reported are reported together.
    #[inline]
    pub(super) fn handler_paused(&mut self, route: RouteName) {
        self.route = route;
        if !self.service.threads_block() {
            // The current request is not among those that were answered.
            let handlers = (self.turn.answered + 1 - self.turn.timed).max(1);
            self.turn.timed = self.turn.answered + 1;
            let service = &self.service;
            self.since = service.runtime.stalls().polled(self.since, service.clock.coarse(), route, handlers);
        }
    }

    /// Queues a response whose body is in memory, or begins an exchange for any other. The step is `Next` when this is
    /// called. The rest of `response` is of no use afterwards. The response is not moved, because a move copies the
    /// inline memory of its fields.
    #[inline(always)]
    pub(super) fn answer(&mut self, response: &mut Response) {
        let service = &self.service;
        // A handler that blocks can make a turn last for seconds.
        if service.threads_block() {
            (self.seconds, self.since) = (service.clock.unix_seconds(), service.clock.coarse());
        } else if self.seconds == 0 {
            self.seconds = service.clock.unix_seconds();
        }
        let seconds = self.seconds;
        let is_expired = self.state.as_ref().is_some_and(|state| self.since >= state.expires);
        let is_in_memory = matches!(response.body.0, BodyInner::Empty | BodyInner::Full(_));
        if is_expired {
            self.io.with(|io| io.connection.close_after_this());
        }
        let IoOwner::Own(io) = &mut self.io else { return self.exchange(response) };
        if !is_in_memory || response.extra.is_some() {
            return self.exchange(response);
        }
        if service.keeps_no_connection() {
            io.close_unless_more_came(service);
        }
        if service.shutdown.is_requested() {
            service.answered();
        }
        io.respond_whole(response, seconds);
        self.turn.responds(response.status, service.counters());
        self.trace.end(response.status);
        self.count();
    }

    /// Begins to send a response that needs several polls.
    #[inline(never)]
    fn exchange(&mut self, response: &mut Response) {
        self.handler_paused(RouteName::current());
        if self.service.shutdown.phase() == Phase::Forced {
            // A forced stop fails the handler's reads and waits. The peer does not get a response that reports this.
            self.service.was_cut_if_forced();
            self.io = IoOwner::Gone;
            return;
        }
        let holds_thread = response.body.holds_thread() && self.service.threads_block();
        if holds_thread && matches!(self.io, IoOwner::Own(_)) {
            self.lend(None);
        }
        let response = std::mem::replace(response, Response::new(Body::empty()));
        let exchange = exchange(self.io.take(), self.service.clone(), response);
        self.step = Step::Exchange(Box::pin(exchange), holds_thread);
    }

    /// Counts an answered request. Ends the turn after `Limits::pipeline` requests, and flushes after `Limits::output`
    /// bytes.
    #[inline(always)]
    pub(super) fn count(&mut self) {
        let (IoOwner::Own(io), service) = (&self.io, &self.service) else { return };
        self.turn.answered += 1;
        if self.turn.answered as usize >= service.limits.pipeline {
            self.step = Step::Flush(AfterFlush::Yield);
        } else if io.connection.write_queue.len() >= service.limits.output {
            self.step = Step::Flush(AfterFlush::Next);
        }
    }
}
