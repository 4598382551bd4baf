//! How long a peer may take over the bytes of a body, in one direction.
//!
//! Only the time counts in which it was waited for. Each wait has an end, and so have all waits together: what they
//! take beyond the patience for one must have been earned by bytes, at the least rate. A peer that stops is found by
//! the first, one that dribbles by the second.

use std::time::{Duration, Instant};

/// The waits for one peer, over one body or one flush. Every connection has two, so it is kept small.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the wait at hand began.
    since: Option<Instant>,
    /// How long it may last, in milliseconds.
    left: u32,
    /// How long the waits before it took, in microseconds.
    waited: u64,
    /// Bytes that came or went.
    moved: u64,
}

impl Pace {
    /// A wait begins, unless one goes on.
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

    /// When the wait at hand is to end, if there is one.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + Duration::from_millis(self.left.into()))
    }

    /// So many bytes have come or gone, which ends the wait.
    pub(crate) fn moved(&mut self, now: impl FnOnce() -> Instant, bytes: usize) {
        self.moved += bytes as u64;
        if let Some(since) = self.since.take() {
            let took = now().saturating_duration_since(since);
            self.waited = self.waited.saturating_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Lets a peer move `bytes` after each pause, and says when it was given up.
    fn given_up_after(bytes: usize, pause: Duration) -> Option<Duration> {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut now = start;
        for _ in 0..10_000 {
            pace.wait(|| now, PATIENCE, 256);
            let until = pace.until().unwrap();
            now += pause;
            if until < now {
                return Some(until - start);
            }
            pace.moved(|| now, bytes);
        }
        None
    }

    #[test]
    fn gives_up_who_stops() {
        assert_eq!(given_up_after(1 << 20, PATIENCE * 2), Some(PATIENCE));
    }

    #[test]
    fn gives_up_who_dribbles() {
        let given_up = given_up_after(1, Duration::from_secs(1)).unwrap();
        assert!(given_up >= PATIENCE && given_up < PATIENCE + Duration::from_secs(1), "{given_up:?}");
    }

    #[test]
    fn bears_who_is_slow_but_steady() {
        assert_eq!(given_up_after(256, Duration::from_secs(1)), None);
    }

    #[test]
    fn a_wait_that_goes_on_keeps_its_end() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        pace.wait(|| start, PATIENCE, 256);
        pace.wait(|| start + PATIENCE, PATIENCE, 256);
        assert_eq!(pace.until(), Some(start + PATIENCE));
        pace.moved(|| start, 0);
        assert_eq!(pace.until(), None);
    }
}
