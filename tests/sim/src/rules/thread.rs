//! The rules for the threads of the blocking flavour, and for each poll of a connection.

use std::time::Duration;

use gearshift_core::Config;

use crate::link::Link;
use crate::rules::Wait;
use crate::rules::waiting::IDLE_POLLS;
use crate::world::State;

/// The time without an idle thread after which a client is asked whether it is still there.
const LONG_WAIT: Duration = Duration::from_millis(100);

impl State {
    /// Whether no thread has been idle for long.
    pub(crate) fn have_threads_been_busy(&self) -> bool {
        self.now.saturating_sub(self.idle_at) >= LONG_WAIT
    }

    /// Extends the waits of the connections that hold no thread: since `began` no thread was free.
    pub(crate) fn hold_up(&mut self, began: Duration) {
        let (now, held) = (self.now, self.now.saturating_sub(began));
        for link in self.links.iter_mut().filter(|link| !link.is_held) {
            link.since = (link.since + held).min(now);
            link.did_not_run(now);
            link.waited.was_held_up(held);
        }
    }

    /// Does the same after a call on connection `at` that blocked: no other connection was polled since `began`.
    pub(crate) fn stall(&mut self, at: usize, began: Duration) {
        let held = self.now.saturating_sub(began);
        for (_, link) in self.links.iter_mut().enumerate().filter(|(n, link)| *n != at && link.is_held) {
            link.did_not_run(self.now);
            link.waited.was_held_up(held);
        }
        self.hold_up(began);
    }
}

impl Link {
    /// The connection was not polled until `now`.
    pub(super) fn did_not_run(&mut self, now: Duration) {
        self.unpolled_until = now;
    }

    /// Gives a handler, or the body of a response, its time again, once, if the connection was not polled at the
    /// deadline.
    pub(super) fn excuse(&mut self, config: &Config) {
        let limit = match self.wait {
            Wait::Handler(_) => config.handler_timeout,
            Wait::HalfClosed { .. } => config.half_closed_timeout,
            _ => return,
        };
        let is_late = self.unpolled_until > self.wait_began.saturating_add(limit);
        if is_late && self.excused.replace(self.wait) != Some(self.wait) {
            self.since = self.unpolled_until;
        }
    }
}

/// Notes, before a connection is polled on a thread, whether its client is gone and the driver has to find that out
/// before a request begins.
pub(crate) fn note_thread(state: &mut State, at: usize) {
    let has_waited = state.have_threads_been_busy();
    let link = &mut state.links[at];
    link.waited_for_thread |= has_waited;
    let next = link.client.asks.get(link.begun).filter(|next| link.read < next.head_end);
    // The driver asks only if the end is within what it reads ahead. It takes other clients for present.
    let is_asked = has_waited
        && link.begun == link.tap.complete()
        && link.unsent == 0
        && !link.is_end_read
        && !link.arrived.is_empty()
        && link.unbegun() < 4096
        && next.is_some_and(|next| !next.ask.old && !next.ask.expect);
    link.must_not_begin |= is_asked && link.gone && !link.client.is_mangled;
}

/// Checks whether a connection that was polled spins.
pub(crate) fn check_poll(state: &mut State, at: usize, progress_before: u64) {
    let link = &mut state.links[at];
    link.idle_calls = 0;
    if link.progress == progress_before {
        link.idle_polls += 1;
        if link.idle_polls > IDLE_POLLS {
            state.violate(format!("connection {at} is polled in a circle"));
        }
    }
}
