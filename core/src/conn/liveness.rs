//! Liveness: whether the peer is still connected while the server works on its response.
//!
//! The system reports the reset of a connection as an error of the socket. It reports the end of the peer's sending
//! side as an end of the stream, both for a peer that has closed its socket and for a half-closed peer, which still
//! waits for its response. The driver tells the two apart by a probe: an interim `100 Continue` response. Clients
//! ignore it (RFC 9110, 15.2). The system of a peer that has closed its socket answers it with a reset. A probe goes
//! through the write queue like all other bytes, and is sent only before a response has begun. After that, only a write
//! tells the two apart, so a response that has no next piece to write gets a deadline.
//!
//! | moment | action |
//! | --- | --- |
//! | a handler or a streamed body is pending | the socket is polled for reading, so that an error or the end wakes the connection |
//! | the same, and no read is possible: the peer has ended its sending side, the read-ahead is full, or the request's body is unread | a check after 250 ms, then after pauses that double up to 4 s: reads the socket's error, looks for the end behind the unread bytes, and sends a probe to a peer that has ended |
//! | the next piece of a streamed response is pending, and the peer has ended its sending side | the connection ends after [`Config::half_closed_timeout`](crate::Config::half_closed_timeout). The time starts again with each byte that is written, or read from the request's body |
//! | a request has waited long for a thread and its peer has ended its sending side | a probe, and 10 ms for the reset, before the handler begins |
//! | a handler holds its thread, on a blocking backend | [`CancelToken::is_cancelled`](crate::CancelToken::is_cancelled) reads ahead, and probes a peer that has ended its sending side. If a response has begun, the peer counts as having left after [`Config::half_closed_timeout`](crate::Config::half_closed_timeout) |

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::conn::io::{Closed, Io};
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::runtime::config::OnDisconnect;

/// Pause before the first check. For a handler that holds its thread, the minimum time between two probes.
const FIRST_CHECK: Duration = Duration::from_millis(250);
/// Maximum pause between two checks.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Maximum number of bytes in the read buffer while a handler is pending. The transport reports the end of the stream
/// only after all bytes before it were read.
const MAX_READ_AHEAD: usize = 4 * 1024;
/// Time for the reset of a peer that was probed before its request begins.
const PROBE_TIMEOUT: Duration = Duration::from_millis(10);

/// The timer of the next check.
pub(crate) struct PeerCheck {
    timer: BoxFuture<()>,
    /// The pause that `timer` waits for. The next one is twice as long.
    pause: Duration,
}

/// The reason to stop waiting for the response of a handler.
pub(crate) enum EndOfWait {
    /// The peer has left.
    PeerLeft,
    /// The handler's deadline has passed.
    TimedOut,
}

