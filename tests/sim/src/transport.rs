//! The transport of the driver: a connection of the simulated world.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gearshift_core::{ReadBuffer, Stream, Transport, WriteQueue};

use crate::fault::Fault;
use crate::rules::Wait;
use crate::stream::SimStream;
use crate::world::{Event, State, World};

/// The driver's end of one connection.
pub(crate) struct SimTransport {
    world: Arc<World>,
    at: usize,
    /// Whether the connection is a stream now.
    is_upgraded: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The number of calls within one poll that move nothing, beyond which the driver spins.
const IDLE_CALLS: u32 = 1_000;

impl SimTransport {
    pub(crate) fn new(world: Arc<World>, at: usize) -> SimTransport {
        SimTransport { world, at, is_upgraded: false }
    }

    fn receive(&self, into: &mut ReadBuffer) -> io::Result<usize> {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        if link.is_fresh()
            && link.delivered == 0
            && state.stopped.is_some()
            && state.has(Fault::CloseFreshAtStop)
        {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let max = state.links[self.at].client.asks.len() * 16 + 64 * 1024 + 16 * 1024;
        if into.len() > max {
            let held = into.len();
            state.violate(format!("connection {} holds {held} received bytes", self.at));
        }
        if state.links[self.at].idle_calls > IDLE_CALLS {
            state.violate(format!("connection {} reads in a circle", self.at));
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(spoilt) = spoil_read(&mut state, self.at) {
            return spoilt;
        }
        let link = &mut state.links[self.at];
        let read = match link.is_readable() {
            true => link.receive(into.spare_mut()),
            false => link.receive(&mut []),
        };
        if let Ok(n) = read {
            into.filled(n);
        }
        state.was_read(self.at, &read);
        state.links[self.at].wants_read = false;
        read
    }

    /// Writes some of the bytes. Returns their number.
    ///
    /// # Errors
    /// The reason why none are written.
    fn send(&self, from: &mut WriteQueue) -> io::Result<usize> {
        let mut state = self.world.lock();
        let at = self.at;
        if let Some(n) = state.send_to_gone(at, from.len()) {
            from.sent(n);
            return Ok(n);
        }
        let max = if state.rng.u8(..8) == 0 { state.rng.usize(1..64) } else { usize::MAX };
        let bytes = from.front();
        let sent = state.links[at].send(&bytes[..bytes.len().min(max)]);
        if state.links[at].unsent == 0 {
            state.links[at].unsent_since = state.now;
        }
        state.links[at].unsent = from.len();
        let n = sent?;
        let bytes = spoil_sent(&mut state, bytes[..n].to_vec());
        from.sent(n);
        state.was_sent(at, &bytes, from.len());
        Ok(n)
    }

    /// Whether the deadline has passed.
    fn is_late(&self) -> bool {
        let mut state = self.world.lock();
        let now = state.now;
        let link = &state.links[self.at];
        let late = link.deadline.is_some_and(|deadline| deadline <= now);
        if late && state.has(Fault::IgnoreDeadlines) {
            return false;
        }
        late
    }

    /// Whether a deadline is judged before the attempt: the fault `JudgeFirst`.
    fn judges_first(&self) -> bool {
        self.world.lock().fault == Some(Fault::JudgeFirst)
            && self.is_late()
            && self.world.lock().has(Fault::JudgeFirst)
    }

    /// Keeps the waker until there may be progress, unless the deadline has passed.
    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_late() {
            self.world.lock().links[self.at].moved();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut state = self.world.lock();
        let at = self.at;
        let waker = Some(cx.waker().clone());
        match direction {
            Direction::Read => {
                state.links[at].read_waker = waker;
                state.links[at].wants_read = true;
                if state.links[at].client.nudges && state.rng.u8(..16) == 0 {
                    let soon = state.now + Duration::from_micros(state.rng.u64(..300));
                    state.schedule(soon, Event::Nudge(at));
                }
            }
            Direction::Write => {
                state.links[at].write_waker = waker;
                state.links[at].wants_write = true;
            }
        }
        Poll::Pending
    }
}

impl Transport for SimTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        self.world.step_sometimes();
        if self.judges_first() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.world.lock().overlooks_end(self.at, cx.waker()) {
            return Poll::Pending;
        }
        match self.receive(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
        let ready = self.poll_ready(Direction::Read, cx);
        if ready.is_pending() {
            self.world.step_sometimes();
        }
        ready
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        self.world.step_sometimes();
        if self.world.shutdown.is_requested() && self.world.lock().plays_at_stop(self.at) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.receive(into)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        self.world.step_sometimes();
        {
            let mut state = self.world.lock();
            let (len, max) = (from.len(), state.max_output(self.at));
            if len > max {
                state.violate(format!("connection {} holds {len} bytes to send, beyond {max}", self.at));
            }
        }
        if self.judges_first() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match self.send(from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
        self.poll_ready(Direction::Write, cx)
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.world.lock().shut(self.at))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.world.lock().links[self.at].take_error())
    }

