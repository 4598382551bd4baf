//! The sources of time: the clock of the system, and a manual clock for simulations and tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use rustix::time::ClockId::{Monotonic as MONOTONIC, Realtime as REALTIME};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::time::ClockId::{MonotonicCoarse as MONOTONIC, RealtimeCoarse as REALTIME};

use crate::runtime::sync::clock_gettime;

/// The longest wait: 30 years. Every clock and timer can represent its end. A longer duration, such as
/// [`Duration::MAX`], counts as this one, and so means "never".
pub const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the time `wait` after `start`, and at most [`MAX_WAIT`] after it.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use gearshift_core::clock::{MAX_WAIT, after};
///
/// let now = Instant::now();
/// assert_eq!(after(now, Duration::from_secs(5)), now + Duration::from_secs(5));
/// assert_eq!(after(now, Duration::MAX), now + MAX_WAIT);
/// ```
#[inline]
pub fn after(start: Instant, wait: Duration) -> Instant {
    start + wait.min(MAX_WAIT)
}

/// The source of time for all deadlines and for the `Date` field of a server.
///
/// ```
/// use std::time::Duration;
///
/// use gearshift_core::clock::{Clock, ManualClock};
///
/// let manual = ManualClock::new(0);
/// let clock = Clock::Manual(manual.clone());
/// let start = clock.now();
/// manual.advance(Duration::from_secs(1));
/// assert_eq!(clock.now() - start, Duration::from_secs(1));
/// ```
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The clock of the system.
    #[default]
    System,
    /// A clock that moves only by [`ManualClock::advance`].
    Manual(ManualClock),
}

impl Clock {
    /// The current time, for deadlines.
    #[inline]
    pub fn now(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            Clock::Manual(clock) => clock.now(),
        }
    }

    /// The current Unix time in seconds, for the `Date` field alone: it jumps when the clock of the system is set. It
    /// comes from the coarse clock of the system, which is cheap to read and may lag by some milliseconds.
    #[inline]
    pub fn unix_seconds(&self) -> u64 {
        match self {
            Clock::System => u64::try_from(clock_gettime(REALTIME).tv_sec).unwrap_or(0),
            Clock::Manual(clock) => {
                clock.unix_start.load(Ordering::Acquire)
                    + clock.elapsed.load(Ordering::Acquire) / 1_000_000_000
            }
        }
    }

    /// The current time, which is cheap to read and may lag by some milliseconds.
    #[inline]
    pub fn coarse(&self) -> CoarseInstant {
        match self {
            Clock::System => CoarseInstant::now(),
            Clock::Manual(clock) => CoarseInstant(clock.elapsed.load(Ordering::Acquire)),
        }
    }
}

/// A monotonic time from the coarse clock of the system. It is cheaper to read than [`Instant`] and may lag by some
/// milliseconds.
///
/// ```
/// use std::time::Duration;
///
/// use gearshift_core::clock::CoarseInstant;
///
/// let start = CoarseInstant::now();
/// let end = start.after(Duration::from_millis(500));
/// assert_eq!(end.since(start), Duration::from_millis(500));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoarseInstant(u64);

impl CoarseInstant {
    /// The current time of the system.
    #[inline]
    pub fn now() -> CoarseInstant {
        let now = clock_gettime(MONOTONIC);
        let seconds = now.tv_sec.cast_unsigned();
        CoarseInstant(seconds.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned()))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    #[inline]
    pub fn since(self, earlier: CoarseInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time `wait` after this instant, or the latest time if there is no such time.
    #[inline]
    pub fn after(self, wait: Duration) -> CoarseInstant {
        CoarseInstant(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from this instant to now.
    #[inline]
    pub fn elapsed(self) -> Duration {
        CoarseInstant::now().since(self)
    }
}

/// A [`CoarseInstant`] that several threads can set and read.
///
/// ```
/// use std::time::Duration;
///
/// use gearshift_core::clock::{AtomicCoarseInstant, CoarseInstant};
///
/// let now = CoarseInstant::now();
/// let last = AtomicCoarseInstant::new(now);
/// last.set(now.after(Duration::from_secs(1)));
/// assert_eq!(last.get().since(now), Duration::from_secs(1));
/// ```
#[derive(Debug)]
pub struct AtomicCoarseInstant(AtomicU64);

impl AtomicCoarseInstant {
    /// Creates a value that is `at`.
    pub fn new(at: CoarseInstant) -> AtomicCoarseInstant {
        AtomicCoarseInstant(AtomicU64::new(at.0))
    }

    /// Sets the value.
    #[inline]
    pub fn set(&self, at: CoarseInstant) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    /// Sets the value to `now` and returns true, if it is at least `age` earlier. Of several threads, one gets true.
    pub fn advance(&self, now: CoarseInstant, age: Duration) -> bool {
        let last = self.get();
        let is_old = now.since(last) >= age;
        is_old && self.0.compare_exchange(last.0, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The value that was set last.
    #[inline]
    pub fn get(&self) -> CoarseInstant {
        CoarseInstant(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that moves only by [`ManualClock::advance`]. Clones share their time.
///
/// ```
/// use std::time::Duration;
///
/// use gearshift_core::clock::ManualClock;
///
/// let clock = ManualClock::new(0);
/// let (copy, start) = (clock.clone(), clock.now());
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(copy.now() - start, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Instant,
    /// The Unix time in seconds at the start.
    unix_start: Arc<AtomicU64>,
    elapsed: Arc<AtomicU64>,
}

impl ManualClock {
    /// Creates a clock that starts at the Unix time `unix_start`, in seconds.
    pub fn new(unix_start: u64) -> ManualClock {
        ManualClock {
            start: Instant::now(),
            unix_start: Arc::new(unix_start.into()),
            elapsed: Arc::default(),
        }
    }

    /// Changes the Unix time at which the clock has started, as if someone had set the clock of the system. Deadlines
    /// do not change.
    pub fn set_unix_start(&self, seconds: u64) {
        self.unix_start.store(seconds, Ordering::Release);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// The current time, for deadlines.
    pub fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.elapsed.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_advances_once_in_a_period() {
        let (second, start) = (Duration::from_secs(1), CoarseInstant(5_000_000_000));
        let last = AtomicCoarseInstant::new(CoarseInstant::default());
        assert!(last.advance(start, second));
        assert!(!last.advance(CoarseInstant(5_999_999_999), second));
        assert!(!last.advance(CoarseInstant(0), second), "a clock that lags");
        assert!(last.advance(CoarseInstant(6_000_000_000), second));
    }

    #[test]
    fn a_time_after_an_endless_wait_exists() {
        let now = Instant::now();
        assert_eq!(MAX_WAIT.as_secs(), 946_080_000, "30 years of 365 days");
        assert_eq!(after(now, Duration::MAX), now + MAX_WAIT);
        assert_eq!(after(now, Duration::from_nanos(1)), now + Duration::from_nanos(1));
    }

    #[test]
    fn setting_the_clock_of_the_system_changes_only_the_date() {
        let manual = ManualClock::new(1_000);
        let clock = Clock::Manual(manual.clone());
        let start = clock.now();
        assert_eq!(clock.unix_seconds(), 1_000);
        manual.advance(Duration::from_millis(2_500));
        assert_eq!(clock.unix_seconds(), 1_002);
        manual.set_unix_start(5_000);
        assert_eq!(clock.unix_seconds(), 5_002);
        assert_eq!(clock.now() - start, Duration::from_millis(2_500));
        assert_eq!(clock.coarse().since(CoarseInstant::default()), Duration::from_millis(2_500));
    }
}
