//! The minimum rate at which a peer must send a body or take a response.
//!
//! Only time that the server spent waiting for the peer counts, not the time in which a connection waited for a
//! thread. Each wait has a deadline: the patience that the settings grant. All waits together have one too: the time
//! that they take beyond one patience must be covered by the bytes that moved, at the minimum rate. The first rule
//! ends a peer that stops, the second a peer that dribbles.

use std::time::{Duration, Instant};

/// The waits for one peer during one body or one flush. Every connection has two of these, so they are small.
#[derive(Debug, Default)]
pub(crate) struct MinRate {
    /// When the current wait began.
    since: Option<Instant>,
    /// How long the current wait may last, in milliseconds.
    left: u32,
    /// How long the earlier waits took, in microseconds.
    waited: u64,
    /// Bytes that were received or sent.
    moved: u64,
}

impl MinRate {
    /// Begins a wait, unless one goes on. `rate` is in bytes a second; 0 means no minimum.
    pub(crate) fn wait(&mut self, now: impl FnOnce() -> Instant, patience: Duration, rate: u32) {
        if self.since.is_some() {
            return;
        }
        let left = match rate {
            0 => patience,
            rate => {
                let earned = Duration::from_secs_f64(self.moved as f64 / f64::from(rate));
                patience.min((patience + earned).saturating_sub(Duration::from_micros(self.waited)))
            }
        };
        self.left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        self.since = Some(now());
    }

    /// The deadline of the current wait, if there is one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + Duration::from_millis(self.left.into()))
    }

    /// Records that bytes were received or sent, which ended the current wait at `then`.
    pub(crate) fn moved(&mut self, then: impl FnOnce() -> Instant, bytes: usize) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            let took = then().saturating_duration_since(since);
            self.waited = self.waited.saturating_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Lets a peer move `bytes` after each pause, and returns when the peer was given up.
    fn given_up_after(bytes: usize, pause: Duration) -> Option<Duration> {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        let mut now = start;
        for _ in 0..10_000 {
            min_rate.wait(|| now, PATIENCE, 256);
            let until = min_rate.deadline().unwrap();
            now += pause;
            if until < now {
                return Some(until - start);
            }
            min_rate.moved(|| now, bytes);
        }
        None
    }

    #[test]
    fn a_peer_that_stops_is_given_up() {
        assert_eq!(given_up_after(1 << 20, PATIENCE * 2), Some(PATIENCE));
    }

    #[test]
    fn a_peer_that_dribbles_is_given_up() {
        let given_up = given_up_after(1, Duration::from_secs(1)).unwrap();
        assert!(given_up >= PATIENCE && given_up < PATIENCE + Duration::from_secs(1), "{given_up:?}");
    }

    #[test]
    fn a_slow_but_steady_peer_is_not_given_up() {
        assert_eq!(given_up_after(256, Duration::from_secs(1)), None);
    }

    #[test]
    fn a_wait_that_goes_on_keeps_its_deadline() {
        let (start, mut min_rate) = (Instant::now(), MinRate::default());
        min_rate.wait(|| start, PATIENCE, 256);
        min_rate.wait(|| start + PATIENCE, PATIENCE, 256);
        assert_eq!(min_rate.deadline(), Some(start + PATIENCE));
        min_rate.moved(|| start, 0);
        assert_eq!(min_rate.deadline(), None);
    }
}
