//! The rule for clients that move a few bytes at a time.
//!
//! A byte that moves begins a new wait, but all waits for one body, or for one flush of a response, together are
//! limited by the timeout and the time that the bytes take at the minimum rate. The first wait whose end was noticed
//! late does not count, so one more timeout is excused if the process was paused, a thread was held, or sweeps are
//! late.

use std::time::Duration;

use gearshift_core::Config;

use crate::link::Link;
use crate::rules::{TOLERANCE, Wait};

/// How long a connection has waited for its client, all waits of one kind together.
#[derive(Debug, Default)]
pub(crate) struct Waited {
    /// For the body of the request that began last.
    body: Duration,
    /// For the body of the next request, before it begins.
    buffer: Duration,
    /// For the rest of a body that its handler left unread.
    drain: Duration,
    /// For room to write, since nothing was left to write.
    write: Duration,
    /// The number of bytes that had been written then.
    written: u64,
    /// The flush and the number of requests that had begun when the waits were last checked.
    checked: (u64, usize),
    flush: u64,
    /// The time since the last check in which no thread was free.
    held_up: Duration,
    /// Whether the connection was not polled for a time.
    was_unpolled: bool,
}

impl Waited {
    /// A request begins.
    pub(crate) fn begins(&mut self) {
        (self.body, self.buffer, self.drain) = Default::default();
    }

    /// No thread was free for a time.
    pub(super) fn was_held_up(&mut self, held: Duration) {
        self.held_up += held;
        self.was_unpolled = true;
    }

    /// The process was paused.
    pub(super) fn was_paused(&mut self) {
        self.was_unpolled = true;
    }

    /// Nothing is left to write.
    pub(crate) fn flushed(&mut self, written: u64) {
        (self.write, self.written) = (Duration::ZERO, written);
        self.flush += 1;
    }
}

impl Link {
    /// Adds the time since the last check to the wait of that time, if it goes on.
    pub(super) fn note_waited(&mut self, passed: Duration) {
        let passed = passed.saturating_sub(std::mem::take(&mut self.waited.held_up));
        let now = (self.waited.flush, self.begun);
        let checked = std::mem::replace(&mut self.waited.checked, now);
        match self.wait {
            Wait::Body(_) if checked.1 == now.1 => self.waited.body += passed,
            Wait::Buffer(_) if checked.1 == now.1 => self.waited.buffer += passed,
            Wait::Drain(_) if checked.1 == now.1 => self.waited.drain += passed,
            Wait::Write(_) if checked.0 == now.0 => self.waited.write += passed,
            _ => {}
        }
    }

    /// What is wrong with the waits for a slow client.
    pub(super) fn judge_rate(&self, config: &Config, tolerance: Duration) -> Option<String> {
        let excused = u32::from(self.waited.was_unpolled || tolerance > TOLERANCE);
        let timeouts = |timeout: Duration| timeout * (1 + excused) + tolerance;
        let may = |timeout: Duration, moved: u64| match config.min_rate {
            0 => Duration::MAX,
            rate => timeouts(timeout) + Duration::from_secs_f64(moved as f64 / f64::from(rate)),
        };
        let head_end = |n: usize| self.client.asks.get(n).map_or(0, |written| written.head_end);
        let read = |n: usize| self.read.saturating_sub(head_end(n));
        let Waited { body, buffer, drain, write, written, .. } = self.waited;
        let last = self.begun.saturating_sub(1);
        // The rest of a body has a limit without a minimum rate, too.
        let may_drain = match config.min_rate {
            0 => timeouts(config.body_timeout),
            _ => may(config.body_timeout, read(last)),
        };
        let (waited, what) = if body > may(config.body_timeout, read(last)) {
            (body, "for a body")
        } else if drain > may_drain {
            (drain, "for the rest of a body")
        } else if buffer > may(config.body_timeout, read(self.begun)) {
            (buffer, "for a small body")
        } else if write > may(config.write_timeout, self.written - written) {
            (write, "to write")
        } else {
            return None;
        };
        Some(format!("has waited {waited:?} {what}, all waits together"))
    }
}
