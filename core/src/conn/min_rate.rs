//! The minimum rate at which a peer must send a body or receive a response.
//!
//! Two rules end the wait for a slow peer. First, one wait lasts at most the timeout of the settings: this ends a peer
//! that stops. Second, all waits together last at most that timeout plus the time that the bytes moved so far take at
//! the minimum rate: this ends a peer that moves a few bytes at a time. The waits for an unread body also have a
//! maximum that no byte extends. The time in which a connection waits for a thread does not count.
//!
//! If bytes moved although the deadline of the wait had passed, the process may not have run, and the peer may have
//! moved them at any time. So such a wait does not count, once. Of later ones, the time after the deadline does not
//! count if it is at least [`DID_NOT_RUN`]: a reactor notices every deadline a little late.

use std::mem::replace;
use std::time::{Duration, Instant};

use crate::runtime::clock::MAX_WAIT;

/// If a wait ends this late after its deadline, the process did not run when the deadline passed: the process was
/// stopped, or an event loop was stalled. The sweeps of the reactor are less late.
const DID_NOT_RUN: Duration = Duration::from_secs(1);

/// The limits of the waits for a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitLimits {
    /// The maximum duration of one wait, and of all waits for a peer that moves nothing.
    pub(crate) timeout: Duration,
    /// The minimum rate in bytes per second; 0 means no minimum.
    pub(crate) rate: u32,
    /// The maximum duration of all waits together.
    pub(crate) total: Duration,
}

impl WaitLimits {
    /// The limits without a maximum for all waits together.
    pub(crate) fn new(timeout: Duration, rate: u32) -> WaitLimits {
        WaitLimits { timeout: timeout.min(MAX_WAIT), rate, total: Duration::MAX }
    }

    /// The same limits for at most `bytes` bytes. All waits together last at most as long as for a peer that moves the
    /// bytes at the minimum rate. Without a minimum rate, that is one timeout.
    pub(crate) fn of_at_most(self, bytes: u64) -> WaitLimits {
        WaitLimits { total: self.timeout.saturating_add(self.earned(bytes)), ..self }
    }

    /// The time that `bytes` bytes take at the minimum rate.
    fn earned(self, bytes: u64) -> Duration {
        match self.rate {
            0 => Duration::ZERO,
            rate => Duration::try_from_secs_f64(bytes as f64 / f64::from(rate)).unwrap_or(Duration::MAX),
        }
    }
}

/// The waits for a peer during one body or one flush.
#[derive(Debug, Default)]
pub(crate) struct MinRate {
    /// The start of the current wait.
    since: Option<Instant>,
    /// The maximum duration of the current wait.
    max_wait: Duration,
    /// The total duration of the earlier waits.
    waited: Duration,
    /// The number of bytes received or sent.
    moved: u64,
    /// Whether a wait that ended late was not counted.
    has_forgiven: bool,
}

impl MinRate {
    /// Begins a wait, unless there is a current one.
    pub(crate) fn wait(&mut self, now: Instant, limits: WaitLimits) {
        if self.since.is_some() {
            return;
        }
        let total = match limits.rate {
            0 => limits.total,
            _ => limits.total.min(limits.timeout.saturating_add(limits.earned(self.moved))),
        };
        self.max_wait = limits.timeout.min(total.saturating_sub(self.waited));
        self.since = Some(now);
    }

    /// Whether the current wait has no time, because the earlier waits have used up all of it. A transport tries once
    /// more at a deadline, so a peer that moves a byte then would never be late.
    pub(crate) fn is_used_up(&self) -> bool {
        self.since.is_some() && self.max_wait.is_zero()
    }

    /// Whether a wait has begun.
    pub(crate) fn is_begun(&self) -> bool {
        self.since.is_some() || self.moved > 0
    }

