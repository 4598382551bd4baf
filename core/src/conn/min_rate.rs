//! The minimum rate at which a peer must send a body or receive a response.
//!
//! Two rules end the wait for a slow peer. First, one wait lasts at most the timeout of the settings: this ends a peer
//! that stops. Second, all waits together last at most that timeout plus the time that the bytes moved so far take at
//! the minimum rate: this ends a peer that moves a few bytes at a time. The time in which a connection waits for a
//! thread does not count, and neither does the time from the deadline of a wait to the bytes that are found later: the
//! process did not run then.

use std::time::{Duration, Instant};

use crate::runtime::clock::MAX_WAIT;

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
}

impl MinRate {
    /// Begins a wait, unless there is a current one. `rate` is in bytes per second; 0 means no minimum.
    pub(crate) fn wait(&mut self, now: Instant, timeout: Duration, rate: u32) {
        if self.since.is_some() {
            return;
        }
        let timeout = timeout.min(MAX_WAIT);
        self.max_wait = match rate {
            0 => timeout,
            rate => {
                let earned = Duration::from_secs_f64(self.moved as f64 / f64::from(rate));
                timeout.min((timeout + earned).saturating_sub(self.waited))
            }
        };
        self.since = Some(now);
    }

    /// The deadline of the current wait, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.max_wait)
    }

    /// Records that `bytes` bytes were received or sent, and ends the current wait at the time `end`.
    pub(crate) fn moved(&mut self, end: Instant, bytes: usize) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += end.saturating_duration_since(since).min(self.max_wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Simulates a peer that moves `bytes` after each pause. Returns the time until the deadline that it missed.
    fn given_up_after(bytes: usize, pause: Duration) -> Option<Duration> {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        let mut now = start;
        for _ in 0..10_000 {
            min_rate.wait(now, TIMEOUT, 256);
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
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        min_rate.wait(start, TIMEOUT, 256);
        let now = start + 10 * TIMEOUT;
        min_rate.moved(now, 2560);
        min_rate.wait(now, TIMEOUT, 256);
        assert_eq!(
            min_rate.deadline(),
            Some(now + Duration::from_secs(10)),
            "the bytes were read, so they count"
        );
    }

    #[test]
    fn a_current_wait_keeps_its_deadline() {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        min_rate.wait(start, TIMEOUT, 256);
        min_rate.wait(start + TIMEOUT, TIMEOUT, 256);
        assert_eq!(min_rate.deadline(), Some(start + TIMEOUT));
        min_rate.moved(start, 0);
        assert_eq!(min_rate.deadline(), None);
    }
}