    fn has_unread_end(&self) -> bool {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        (link.fin || link.reset) && !link.is_end_read && !state.has(Fault::HideEnd)
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        let at = at.map(|at| self.world.since_start(at));
        let mut state = self.world.lock();
        let at = at.map(|at| state.renewed(self.at, at));
        let link = &mut state.links[self.at];
        link.deadline = at;
        if let Some(at) = at {
            state.arm(self.at, at);
        }
    }

    fn into_stream(mut self) -> io::Result<Stream> {
        self.is_upgraded = true;
        Ok(Stream::new(SimStream::new(self.world.clone(), self.at)))
    }
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        if !self.is_upgraded {
            self.world.lock().close(self.at);
        }
    }
}

impl State {
    /// The deadline of a connection, or a later one if each byte renews it: the fault `RenewDrain`.
    fn renewed(&mut self, at: usize, deadline: Duration) -> Duration {
        if self.fault != Some(Fault::RenewDrain) || !matches!(self.links[at].wait(), Wait::Drain(_)) {
            return deadline;
        }
        let renewed = self.now + self.body_timeout;
        if renewed > deadline && self.has(Fault::RenewDrain) { renewed } else { deadline }
    }

    /// Whether the end of the client's side is not seen: the fault `OverlookEnd`.
    fn overlooks_end(&mut self, at: usize, waker: &Waker) -> bool {
        let link = &self.links[at];
        let is_end = link.arrived.is_empty() && link.fin && !link.reset;
        if !is_end || !matches!(link.wait(), Wait::HalfClosed { .. }) || !self.has(Fault::OverlookEnd) {
            return false;
        }
        self.links[at].is_end_read = true;
        self.links[at].read_waker = Some(waker.clone());
        true
    }
}

/// Plays a fault of the network's reading side, if it is to be played.
fn spoil_read(state: &mut State, at: usize) -> Option<io::Result<usize>> {
    if state.fault.is_none() || state.links[at].arrived.is_empty() || !state.links[at].client.is_clean {
        return None;
    }
    // At any place of the bytes that have arrived.
    let place = state.rng.usize(..state.links[at].arrived.len());
    if state.plays(Fault::DropReadByte) {
        state.links[at].arrived.remove(place);
    } else if state.plays(Fault::RepeatReadByte) {
        let byte = state.links[at].arrived[place];
        state.links[at].arrived.insert(place, byte);
    } else if state.plays(Fault::ChangeReadByte) {
        state.links[at].arrived[place] ^= 1;
    } else if state.links[at].delivered > 0 && state.plays(Fault::CloseEarly) {
        return Some(Err(io::ErrorKind::ConnectionReset.into()));
    }
    None
}

/// Plays a fault of the network's writing side, if it is to be played.
fn spoil_sent(state: &mut State, mut bytes: Vec<u8>) -> Vec<u8> {
    if state.fault.is_none() {
        return bytes;
    }
    let place = state.rng.usize(..bytes.len());
    if state.plays(Fault::DropSentByte) {
        bytes.remove(place);
    } else if state.plays(Fault::RepeatSentByte) {
        bytes.insert(place, bytes[place]);
    }
    bytes
}
