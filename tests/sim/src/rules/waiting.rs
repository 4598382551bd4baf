//! The rules that hold whenever the server waits, and those for each poll of a connection.

use std::time::Duration;

use gearshift_core::{Config, OnDisconnect};

use crate::link::Link;
use crate::rules::{TOLERANCE, Wait};
use crate::world::State;

/// The time without an idle thread after which a client is asked whether it is still there.
const LONG_WAIT: Duration = Duration::from_millis(100);
/// The number of polls without progress at one instant, beyond which the driver spins.
const IDLE_POLLS: u32 = 500;

/// Checks whether every connection may wait, when the server has nothing to do.
pub(crate) fn check_waits(state: &mut State, config: &Config) {
    let now = state.now;
    let tolerance = TOLERANCE + state.lateness;
    let buffers = state.blocking && config.body_buffer > 0;
    let paused = state.paused - std::mem::replace(&mut state.checked_paused, state.paused);
    let passed = now.saturating_sub(std::mem::replace(&mut state.checked, now)).saturating_sub(paused);
    let over = state.task_readers.iter().find(|(at, n)| state.links[*at].is_over(*n));
    if let Some((at, n)) = over {
        let wrong =
            format!("a task still waits for the body of request {n} of connection {at}, which is over");
        state.violate(wrong);
    }
    let ended = state.links.iter().position(|link| link.closed.is_some() && link.token_waits > 0);
    if let Some(at) = ended {
        state.violate(format!("a task still waits for the token of connection {at}, which has ended"));
    }
    for at in 0..state.links.len() {
        let link = &mut state.links[at];
        if !link.is_open() {
            continue;
        }
        // Nothing is known of bytes that were changed on their way.
        let wait = match link.client.is_mangled && link.unsent == 0 {
            true => Wait::Stream(0),
            false => Wait::of(link, buffers),
        };
        let is_same = std::mem::replace(&mut link.begun_when_checked, link.begun) == link.begun;
        if matches!(link.wait, Wait::Body(_)) && is_same {
            link.body_waited += passed;
        }
        let is_dribbled = link.is_held && link.body_waited > link.max_body_wait(config) + tolerance;
        if link.wait != wait {
            // A body that its client stopped sending is awaited once, by the driver or by the handler.
            let goes_on =
                matches!((link.wait, wait), (Wait::Buffer(before), Wait::Body(read)) if before == read);
            link.since = if goes_on { link.since } else { now };
            link.wait = wait;
        }
        // A handler that goes on when its client has left is not told of a write that fails, because the client is gone
        // or is slower than the minimum rate.
        let is_at_work = link.is_handled();
        let ignores =
            config.on_disconnect == OnDisconnect::Ignore && matches!(wait, Wait::Write(_)) && is_at_work;
        let gave_up = ignores && config.min_rate > 0;
        let since = link.since;
        let lasts = now.saturating_sub(since);
        let wrong = if link.is_held && !is_at_work {
            Some(format!("holds a thread, waiting for {wait:?}"))
        } else if is_dribbled {
            Some(format!("has waited {:?} for a body that is slower than the minimum rate", link.body_waited))
        } else if state.is_saturated && !link.is_held && !state.is_forced {
            None
        } else if !ignores && wait.limit(config).is_some_and(|limit| lasts > limit + tolerance) {
            Some(format!("waits for {wait:?} since {since:?}, for {lasts:?}"))
        } else if state.is_forced {
            Some(format!("outlives a forced stop, waiting for {wait:?}"))
        } else if state.stopped.is_some() && matches!(wait, Wait::Idle(_) | Wait::Drain(_)) {
            Some(format!("outlives a graceful stop, waiting for {wait:?}"))
        } else if link.idle_polls > IDLE_POLLS {
            Some("is polled in a circle".into())
        } else if link.unsent > 0
            && link.room() > 0
            && !(link.gone && config.on_disconnect == OnDisconnect::Ignore)
            && !gave_up
        {
            Some("has room to write, and is asleep".into())
        } else if link.is_readable() && link.wants_read && link.unsent == 0 {
            Some("has been sent bytes, and is asleep".into())
        } else if link.is_readable()
            && !matches!(
                wait,
                Wait::Handler(_)
                    | Wait::UnknownHandler(_)
                    | Wait::Stream(_)
                    | Wait::Write(_)
                    | Wait::Body(_)
                    | Wait::Question
            )
        {
            Some(format!("has been sent bytes, and does not read, waiting for {wait:?}"))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            state.violate(format!("connection {at} {wrong}"));
        }
    }
}

impl Link {
    /// How long the body of the request that began last may be awaited, all waits together.
    fn max_body_wait(&self, config: &Config) -> Duration {
        let head_end =
            self.begun.checked_sub(1).and_then(|last| self.client.asks.get(last)).map(|last| last.head_end);
        let read = self.read.saturating_sub(head_end.unwrap_or(0));
        match config.min_rate {
            0 => Duration::MAX / 2,
            rate => config.body_timeout + Duration::from_secs_f64(read as f64 / f64::from(rate)),
        }
    }
}

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
