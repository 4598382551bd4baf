//! One simulated connection: the bytes between a client and the server, and all that is known about both ends.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Duration;

use gearshift_core::{ReadBuffer, WriteQueue};

use crate::plan::{Ending, Line, Reading, Segment};
use crate::reply::Replies;
use crate::rules::Wait;

/// The state of one connection as the network knows it, and the state that the rules of the simulation need.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: Line,
    // Towards the server.
    /// Bytes that the server may read.
    pub(crate) arrived: VecDeque<u8>,
    /// The number of bytes that have arrived, and the number of these that the server has read.
    pub(crate) delivered: u64,
    pub(crate) read: u64,
    /// The client has ended its side.
    pub(crate) fin: bool,
    /// The client has left, so bytes that are written now are lost.
    pub(crate) gone: bool,
    /// The connection is reset.
    pub(crate) reset: bool,
    // Towards the client.
    /// Bytes that the client has not read.
    pub(crate) sent: VecDeque<u8>,
    pub(crate) written: u64,
    /// Bytes that the server's last write could not send.
    pub(crate) unsent: usize,
    /// The responses in the server's writes, parsed as they are written.
    pub(crate) tap: Replies,
    // The server's end.
    pub(crate) accepted: Option<Duration>,
    pub(crate) server_fin: Option<Duration>,
    /// The number of bytes that had been read when the server ended its side.
    pub(crate) read_at_fin: u64,
    pub(crate) closed: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    /// The time of the scheduled event for the deadline.
    pub(crate) deadline_event: Option<Duration>,
    pub(crate) read_waker: Option<Waker>,
    pub(crate) write_waker: Option<Waker>,
    /// Whether the last read found nothing, so that new bytes have to wake the server.
    pub(crate) wants_read: bool,
    /// Whether the server has tried to read since bytes arrived.
    pub(crate) wants_write: bool,
    /// A count of the changes of the server's state: bytes moved, handlers called or ended.
    pub(crate) progress: u64,
    /// Polls without progress at one instant.
    pub(crate) idle_polls: u32,
    /// Calls of the transport within one poll that moved no byte.
    pub(crate) idle_calls: u32,
    // The handlers.
    /// Handlers that were called on this connection, that have ended, and that were dropped before their end.
    pub(crate) begun: usize,
    pub(crate) ended: usize,
    pub(crate) dropped: usize,
    /// Handlers that ended after a stop was asked for.
    pub(crate) ended_late: usize,
    /// Whether a handler waits for the body of its request.
    pub(crate) reading_body: bool,
    // The client's end.
    pub(crate) segments: VecDeque<Segment>,
    /// The responses that the client has parsed.
    pub(crate) replies: Replies,
    pub(crate) taken: u64,
    /// Whether the client waits for something other than time before it continues to send.
    pub(crate) blocked: bool,
    /// Whether a read of the client is scheduled.
    pub(crate) taking: bool,
    /// The client has finished sending, or has given up.
    pub(crate) done: bool,
    /// How the client saw the connection end.
    pub(crate) saw: Option<Saw>,
    // State of the rules.
    pub(crate) wait: Wait,
    pub(crate) since: Duration,
    /// Whether the connection was parked only to give others their turn.
    pub(crate) yielded: bool,
    /// Requests that had arrived completely when a stop was asked for.
    pub(crate) arrived_at_stop: usize,
    /// Whether the connection was cut by a forced stop.
    pub(crate) forced: bool,
}

/// How a connection ends for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saw {
    /// The server has ended its side in good order.
    End,
    /// It was reset.
    Reset,
}

/// Bytes that a client may send ahead of the server's reads.
const RECEIVE_WINDOW: usize = 128 * 1024;

impl Link {
    pub(crate) fn new(mut line: Line) -> Link {
        let heads: Vec<bool> = line.asks.iter().map(|written| written.ask.is_head()).collect();
        let segments = std::mem::take(&mut line.segments).into();
        Link {
            line,
            arrived: VecDeque::new(),
            delivered: 0,
            read: 0,
            fin: false,
            gone: false,
            reset: false,
            sent: VecDeque::new(),
            written: 0,
            unsent: 0,
            tap: Replies::new(heads.clone()),
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
            reading_body: false,
            segments,
            replies: Replies::new(heads),
            taken: 0,
            blocked: false,
            taking: false,
            done: false,
            saw: None,
            wait: Wait::Opening,
            since: Duration::ZERO,
            yielded: false,
            arrived_at_stop: 0,
            forced: false,
        }
    }

    /// Whether the server has the connection open.
    pub(crate) fn is_open(&self) -> bool {
        self.accepted.is_some() && self.closed.is_none()
    }

    /// Whether a read would return bytes, the end, or an error.
    pub(crate) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.fin || self.reset
    }

    /// How many bytes a write could send.
    pub(crate) fn room(&self) -> usize {
        if self.gone || self.reset {
            return usize::MAX;
        }
        self.line.window.saturating_sub(self.sent.len())
    }

    /// Whether the client may send that many more bytes.
    pub(crate) fn has_receive_room(&self) -> bool {
        self.arrived.len() < RECEIVE_WINDOW
    }

    /// The server reads the bytes that have arrived, as far as its buffer has room.
    pub(crate) fn receive(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        if !self.arrived.is_empty() {
            let room = into.spare_mut();
            let n = room.len().min(self.arrived.len());
            for (to, from) in room.iter_mut().zip(self.arrived.drain(..n)) {
                *to = from;
            }
            into.filled(n);
            self.read += n as u64;
            self.moved();
            return Ok(n);
        }
        if self.reset {
            self.moved();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.fin {
            into.spare_mut();
            into.filled(0);
            self.moved();
            return Ok(0);
        }
        self.idle_calls += 1;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The server writes at most `most` bytes.
    pub(crate) fn send(&mut self, from: &mut WriteQueue, most: usize) -> io::Result<(usize, Vec<u8>)> {
        if self.reset {
            self.moved();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = self.room().min(from.front().len()).min(most.max(1));
        if n == 0 {
            self.idle_calls += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = from.front()[..n].to_vec();
        from.sent(n);
        self.moved();
        Ok((n, bytes))
    }

    /// Records a change that justifies the polls so far.
    pub(crate) fn moved(&mut self) {
        self.progress += 1;
        self.idle_polls = 0;
        self.idle_calls = 0;
    }

    /// How many of the client's requests have arrived completely.
    pub(crate) fn asks_arrived(&self) -> usize {
        self.line.asks.iter().filter(|written| written.end <= self.delivered).count()
    }

    /// How many bytes the client reads at once, and the pause until its next read. `None` if the client reads no more.
    pub(crate) fn takes(&self) -> Option<(usize, Duration)> {
        match self.line.reading {
            Reading::Prompt => Some((usize::MAX, Duration::from_micros(50))),
            Reading::Slow { bytes, every } => Some((bytes, every)),
            Reading::Deaf { after } if self.taken < after => {
                Some(((after - self.taken) as usize, Duration::from_micros(50)))
            }
            Reading::Deaf { .. } => None,
        }
    }

    /// Whether the client leaves as soon as it has its answers.
    pub(crate) fn leaves_when_answered(&self) -> bool {
        self.line.ending == Ending::Answered
    }
}