impl<T: Transport> Io<T> {
    /// Flushes earlier responses and watches the peer while a handler is pending. Ready once the handler's response is
    /// no longer needed. With [`OnDisconnect::Ignore`] only the handler's deadline makes it ready.
    pub(crate) fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
        policy: OnDisconnect,
    ) -> Poll<EndOfWait> {
        self.handler_waits(service);
        if policy == OnDisconnect::Ignore {
            let _ = self.poll_flush(cx, service);
            return self.poll_checks(cx, service, false);
        }
        self.poll_peer(cx, service)
    }

    /// Does what [`Io::poll_watch`] does, while the next piece of a streamed response is pending. The piece has a
    /// deadline only once the peer has ended its sending side. Ready once the peer has left, or counts as having left.
    pub(crate) fn poll_peer_left(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Closed> {
        if self.deadlines.handler().is_some() {
            self.handler_ends();
        }
        self.poll_peer(cx, service).map(|_| Closed)
    }

    /// Flushes, reads ahead, and checks the peer.
    fn poll_peer(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<EndOfWait> {
        if matches!(self.poll_flush(cx, service), Poll::Ready(Err(_))) || self.has_failed {
            return Poll::Ready(EndOfWait::PeerLeft);
        }
        // The transport keeps one waker for reading. While a body is pending, that is the waker of its reader.
        while !self.connection.is_body_pending() && self.may_read_ahead() {
            let Err(error) = ready!(self.poll_read(cx, service)) else { continue };
            if error.kind() != io::ErrorKind::TimedOut {
                return Poll::Ready(EndOfWait::PeerLeft);
            }
            if self.is_handler_late(service) {
                return Poll::Ready(EndOfWait::TimedOut);
            }
            // The transport has reported another deadline. The wait continues until that of the handler.
            self.transport.set_deadline(self.deadlines.handler());
        }
        self.poll_checks(cx, service, true)
    }

    /// Waits for the deadline of the handler or of the next piece. If `checks_peer`, checks the peer periodically.
    fn poll_checks(&mut self, cx: &mut Context<'_>, service: &Service, checks_peer: bool) -> Poll<EndOfWait> {
        loop {
            if self.deadlines.handler().is_none() && self.has_peer_ended() {
                self.wait_for_piece(service);
            }
            if self.is_handler_late(service) || self.is_piece_late(service) {
                return Poll::Ready(EndOfWait::TimedOut);
            }
            let (now, deadline) = (service.clock.now(), self.deadlines.handler().or(self.deadlines.piece()));
            let timer = |pause| {
                let at = now + pause;
                service.runtime.sleep_until(deadline.map_or(at, |deadline| deadline.min(at)))
            };
            let check = self
                .peer_check
                .get_or_insert_with(|| Box::new(PeerCheck { timer: timer(FIRST_CHECK), pause: FIRST_CHECK }));
            ready!(check.timer.as_mut().poll(cx));
            check.pause = (check.pause * 2).min(MAX_PAUSE);
            check.timer = timer(check.pause);
            if checks_peer && self.check_peer(cx, service) {
                return Poll::Ready(EndOfWait::PeerLeft);
            }
        }
    }

    /// Returns whether the peer has left. Probes a peer that has ended its sending side; the next check sees the
    /// result.
    fn check_peer(&mut self, cx: &mut Context<'_>, service: &Service) -> bool {
        if self.has_left() {
            return true;
        }
        if self.has_peer_ended() && self.may_probe() {
            self.connection.send_probe();
        }
        matches!(self.poll_flush(cx, service), Poll::Ready(Err(_)))
    }

    /// Returns whether the peer has left, for a handler or a body that holds its thread. `probed` is the time of the last
    /// probe, or the time when the end of the peer's sending side was seen.
    pub(crate) fn check_from_handler(
        &mut self,
        probed: &mut Option<Instant>,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> bool {
        let may_read = !self.connection.is_body_pending() && self.may_read_ahead();
        if (may_read && self.read_ahead(service).is_err()) || self.has_left() {
            return true;
        }
        if !self.has_peer_ended() {
            return false;
        }
        if self.connection.is_response_begun() {
            self.wait_for_piece(service);
            return self.is_piece_late(service);
        }
        if !self.may_probe() {
            return false;
        }
        let now = service.clock.now();
        if now.saturating_duration_since(*probed.get_or_insert(now)) < FIRST_CHECK {
            return false;
        }
        *probed = Some(now);
        self.connection.send_probe();
        matches!(self.poll_flush(cx, service), Poll::Ready(Err(_)))
    }

    /// Whether the peer has ended its sending side. Bytes before the end may be unread.
    fn has_peer_ended(&self) -> bool {
        self.connection.has_ended() || self.transport.has_unread_end()
    }

    /// Whether a probe can be sent now: no response has begun, and the write queue is empty.
    fn may_probe(&self) -> bool {
        self.connection.may_probe() && self.connection.write_queue.is_empty()
    }

    /// Whether bytes may be read before the response is sent.
    fn may_read_ahead(&self) -> bool {
        !self.connection.has_ended() && self.connection.read_buffer.len() < MAX_READ_AHEAD
    }

    /// Reads the bytes that have arrived, without a wait.
    fn read_ahead(&mut self, service: &Service) -> io::Result<()> {
        match self.try_read(service) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Probes the peer of a request if the peer has ended its sending side and the request may have waited long for a
    /// thread. The request begins when the returned timer is ready, unless [`Io::has_left`] returns true then. `None`
    /// means that the request begins at once.
    ///
    /// # Errors
    /// An error of the socket: the peer has left.
    pub(crate) fn probe_after_long_wait(&mut self, service: &Service) -> io::Result<Option<BoxFuture<()>>> {
        // More than `MAX_READ_AHEAD` bytes may precede the end.
        if !self.transport.has_unread_end() || !self.may_read_ahead() {
            return Ok(None);
        }
        self.read_ahead(service)?;
        if !self.connection.has_ended() || !service.may_have_waited_long() || !self.may_probe() {
            return Ok(None);
        }
        self.connection.send_probe();
        Ok(Some(service.runtime.sleep_until(service.clock.now() + PROBE_TIMEOUT)))
    }

    /// Returns whether the socket has failed, which means that the peer has left.
    pub(crate) fn has_left(&mut self) -> bool {
        self.has_failed |= !matches!(self.transport.take_error(), Ok(None));
        self.has_failed
    }
}
