//! What a connection waits for, and for how long it may.

use std::time::Duration;

use gearshift_core::Config;

use crate::link::Link;

/// How long the connection waits for a client that was asked whether it is still there.
const QUESTION: Duration = Duration::from_millis(10);

/// The longest pause between two looks at a client while its request is at work.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(4);

/// What a connection waits for, derived from outside the server. A number of bytes or requests makes waits differ
/// between which there was progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The first head, or the rest of it.
    Opening,
    /// The first byte of the next head, after this number of requests.
    Idle(usize),
    /// The rest of the head of the request with this number.
    Head(usize),
    /// The rest of a body that its handler left unread, after this number of bytes.
    Drain(u64),
    /// The rest of a body that a handler reads, after this number of bytes.
    Body(u64),
    /// The rest of a small body before its request begins, after this number of bytes.
    Buffer(u64),
    /// The answer of a client that may have left while its request waited for a thread.
    Question,
    /// The client, which has to take bytes, after this number of bytes.
    Write(u64),
    /// A handler.
    Handler(usize),
    /// A handler that does not say whether it reads the body, after this number of bytes.
    UnknownHandler(u64),
    /// The body of a response.
    Stream(usize),
    /// The body of a response, after the client has ended its side and this number of bytes was written. `is_seen` is
    /// whether the server has read the end; unread bytes may come before it.
    HalfClosed { written: u64, is_seen: bool },
    /// The application, which has the connection as a stream.
    Upgraded,
    /// The client's end, after the server's own.
    Linger,
    /// Nothing: the server has something to do.
    Nothing,
}

impl Link {
    /// What the connection waits for, if requests begin with their heads.
    pub(crate) fn wait(&self) -> Wait {
        Wait::of(self, false)
    }
}

impl Wait {
    pub(super) fn of(link: &Link, buffers: bool) -> Wait {
        if link.is_upgraded {
            return Wait::Upgraded;
        }
        if link.unsent > 0 {
            return Wait::Write(link.written);
        }
        if link.server_fin.is_some() {
            return Wait::Linger;
        }
        let answered = link.tap.complete();
        if link.begun > answered {
            let request = link.begun.checked_sub(1).and_then(|last| link.client.asks.get(last));
            let is_unknown =
                request.is_some_and(|written| written.ask.action.is_none() && link.read < written.end);
            if is_unknown && link.is_handled() {
                return Wait::UnknownHandler(link.read);
            }
            // Before the switch to another protocol the server reads the rest of the body itself.
            let is_drained = request.is_some_and(|written| {
                written.ask.switches() && !link.is_handled() && link.read < written.end
            });
            return match link.body_readers > 0 || is_drained {
                true => Wait::Body(link.read),
                false if link.is_handled() => Wait::Handler(link.begun),
                false if link.fin => Wait::HalfClosed { written: link.written, is_seen: link.is_end_read },
                false => Wait::Stream(link.begun),
            };
        }
        let asks = &link.client.asks;
        let start = link.begun.checked_sub(1).and_then(|last| asks.get(last)).map_or(0, |last| last.end);
        let (head_end, end) =
            asks.get(link.begun).map_or((u64::MAX, u64::MAX), |next| (next.head_end, next.end));
        match link.read {
            read if read < start => Wait::Drain(read),
            _ if link.begun == 0 && link.read < head_end => Wait::Opening,
            read if read == start => Wait::Idle(link.begun),
            read if read < head_end => Wait::Head(link.begun),
            _ if link.waited_for_thread && link.is_end_read => Wait::Question,
            read if read < end && buffers => Wait::Buffer(read),
            _ => Wait::Nothing,
        }
    }

    /// How long the wait may last. `None` if only a stop limits it.
    pub(super) fn limit(self, config: &Config) -> Option<Duration> {
        match self {
            Wait::Opening | Wait::Head(_) => Some(config.header_timeout),
            Wait::Idle(_) => Some(config.keep_alive),
            Wait::Drain(_) | Wait::Body(_) | Wait::Buffer(_) => Some(config.body_timeout),
            Wait::Question => Some(QUESTION),
            Wait::Write(_) => Some(config.write_timeout),
            Wait::Linger => Some(config.linger),
            Wait::Handler(_) => Some(config.handler_timeout),
            Wait::UnknownHandler(_) => Some(config.handler_timeout.max(config.body_timeout)),
            Wait::HalfClosed { is_seen: true, .. } => Some(config.half_closed_timeout),
            Wait::HalfClosed { is_seen: false, .. } => {
                Some(config.half_closed_timeout.saturating_add(MAX_PAUSE))
            }
            Wait::Stream(_) | Wait::Upgraded => None,
            Wait::Nothing => Some(Duration::ZERO),
        }
    }
}
