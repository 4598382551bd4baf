//! One simulated connection: the bytes between a client and the server, and the state of both ends.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Duration;

use crate::action::Kind;
use crate::ask::PROTOCOL;
use crate::plan::{ClientPlan, Ending, Reading, Segment};
use crate::reply::Replies;
use crate::rules::{Wait, Waited};

/// The state of one connection, as a network knows it, and what the rules of the simulation need to know.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: ClientPlan,
    // Towards the server.
    /// Bytes that the server may read.
    pub(crate) arrived: VecDeque<u8>,
    /// The number of bytes that have arrived, and the number of those that the server has read.
    pub(crate) delivered: u64,
    pub(crate) read: u64,
    /// The client has ended its side.
    pub(crate) fin: bool,
    /// Whether a read has met the end of the client's side.
    pub(crate) is_end_read: bool,
    /// The client has left: bytes that are written now are lost.
    pub(crate) gone: bool,
    /// When the client left.
    pub(crate) gone_at: Option<Duration>,
    /// The connection is reset.
    pub(crate) reset: bool,
    /// When that happened.
    pub(crate) reset_at: Option<Duration>,
    /// Whether the system has reported the reset to the server, which it does once.
    pub(crate) is_reset_told: bool,
    // Towards the client.
    /// Bytes that the client has not taken.
    pub(crate) sent: VecDeque<u8>,
    pub(crate) written: u64,
    /// Bytes that the server's last write left in its queue.
    pub(crate) unsent: usize,
    /// The responses that the server has written so far.
    pub(crate) tap: Replies,
    // The server's end.
    pub(crate) accepted: Option<Duration>,
    pub(crate) server_fin: Option<Duration>,
    /// The number of bytes that had been read when the server ended its side.
    pub(crate) read_at_fin: u64,
    pub(crate) closed: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    /// The time of the event that is scheduled for the deadline.
    pub(crate) deadline_event: Option<Duration>,
    pub(crate) read_waker: Option<Waker>,
    pub(crate) write_waker: Option<Waker>,
    /// Whether the last read found nothing, so that the server has to be woken when bytes arrive.
    pub(crate) wants_read: bool,
    /// Whether the last write found no room, so that the server has to be woken when there is some.
    pub(crate) wants_write: bool,
    /// Counts changes of the server's state: bytes that moved, handlers that were called or ended.
    pub(crate) progress: u64,
    /// Polls without progress at one instant.
    pub(crate) idle_polls: u32,
    /// Calls of the transport within one poll that moved nothing.
    pub(crate) idle_calls: u32,
    // The handlers.
    /// Handlers that were called on this connection, that have ended, and that were dropped before their end.
    pub(crate) begun: usize,
    pub(crate) ended: usize,
    pub(crate) dropped: usize,
    /// Handlers that ended after the graceful stop began.
    pub(crate) ended_late: usize,
    /// How many readers wait for the body of the request: its handler, or a task that the handler spawned.
    pub(crate) body_readers: u32,
    /// The number of requests that are over although their responses may not have been sent: responses that the server
    /// has as a whole, and handlers that were given up.
    pub(crate) handled: usize,
    /// The number of requests up to the one whose body was read to its end last.
    pub(crate) consumed: usize,
    /// How many tasks and handlers wait for a cancel token of the connection.
    pub(crate) token_waits: u32,
    /// How long the client was awaited, all waits of one kind together.
    pub(crate) waited: Waited,
    /// Whether the connection has left HTTP.
    pub(crate) is_upgraded: bool,
    // The threads.
    /// Whether the connection holds a thread between two polls.
    pub(crate) is_held: bool,
    /// The thread that the body of a response holds.
    pub(crate) held_on: Option<usize>,
    /// Whether no thread had been idle for long when the connection was polled, since the last handler began.
    pub(crate) waited_for_thread: bool,
    /// Whether the driver had to find out that the client is gone, so that no handler may begin.
    pub(crate) must_not_begin: bool,
    // The client's end.
    pub(crate) segments: VecDeque<Segment>,
    /// The responses that the client has received so far.
    pub(crate) replies: Replies,
    pub(crate) taken: u64,
    /// Whether the client waits for something other than time before it sends its next segment.
    pub(crate) blocked: bool,
    /// Whether an event is scheduled at which the client takes what was sent.
    pub(crate) taking: bool,
    /// Whether the client will send no more.
    pub(crate) done: bool,
    /// How the client saw the connection end.
    pub(crate) seen_end: Option<SeenEnd>,
    // What the rules remember.
    pub(crate) wait: Wait,
    pub(crate) since: Duration,
    /// When `wait` began. `since` is later if the connection was not polled for a time.
    pub(crate) wait_began: Duration,
    /// How many requests have to be answered although a graceful stop begins: the first one, and those of which a part
    /// had arrived.
    pub(crate) owed_at_stop: usize,
    /// Whether the client was in the queue of the listener.
    pub(crate) is_connected: bool,
    /// Whether the server has to refuse the connection for lack of room.
    pub(crate) is_refused: bool,
    /// When each handler was called, and when each one that was not given up has ended.
    pub(crate) began_at: Vec<Duration>,
    pub(crate) ended_at: Vec<Duration>,
    /// When a handler was given up.
    pub(crate) given_up_at: Option<Duration>,
    /// Since when there are bytes to write, if there are any.
    pub(crate) unsent_since: Duration,
    /// The end of the last time in which the connection was not polled.
    pub(crate) unpolled_until: Duration,
    /// The last wait that got its time again because the connection was not polled.
    pub(crate) excused: Option<Wait>,
    /// Whether the connection was cut by a forced stop.
    pub(crate) forced: bool,
}

