//! Whether the peer is still there, while something is done for it.
//!
//! A peer that resets its connection is reported by the system as an error of the socket. A peer that ends its sending
//! side (a half-close) has not left: it may want its response. The system does not tell such a peer from one that has
//! closed its socket, so the peer is asked, by an interim `100 Continue`. Clients ignore it; the system of a peer that
//! has closed its socket answers with a reset. All of these bytes go through the write queue, and only before a response
//! has begun.
//!
//! | moment | what is done |
//! | --- | --- |
//! | a handler waits, or a streamed body has no next piece | the socket is polled for reading, so that an error wakes the connection |
//! | the same, and the peer has ended its side, or nothing may be read | a look after 250 ms, then ever more seldom: a recorded error, else a question |
//! | a request waited long for a thread and its peer has ended its side | a question, and 10 ms for the answer, before the handler begins |
//! | a handler holds its thread, on a blocking backend | [`CancelToken::is_cancelled`](crate::CancelToken::is_cancelled) reads ahead, and asks a peer that has ended its side |

use std::io;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::conn::io::Io;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::runtime::config::OnDisconnect;

/// How long a peer that has ended its side is taken for present before the first question.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// The longest pause between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(4);
/// Bytes that are read ahead while a handler is at work.
const READ_AHEAD: usize = 4 * 1024;
/// How long a peer that was asked before its request begins has to be found gone.
const ANSWER_WITHIN: Duration = Duration::from_millis(10);

/// The next look at a peer.
pub(crate) struct Look {
    timer: BoxFuture<()>,
    /// The pause before the look after that.
    pause: Duration,
}

/// Why a handler's response is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer has left.
    Gone,
    /// The handler's time is over.
    Late,
}

impl<T: Transport> Io<T> {
    /// Polled while a handler waits: sends what is queued before its response, and is ready once that response is not
    /// wanted any more. Under [`OnDisconnect::Ignore`] a peer that leaves changes nothing.
    pub(crate) fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
        policy: OnDisconnect,
    ) -> Poll<Verdict> {
        self.handler_waits(service);
        if policy == OnDisconnect::Ignore {
            let _ = self.poll_flush(cx, service);
            return self.poll_looks(cx, service, false);
        }
        self.poll_peer(cx, service)
    }

    /// The same while a streamed response has no next piece, which may take any time.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<()> {
        if self.deadlines.is_handler_waiting {
            self.handler_ends();
        }
        self.poll_peer(cx, service).map(drop)
    }

    fn poll_peer(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Verdict> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx, service) {
            return Poll::Ready(Verdict::Gone);
        }
        // A pending body is read by its reader, whose waker the transport must keep.
        while !self.connection.is_body_pending() && self.wants_more() {
            match self.poll_read(cx, service) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.connection.received_end(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                    return Poll::Ready(Verdict::Gone);
                }
                Poll::Ready(Err(error)) => {
                    if !self.is_early(&error, self.handler_deadline(), service) {
                        return Poll::Ready(Verdict::Late);
                    }
                }
            }
        }
        self.poll_looks(cx, service, true)
    }

    /// Waits for the handler's deadline, and looks at the peer in between if `looks`.
    fn poll_looks(&mut self, cx: &mut Context<'_>, service: &Service, looks: bool) -> Poll<Verdict> {
        loop {
            if self.is_handler_late(service) {
                return Poll::Ready(Verdict::Late);
            }
            let (now, late) = (service.clock.now(), self.handler_deadline());
            let timer = |pause| {
                let at = now + pause;
                service.runtime.sleep_until(late.map_or(at, |late| late.min(at)))
            };
            let look = self
                .look
                .get_or_insert_with(|| Box::new(Look { timer: timer(FIRST_LOOK), pause: FIRST_LOOK }));
            ready!(look.timer.as_mut().poll(cx));
            look.pause = (look.pause * 2).min(LONGEST_LOOK);
            look.timer = timer(look.pause);
            if looks && self.look(cx, service) {
                return Poll::Ready(Verdict::Gone);
            }
        }
    }

    /// Whether the peer is found gone. A peer that has ended its side is asked.
    fn look(&mut self, cx: &mut Context<'_>, service: &Service) -> bool {
        if !matches!(self.transport.take_error(), Ok(None)) {
            return true;
        }
        if self.connection.has_ended() && self.may_ask() {
            self.connection.send_probe();
        }
        matches!(self.poll_flush(cx, service), Poll::Ready(Err(_)))
    }

    /// Whether the peer of a handler that holds its thread is found gone. `asked` is when the peer was last asked, or
    /// seen to have ended its side.
    pub(crate) fn look_from_handler(&mut self, asked: &mut Option<Instant>, service: &Service) -> bool {
        if !self.connection.is_body_pending() && self.wants_more() {
            match self.try_read(service) {
                Ok(0) => self.connection.received_end(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        if self.has_left() {
            return true;
        }
        if !self.connection.has_ended() || !self.may_ask() {
            return false;
        }
        let now = service.clock.now();
        if now.saturating_duration_since(*asked.get_or_insert(now)) < FIRST_LOOK {
            return false;
        }
        *asked = Some(now);
        self.connection.send_probe();
        matches!(self.poll_flush(&mut Context::from_waker(Waker::noop()), service), Poll::Ready(Err(_)))
    }

    fn may_ask(&self) -> bool {
        self.connection.may_probe() && self.connection.write_queue().is_empty()
    }

    /// Whether the peer may be read ahead of its response.
    fn wants_more(&self) -> bool {
        !self.connection.has_ended() && self.connection.read_buffer().len() < READ_AHEAD
    }

    /// Asks the peer of a request that waited long for a thread whether it is still there, if there is reason to doubt
    /// it. The request begins when the returned future is ready and [`Io::has_left`] does not tell otherwise. `None`:
    /// the request may begin at once.
    ///
    /// # Errors
    /// The peer has left.
    pub(crate) fn ask_after_long_wait(&mut self, service: &Service) -> io::Result<Option<BoxFuture<()>>> {
        if !self.transport.has_unread_end() {
            return Ok(None);
        }
        match self.try_read(service) {
            Ok(0) => self.connection.received_end(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if !self.connection.has_ended() || !service.were_threads_busy() || !self.may_ask() {
            return Ok(None);
        }
        self.connection.send_probe();
        Ok(Some(service.runtime.sleep_until(service.clock.now() + ANSWER_WITHIN)))
    }

    /// Whether the system has recorded that the peer has left.
    pub(crate) fn has_left(&mut self) -> bool {
        !matches!(self.transport.take_error(), Ok(None))
    }
}
