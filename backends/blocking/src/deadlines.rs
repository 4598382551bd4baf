//! When to look at the deadlines of parked connections.
//!
//! There is no timer for a connection. All deadlines are looked at in one sweep, when the earliest could be due:
//! after a sweep that is the earliest deadline it saw, or the shortest time limit from now, as no deadline that is
//! set later can come before that. The few that do (a head that began long ago goes on) move the next sweep.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A time that never comes.
const NEVER: u64 = u64::MAX;
/// The longest time between two sweeps.
const LONGEST: Duration = Duration::from_secs(3600);

/// The time of the next sweep, shared by those who park connections and the one who sweeps.
#[derive(Debug)]
pub struct Deadlines {
    start: Instant,
    /// Nanoseconds from `start`; [`NEVER`] while a sweep is on, so that whoever parks says so.
    next: AtomicU64,
    shortest: Duration,
}

impl Deadlines {
    /// Deadlines of which none comes sooner than `shortest` after it was set, mostly.
    pub fn new(shortest: Duration) -> Deadlines {
        let shortest = shortest.min(LONGEST);
        let deadlines = Deadlines { start: Instant::now(), next: AtomicU64::new(NEVER), shortest };
        deadlines.swept(None);
        deadlines
    }

    /// When the next sweep is due.
    pub fn next_sweep(&self) -> Instant {
        self.start + Duration::from_nanos(self.next.load(SeqCst))
    }

    /// A connection was parked until `deadline`: says whether that moves the next sweep. Called after the
    /// connection can be seen by the sweep.
    pub fn parked(&self, deadline: Option<Instant>) -> bool {
        match deadline {
            Some(at) => {
                let at = self.nanos(at);
                self.next.fetch_min(at, SeqCst) > at
            }
            None => false,
        }
    }

    /// Begins a sweep if one is due. Connections are looked at after this, and what is parked meanwhile counts for
    /// the next sweep.
    pub fn begin_sweep(&self, now: Instant) -> bool {
        let due = self.next.load(SeqCst) <= self.nanos(now);
        if due {
            self.next.store(NEVER, SeqCst);
        }
        due
    }

    /// A sweep has ended and the earliest deadline that it left was `earliest`.
    pub fn swept(&self, earliest: Option<Instant>) {
        let latest = Instant::now() + self.shortest;
        let next = earliest.map_or(latest, |at| at.min(latest));
        self.next.fetch_min(self.nanos(next), SeqCst);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_next_sweep_is_at_the_latest_after_the_shortest_limit() {
        let deadlines = Deadlines::new(SECOND);
        let now = Instant::now();
        assert!(deadlines.next_sweep() <= now + SECOND);
        assert!(!deadlines.begin_sweep(now));
        assert!(deadlines.begin_sweep(now + 2 * SECOND));
        deadlines.swept(Some(now + 100 * SECOND));
        assert!(deadlines.next_sweep() <= Instant::now() + SECOND);
    }

    #[test]
    fn an_earlier_deadline_moves_the_sweep_and_says_so() {
        let deadlines = Deadlines::new(100 * SECOND);
        let now = Instant::now();
        assert!(!deadlines.parked(None));
        assert!(!deadlines.parked(Some(now + 200 * SECOND)));
        assert!(deadlines.parked(Some(now + SECOND)));
        assert_eq!(deadlines.next_sweep(), now + SECOND);
        assert!(deadlines.begin_sweep(now + SECOND));
    }

    #[test]
    fn what_is_parked_during_a_sweep_is_not_forgotten() {
        let deadlines = Deadlines::new(100 * SECOND);
        let now = Instant::now();
        assert!(deadlines.begin_sweep(now + 200 * SECOND));
        assert!(deadlines.parked(Some(now + SECOND)), "a sweep may have missed it, so it asks for another");
        deadlines.swept(Some(now + 50 * SECOND));
        assert_eq!(deadlines.next_sweep(), now + SECOND);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        let deadlines = Deadlines::new(100 * SECOND);
        let past = Instant::now();
        assert!(deadlines.parked(Some(past)));
        assert!(deadlines.begin_sweep(Instant::now()));
    }
}
