//! The pause before a process is started in place of one that has died.

use std::time::{Duration, Instant};

/// A process that has lived for this time was healthy: another one is started at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// The pause after a process that was not healthy. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Backoff {
    /// The number of pauses in a row.
    pauses: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Counts a process that has died at `now`, at the age of `lived`. Returns the pause that begins, if one does.
    /// Processes that die during a pause were started before it and do not count.
    pub(super) fn died(&mut self, lived: Duration, now: Instant) -> Option<Duration> {
        if lived >= HEALTHY {
            self.pauses = 0;
            return None;
        }
        if self.until(now).is_some() {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses)).min(MAX_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// The end of the pause, unless it is over at `now`.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_until_a_process_was_healthy() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut die = |lived| {
            let pause = backoff.died(lived, now);
            if let Some(pause) = pause {
                assert_eq!(backoff.died(Duration::ZERO, now), None, "it was started before the pause");
                assert_eq!(backoff.until(now), Some(now + pause));
                now += pause;
                assert_eq!(backoff.until(now), None);
            }
            pause
        };
        let at_once = Duration::ZERO;
        let pauses: Vec<_> = (0..9).filter_map(|_| die(at_once)).collect();
        let expected = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(pauses, expected.map(Duration::from_millis));
        assert_eq!(die(HEALTHY), None);
        assert_eq!(die(at_once), Some(FIRST_PAUSE));
    }
}
