//! The rules that hold whenever the server waits.

use std::time::Duration;

use gearshift_core::{Config, OnDisconnect};

use crate::action::Kind;
use crate::link::Link;
use crate::rules::wait::MAX_PAUSE;
use crate::rules::{TOLERANCE, Wait};
use crate::world::State;

/// The number of polls without progress at one instant, beyond which the driver spins.
pub(super) const IDLE_POLLS: u32 = 500;

/// The number of bytes that are read ahead while a request is at work.
const MAX_READ_AHEAD: u64 = 4096;

/// The time to the first look.
const FIRST_CHECK: Duration = Duration::from_millis(250);

/// Checks whether every connection and every task may wait, when the server has nothing to do.
pub(crate) fn check_waits(state: &mut State, config: &Config) {
    let now = state.now;
    let buffers = state.blocking && config.body_buffer > 0;
    let paused = state.paused - std::mem::replace(&mut state.checked_paused, state.paused);
    let passed = now.saturating_sub(std::mem::replace(&mut state.checked, now)).saturating_sub(paused);
    check_tasks(state);
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
        link.note_waited(passed);
        if !paused.is_zero() {
            link.did_not_run(now);
            link.waited.was_paused();
        }
        if link.wait != wait {
            // A body that its client stopped sending is awaited once, by the driver or by the handler.
            let goes_on =
                matches!((link.wait, wait), (Wait::Buffer(before), Wait::Body(read)) if before == read);
            link.since = if goes_on { link.since } else { now };
            (link.wait, link.wait_began) = (wait, now);
        }
        link.excuse(config);
        if let Some(wrong) = judge_wait(&state.links[at], state, config) {
            state.violate(format!("connection {at} {wrong}"));
        }
    }
}

/// Checks whether a task waits for something that has ended.
fn check_tasks(state: &mut State) {
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
}

/// What is wrong with the wait of an open connection.
fn judge_wait(link: &Link, state: &State, config: &Config) -> Option<String> {
    let (wait, since) = (link.wait, link.since);
    let lasts = state.now.saturating_sub(since);
    let tolerance = TOLERANCE + state.lateness;
    // A handler that goes on when its client has left is not told of a write that fails, because the client is gone
    // or is slower than the minimum rate.
    let is_ignored = config.on_disconnect == OnDisconnect::Ignore;
    let ignores = is_ignored && matches!(wait, Wait::Write(_)) && link.is_handled();
    if link.held_on.is_some() && !link.is_held {
        return Some(format!("does not hold the thread of its response, waiting for {wait:?}"));
    }
    if link.is_held && !link.is_handled() && link.held_on.is_none() {
        return Some(format!("holds a thread, waiting for {wait:?}"));
    }
    if state.is_saturated && !link.is_held && !state.is_forced {
        return None;
    }
    if !ignores && let Some(wrong) = link.judge_rate(config, tolerance) {
        return Some(wrong);
    }
    if !ignores && wait.limit(config).is_some_and(|limit| lasts > limit.saturating_add(tolerance)) {
        return Some(format!("waits for {wait:?} since {since:?}, for {lasts:?}"));
    }
    if state.is_forced {
        return Some(format!("outlives a forced stop, waiting for {wait:?}"));
    }
    let may_stay = match wait {
        Wait::Idle(_) | Wait::Drain(_) => config.drain_idle,
        Wait::Upgraded => link.last_kind() != Some(Kind::Upgrade),
        _ => true,
    };
    if state.stopped.is_some() && !may_stay {
        return Some(format!("outlives a graceful stop, waiting for {wait:?}"));
    }
    if !is_ignored && link.has_outlived_client(state.now, tolerance + state.paused) {
        return Some(format!("does not see that its client is gone, waiting for {wait:?}"));
    }
    if !is_ignored && link.must_read_ahead() && link.is_readable() {
        return Some(format!("does not read ahead, waiting for {wait:?}"));
    }
    if link.idle_polls > IDLE_POLLS {
        return Some("is polled in a circle".into());
    }
    judge_sleep(link, is_ignored, ignores && config.min_rate > 0)
}

/// What the connection has to do while it waits. A handler may go on although its client has left (`is_ignored`), and
/// although its client was too slow (`gave_up`).
fn judge_sleep(link: &Link, is_ignored: bool, gave_up: bool) -> Option<String> {
    if link.unsent > 0 && link.room() > 0 && !(link.gone && is_ignored) && !gave_up {
        return Some("has room to write, and is asleep".into());
    }
    if link.wait == Wait::Upgraded && link.wants_write && link.room() > 0 {
        return Some("has room to write after its upgrade, and is asleep".into());
    }
    if !link.is_readable() {
        return None;
    }
    if link.wants_read && link.unsent == 0 {
        return Some("has been sent bytes, and is asleep".into());
    }
    let must_read = matches!(
        link.wait,
        Wait::Opening
            | Wait::Idle(_)
            | Wait::Head(_)
            | Wait::Drain(_)
            | Wait::Buffer(_)
            | Wait::Linger
            | Wait::Nothing
    );
    must_read.then(|| format!("has been sent bytes, and does not read, waiting for {:?}", link.wait))
}

impl Link {
    /// Whether a request is at work and waits for something other than its client.
    fn is_at_work(&self) -> bool {
        matches!(self.wait, Wait::Handler(_) | Wait::Stream(_) | Wait::HalfClosed { .. })
            && !self.client.is_mangled
    }

    /// Whether the driver has to read what the client sends behind the request at work, so that it sees the client
    /// leave.
    fn must_read_ahead(&self) -> bool {
        let end = self.client.asks.get(self.begun.saturating_sub(1)).map_or(u64::MAX, |last| last.end);
        self.is_at_work()
            && self.consumed == self.begun
            && !self.is_end_read
            && (end..end + MAX_READ_AHEAD).contains(&self.read)
    }

    /// Whether a request is at work long after the client has reset the connection.
    fn has_outlived_client(&self, now: Duration, tolerance: Duration) -> bool {
        let since = self.reset_at.max(self.began_at.last().copied());
        self.is_at_work()
            && self.reset
            && since.is_some_and(|since| now > since + MAX_PAUSE + FIRST_CHECK + tolerance)
    }
}