/// How a connection ends for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenEnd {
    /// The server has ended its side.
    End,
    /// The connection was reset.
    Reset,
}

/// The number of bytes that a client may send ahead of the server's reads.
const RECEIVE_WINDOW: usize = 128 * 1024;

impl Link {
    pub(crate) fn new(mut client: ClientPlan) -> Link {
        let heads: Vec<bool> = client.asks.iter().map(|written| written.ask.is_head()).collect();
        // An offer may be among the bytes that were changed.
        let may_switch = client.is_mangled || client.asks.iter().any(|written| written.ask.switches());
        let protocol = may_switch.then_some(PROTOCOL);
        let segments = std::mem::take(&mut client.segments).into();
        Link {
            client,
            arrived: VecDeque::new(),
            delivered: 0,
            read: 0,
            fin: false,
            is_end_read: false,
            gone: false,
            gone_at: None,
            reset: false,
            reset_at: None,
            is_reset_told: false,
            sent: VecDeque::new(),
            written: 0,
            unsent: 0,
            tap: Replies::new(heads.clone(), protocol),
            accepted: None,
            server_fin: None,
            read_at_fin: 0,
            closed: None,
            deadline: None,
            deadline_event: None,
            read_waker: None,
            write_waker: None,
            wants_read: false,
            wants_write: false,
            progress: 0,
            idle_polls: 0,
            idle_calls: 0,
            begun: 0,
            ended: 0,
            dropped: 0,
            ended_late: 0,
            body_readers: 0,

            handled: 0,
            consumed: 0,
            token_waits: 0,
            waited: Waited::default(),
            is_upgraded: false,
            is_held: false,
            held_on: None,
            waited_for_thread: false,
            must_not_begin: false,
            segments,
            replies: Replies::new(heads, protocol),
            taken: 0,
            blocked: false,
            taking: false,
            done: false,
            seen_end: None,
            wait: Wait::Opening,
            since: Duration::ZERO,
            wait_began: Duration::ZERO,
            owed_at_stop: 0,
            is_connected: false,
            is_refused: false,
            began_at: Vec::new(),
            ended_at: Vec::new(),
            given_up_at: None,
            unsent_since: Duration::ZERO,
            unpolled_until: Duration::ZERO,
            excused: None,
            forced: false,
        }
    }

    /// Whether the connection is open on the server.
    pub(crate) fn is_open(&self) -> bool {
        self.accepted.is_some() && self.closed.is_none()
    }

