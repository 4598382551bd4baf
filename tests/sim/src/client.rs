//! What clients do: connect, send what their plan says, wait for responses, take the bytes of them, and leave in one of
//! several ways.

use std::io;
use std::task::Waker;
use std::time::Duration;

use crate::link::SeenEnd;
use crate::plan::{Ending, Gate};
use crate::world::{Event, State};

impl State {
    pub(crate) fn open(&mut self, at: usize) {
        if self.stopped.is_some() {
            self.note(format_args!("[{at}] finds no server"));
            self.links[at].done = true;
            self.links[at].seen_end = Some(SeenEnd::Reset);
            return;
        }
        self.note(format_args!("[{at}] connects"));
        self.backlog.push_back(at);
        self.links[at].is_connected = true;
        let first = self.links[at].segments.front().map_or(Duration::ZERO, |segment| segment.after);
        self.schedule(self.now + first, Event::Act(at));
    }

    /// A client sends its next segment, if it may send, or ends.
    pub(crate) fn act(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let now = self.now;
        let link = &mut self.links[at];
        if link.done {
            return;
        }
        let Some(segment) = link.segments.front() else {
            self.end(at, wake);
            return;
        };
        let may = match segment.gate {
            Gate::Open => true,
            Gate::Replies(n) | Gate::RepliesBeforeBody(n) => link.replies.complete() >= n,
            Gate::Continue(n) if link.replies.finals.len() > n => {
                // The request is answered without its body, so the body is not sent (RFC 9110, 10.1.1).
                link.segments.clear();
                self.note(format_args!("[{at}] is answered instead of 100 Continue"));
                let link = &mut self.links[at];
                if matches!(link.client.ending, Ending::HalfClose | Ending::HalfCloseThenLeave { .. }) {
                    link.client.ending = Ending::Answered;
                }
                self.end(at, wake);
                return;
            }
            Gate::Switch(n) if link.replies.finals.len() > n && !link.replies.is_switched() => {
                // The client has nothing more to say.
                link.segments.clear();
                self.end(at, wake);
                return;
            }
            Gate::Switch(_) => link.replies.is_switched(),
            Gate::Continue(n) => link.replies.continues > 0 && link.replies.complete() >= n,
        };
        if !may || !link.has_receive_room() {
            link.blocked = true;
            return;
        }
        link.blocked = false;
        let Some(segment) = link.segments.pop_front() else { return };
        if matches!(segment.gate, Gate::Continue(_)) {
            link.replies.continues -= 1;
        }
        let n = segment.bytes.len();
        let lost = link.closed.is_some();
        if n > 0 && !link.reset && !lost {
            link.arrived.extend(segment.bytes);
            link.delivered += n as u64;
            self.note(format_args!("[{at}] sends {n} bytes"));
            self.mix(n as u64);
            self.readable(at, wake);
        } else if n > 0 && lost {
            // The server has closed the connection: its system answers with a reset.
            self.note(format_args!("[{at}] sends {n} bytes to a closed connection"));
            // Bytes that the server sent before are still on their way.
            let link = &mut self.links[at];
            link.segments.clear();
            link.done = true;
            return;
        }
        let link = &self.links[at];
        match link.segments.front() {
            Some(next) => {
                let after = next.after;
                self.schedule(now + after, Event::Act(at));
            }
            None if link.client.ends_with_last => self.end(at, wake),
            None => {
                let pause = Duration::from_micros(self.rng.u64(..500));
                self.schedule(now + pause, Event::Act(at));
            }
        }
    }

    /// Ends a client that has sent everything, in the way of its plan.
    fn end(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let now = self.now;
        let link = &mut self.links[at];
        if link.done {
            return;
        }
        match link.client.ending {
            Ending::Stay => link.done = true,
            Ending::Answered
                if link.seen_end.is_none() && link.replies.complete() < link.client.asks.len() =>
            {
                link.blocked = true;
            }
            Ending::Answered | Ending::Leave => self.leave(at, wake),
            Ending::HalfClose | Ending::HalfCloseThenLeave { .. } => {
                link.done = true;
                link.fin = true;
                if let Ending::HalfCloseThenLeave { after } = link.client.ending {
                    self.schedule(now + after, Event::Leave(at));
                }
                self.note(format_args!("[{at}] ends its side"));
                self.readable(at, wake);
            }
            Ending::Reset { purges } => {
                link.done = true;
                if purges {
                    link.arrived.clear();
                }
                self.reset(at, wake);
            }
        }
    }

    /// A client closes its socket.
    pub(crate) fn leave(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let link = &mut self.links[at];
        link.done = true;
        if std::mem::replace(&mut link.gone, true) {
            return;
        }
        link.gone_at.get_or_insert(self.now);
        // Bytes that the client did not take are answered with a reset (RFC 9293, 3.6.1, and 2525, 2.17).
        let untaken = !link.sent.is_empty();
        link.fin = true;
        self.note(format_args!("[{at}] leaves"));
        if untaken {
            self.reset(at, wake);
        } else {
            self.readable(at, wake);
            self.writable(at, wake);
        }
    }

    pub(crate) fn reset(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let link = &mut self.links[at];
        link.done = true;
        link.gone = true;
        link.gone_at.get_or_insert(self.now);
        link.sent.clear();
        link.reset_at.get_or_insert(self.now);
        if !std::mem::replace(&mut link.reset, true) {
            self.note(format_args!("[{at}] resets"));
        }
        self.readable(at, wake);
        self.writable(at, wake);
    }