    /// The deadline of the current wait, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.max_wait)
    }

    /// Records that `bytes` bytes were received or sent, and ends the current wait at the time `end`.
    pub(crate) fn moved(&mut self, end: Instant, bytes: usize) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            let waited = end.saturating_duration_since(since);
            let late = waited.saturating_sub(self.max_wait);
            if !late.is_zero() && !replace(&mut self.has_forgiven, true) {
                return;
            }
            self.waited += if late >= DID_NOT_RUN { self.max_wait } else { waited };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Simulates a peer that moves `bytes` after each pause. Returns the time until the deadline that it missed.
    fn given_up_after(bytes: usize, pause: Duration) -> Option<Duration> {
        ended_after(WaitLimits::new(TIMEOUT, 256), bytes, pause)
    }

    fn ended_after(limits: WaitLimits, bytes: usize, pause: Duration) -> Option<Duration> {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        let mut now = start;
        for _ in 0..10_000 {
            min_rate.wait(now, limits);
            let until = min_rate.deadline().unwrap();
            now += pause;
            if until < now {
                return Some(until - start);
            }
            min_rate.moved(now, bytes);
        }
        None
    }

    #[test]
    fn a_peer_that_stops_or_is_below_the_minimum_rate_is_given_up() {
        let second = Duration::from_secs(1);
        assert_eq!(given_up_after(1 << 20, TIMEOUT * 2), Some(TIMEOUT));
        let given_up = given_up_after(1, second).unwrap();
        assert!(given_up >= TIMEOUT && given_up < TIMEOUT + second, "{given_up:?}");
        assert_eq!(given_up_after(256, second), None);
    }

    #[test]
    fn the_time_for_which_the_process_was_stopped_is_not_the_peers() {
        let (mut now, mut min_rate) = (Instant::now(), MinRate::default());
        // 2,560 bytes at 256 bytes per second take 10 s.
        for left in [TIMEOUT, Duration::from_secs(20), Duration::from_secs(10)] {
            min_rate.wait(now, WaitLimits::new(TIMEOUT, 256));
            now += 10 * TIMEOUT;
            min_rate.moved(now, 2560);
            min_rate.wait(now, WaitLimits::new(TIMEOUT, 256));
            assert_eq!(min_rate.deadline(), Some(now + left));
        }
    }

    #[test]
    fn the_time_until_the_reactor_notices_a_deadline_is_the_peers_except_once() {
        let (mut now, mut min_rate) = (Instant::now(), MinRate::default());
        for is_used_up in [false, true] {
            min_rate.wait(now, WaitLimits::new(TIMEOUT, 256));
            now += TIMEOUT + Duration::from_millis(100);
            min_rate.moved(now, 1);
            min_rate.wait(now, WaitLimits::new(TIMEOUT, 256));
            assert_eq!(min_rate.deadline(), Some(if is_used_up { now } else { now + TIMEOUT }));
            assert_eq!(min_rate.is_used_up(), is_used_up);
        }
    }

    #[test]
    fn the_waits_for_an_unread_body_have_a_maximum_that_no_byte_extends() {
        let second = Duration::from_secs(1);
        // 25,600 bytes at 256 bytes per second take 100 s.
        let limits = WaitLimits::new(TIMEOUT, 256).of_at_most(25_600);
        assert_eq!(ended_after(limits, 256, second), Some(TIMEOUT + 100 * second));
        assert_eq!(ended_after(limits, 1 << 20, second), Some(TIMEOUT + 100 * second));
        assert!(ended_after(limits, 1, second).is_some_and(|after| after < TIMEOUT + second));
        assert_eq!(ended_after(WaitLimits::new(TIMEOUT, 0), 1, second), None);
        assert_eq!(ended_after(WaitLimits::new(TIMEOUT, 0).of_at_most(25_600), 1, second), Some(TIMEOUT));
        let never = WaitLimits::new(Duration::MAX, 1).of_at_most(u64::MAX);
        assert_eq!(ended_after(never, 1, second), None);
    }

    #[test]
    fn a_current_wait_keeps_its_deadline() {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        min_rate.wait(start, WaitLimits::new(TIMEOUT, 256));
        min_rate.wait(start + TIMEOUT, WaitLimits::new(TIMEOUT, 256));
        assert_eq!(min_rate.deadline(), Some(start + TIMEOUT));
        min_rate.moved(start, 0);
        assert_eq!(min_rate.deadline(), None);
    }

    #[test]
    fn a_rate_is_begun_by_a_wait_and_until_it_is_forgotten() {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        assert!(!min_rate.is_begun());
        min_rate.wait(start, WaitLimits::new(TIMEOUT, 256));
        assert!(min_rate.is_begun());
        min_rate.moved(start, 1);
        assert!(min_rate.is_begun());
    }
}