    /// Whether a read would find bytes, the end, or an error.
    pub(crate) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.fin || self.reset
    }

    /// How many bytes a write could send.
    pub(crate) fn room(&self) -> usize {
        if self.gone || self.reset {
            return usize::MAX;
        }
        self.client.window.saturating_sub(self.sent.len())
    }

    /// Whether the client may send another segment.
    pub(crate) fn has_receive_room(&self) -> bool {
        self.arrived.len() < RECEIVE_WINDOW
    }

    /// The server reads all bytes that have arrived, up to the room.
    pub(crate) fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if !self.arrived.is_empty() {
            let n = room.len().min(self.arrived.len());
            for (to, from) in room.iter_mut().zip(self.arrived.drain(..n)) {
                *to = from;
            }
            self.read += n as u64;
            self.moved();
            return Ok(n);
        }
        if let Some(error) = self.take_error() {
            self.moved();
            return Err(error);
        }
        if self.fin || self.reset {
            self.is_end_read = true;
            self.moved();
            return Ok(0);
        }
        self.idle_calls += 1;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Records that `n` bytes were written, and that `left` are left to write.
    pub(crate) fn sent_on(&mut self, n: usize, left: usize) {
        self.moved();
        self.written += n as u64;
        self.unsent = left;
        if left == 0 {
            self.wants_write = false;
            self.waited.flushed(self.written);
        }
    }

    /// The error that the system reports once.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        let is_new = self.reset && !std::mem::replace(&mut self.is_reset_told, true);
        is_new.then(|| io::ErrorKind::ConnectionReset.into())
    }

    /// The server writes some of the bytes. Returns their number.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reset {
            self.moved();
            return Err(self.take_error().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
        let n = self.room().min(bytes.len());
        if n == 0 {
            self.idle_calls += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    }

    /// Whether a handler of this connection is at work.
    pub(crate) fn is_handled(&self) -> bool {
        self.begun > self.ended + self.dropped
    }

    /// What the application does for the request that began last.
    pub(crate) fn last_kind(&self) -> Option<Kind> {
        let last = self.begun.checked_sub(1).and_then(|last| self.client.asks.get(last))?;
        last.ask.action.map(|action| action.kind)
    }

    /// Whether the response of the last handler is to switch to another protocol.
    pub(crate) fn is_switching(&self) -> bool {
        let last = self.begun.checked_sub(1).and_then(|last| self.client.asks.get(last));
        self.ended == self.begun && last.is_some_and(|last| last.ask.switches())
    }

    /// Whether the request of this number is over: its response needs no more of the handler or its body, or the
    /// connection has ended.
    pub(crate) fn is_over(&self, n: usize) -> bool {
        self.closed.is_some() || self.tap.complete() > n || self.handled > n
    }

    /// Whether the server waits for the first request of a client that is present.
    pub(crate) fn is_fresh(&self) -> bool {
        let is_present = !self.fin && !self.reset && !self.client.is_mangled;
        is_present && self.begun == 0 && self.tap.finals.is_empty() && self.written == 0
    }

    /// Bytes that have arrived behind the last request that began.
    pub(crate) fn unbegun(&self) -> u64 {
        let last = self.begun.checked_sub(1).and_then(|last| self.client.asks.get(last));
        self.delivered.saturating_sub(last.map_or(0, |last| last.end))
    }

    /// Records progress, which justifies the polls so far.
    pub(crate) fn moved(&mut self) {
        self.progress += 1;
        self.idle_polls = 0;
        self.idle_calls = 0;
    }

    /// How many of the client's requests have arrived in part.
    pub(crate) fn asks_begun(&self) -> usize {
        let asks = &self.client.asks;
        let starts = std::iter::once(0).chain(asks.iter().map(|written| written.end));
        // Empty lines before a request are no part of it.
        let starts = starts.zip(asks).map(|(start, next)| start + 2 * next.ask.empty_lines as u64);
        starts.filter(|start| *start < self.delivered).count()
    }

    /// How many bytes the client takes at once, and the pause before it takes more. `None` if it takes no more.
    pub(crate) fn takes(&self) -> Option<(usize, Duration)> {
        match self.client.reading {
            Reading::Prompt => Some((usize::MAX, Duration::from_micros(50))),
            Reading::Slow { bytes, every } => Some((bytes, every)),
            Reading::Deaf { after } if self.taken < after => {
                Some(((after - self.taken) as usize, Duration::from_micros(50)))
            }
            Reading::Deaf { .. } => None,
        }
    }

    /// Whether the client leaves as soon as it has all responses.
    pub(crate) fn leaves_when_answered(&self) -> bool {
        self.client.ending == Ending::Answered
    }
}