    /// A client takes some of the bytes that were sent.
    pub(crate) fn take(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let now = self.now;
        let link = &mut self.links[at];
        link.taking = false;
        if link.seen_end.is_some() || link.gone {
            return;
        }
        let Some((max, every)) = link.takes() else { return };
        let n = max.min(link.sent.len());
        if n > 0 {
            let bytes: Vec<u8> = link.sent.drain(..n).collect();
            link.taken += n as u64;
            let fed = link.replies.feed(&bytes);
            self.note(format_args!("[{at}] takes {n} bytes"));
            if let Err(wrong) = fed {
                self.violate(format!("connection {at} was sent {wrong}"));
            }
            self.writable(at, wake);
        }
        let link = &mut self.links[at];
        let over = link.server_fin.is_some() || link.closed.is_some();
        if link.sent.is_empty() && over {
            link.replies.end();
            link.seen_end = Some(SeenEnd::End);
            self.note(format_args!("[{at}] sees the end"));
            let link = &mut self.links[at];
            if !link.client.is_rude {
                link.segments.clear();
                self.leave(at, wake);
            }
            return;
        }
        if !link.sent.is_empty() {
            link.taking = true;
            self.schedule(now + every, Event::Take(at));
        }
        let link = &mut self.links[at];
        let answered = link.leaves_when_answered() && link.segments.is_empty();
        if link.blocked || answered {
            link.blocked = false;
            let gap = link.segments.front().map_or(Duration::from_micros(20), |segment| segment.after);
            self.schedule(now + gap, Event::Act(at));
        }
    }

    /// Schedules the moment at which the client takes what was sent.
    pub(crate) fn offer(&mut self, at: usize) {
        if !self.links[at].taking {
            self.links[at].taking = true;
            let latency = match self.rng.u8(..4) {
                0 => Duration::ZERO,
                _ => Duration::from_micros(self.rng.u64(..200)),
            };
            self.schedule(self.now + latency, Event::Take(at));
        }
    }

    /// The server has closed the connection.
    pub(crate) fn close(&mut self, at: usize) {
        let now = self.now;
        if self.links[at].is_fresh() && !self.is_forced && !self.is_late_for_head(at) {
            self.violate(format!("connection {at} is closed before its first request was due"));
        }
        let link = &mut self.links[at];
        link.closed = Some(now);
        link.moved();
        link.read_waker = None;
        link.write_waker = None;
        let unread = !link.arrived.is_empty();
        if unread && !link.gone {
            // Closing with unread bytes destroys bytes that are on their way (RFC 2525, 2.17).
            link.sent.clear();
            link.seen_end.get_or_insert(SeenEnd::Reset);
            link.done = true;
        }
        self.note(format_args!("[{at}] is closed by the server{}", if unread { ", unread" } else { "" }));
        self.mix(at as u64);
        self.thread_is_free_of(at);
        if self.links[at].seen_end.is_none() {
            self.offer(at);
        }
        // A client that waits for a response does not wait any longer.
        if self.links[at].blocked && self.links[at].client.is_rude {
            self.links[at].blocked = false;
            self.schedule(now, Event::Act(at));
        }
    }
}

/// What the network does for the server.
impl State {
    /// The server has read.
    pub(crate) fn was_read(&mut self, at: usize, read: &io::Result<usize>) {
        let Ok(n) = read else { return };
        self.note(format_args!("[{at}] is read: {n} bytes"));
        self.mix(*n as u64);
        if self.links[at].blocked {
            // There is room for the next segment.
            self.links[at].blocked = false;
            self.schedule(self.now, Event::Act(at));
        }
    }

    /// The server writes `n` bytes to a client that has left. The system takes them, and the answer from the side of
    /// the client is a reset.
    pub(crate) fn send_to_gone(&mut self, at: usize, n: usize) -> Option<usize> {
        let link = &mut self.links[at];
        if !link.gone || link.reset {
            return None;
        }
        link.sent_on(n, 0);
        self.schedule(self.now + Duration::from_micros(100), Event::Bounce(at));
        self.note(format_args!("[{at}] is sent {n} bytes and has left"));
        Some(n)
    }

    /// The server has written `bytes`, and `left` bytes are left to write.
    pub(crate) fn was_sent(&mut self, at: usize, bytes: &[u8], left: usize) {
        self.note(format_args!("[{at}] is sent {} bytes", bytes.len()));
        self.mix(bytes.len() as u64 ^ 0xff00);
        let link = &mut self.links[at];
        link.sent_on(bytes.len(), left);
        link.sent.extend(bytes);
        if let Err(wrong) = link.tap.feed(bytes) {
            self.violate(format!("connection {at} is sent {wrong}"));
        }
        self.offer(at);
    }

    /// The server ends its side.
    ///
    /// # Errors
    /// The connection was reset.
    pub(crate) fn shut(&mut self, at: usize) -> io::Result<()> {
        let now = self.now;
        let link = &mut self.links[at];
        link.moved();
        if link.reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        link.server_fin = Some(now);
        link.read_at_fin = link.read;
        self.note(format_args!("[{at}] is told the end"));
        self.offer(at);
        Ok(())
    }
}
