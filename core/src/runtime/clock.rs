//! What time it is: the system's, or one that a simulation moves by hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A source of time. Nothing in the core is decided by another.
#[derive(Clone, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// One that moves only when it is told to.
    Manual(ManualClock),
}

impl Clock {
    /// The time for deadlines.
    #[inline]
    pub fn now(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            Clock::Manual(clock) => clock.now(),
        }
    }

    /// Seconds since the Unix epoch, for `Date`. Off by some milliseconds at most, and cheap for it.
    #[inline]
    pub fn unix_seconds(&self) -> u64 {
        match self {
            Clock::System => system_seconds(),
            Clock::Manual(clock) => clock.unix_seconds(),
        }
    }

    /// The time to be subtracted from a later one, off by some milliseconds, and cheap for it.
    #[inline]
    pub fn coarse(&self) -> CoarseInstant {
        match self {
            Clock::System => CoarseInstant::now(),
            Clock::Manual(clock) => CoarseInstant(clock.elapsed.load(Ordering::Acquire)),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn system_seconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    u64::try_from(now.tv_sec).unwrap_or(0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn system_seconds() -> u64 {
    use std::time::SystemTime;
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time of the system's that only serves to be subtracted from a later one, off by some milliseconds, and cheap for
/// it.
#[derive(Clone, Copy, Debug)]
pub struct CoarseInstant(u64);

impl CoarseInstant {
    /// Now.
    #[inline]
    pub fn now() -> CoarseInstant {
        CoarseInstant(coarse_time())
    }

    /// How long ago `earlier` was.
    #[inline]
    pub fn since(self, earlier: CoarseInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago this was.
    #[inline]
    pub fn elapsed(self) -> Duration {
        CoarseInstant::now().since(self)
    }
}

/// A [`CoarseInstant`] that several threads set.
#[derive(Debug)]
pub struct AtomicCoarseInstant(AtomicU64);

impl AtomicCoarseInstant {
    /// One that is `at` until it is set.
    pub fn new(at: CoarseInstant) -> AtomicCoarseInstant {
        AtomicCoarseInstant(AtomicU64::new(at.0))
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, at: CoarseInstant) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    /// The time that was last set.
    #[inline]
    pub fn get(&self) -> CoarseInstant {
        CoarseInstant(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn coarse_time() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_time() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::System => "Clock::System",
            Clock::Manual(_) => "Clock::Manual",
        })
    }
}

/// A clock that stands still until [`ManualClock::advance`].
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Instant,
    unix_start: u64,
    elapsed: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that says it is `unix_start` seconds after the Unix epoch.
    pub fn new(unix_start: u64) -> ManualClock {
        ManualClock { start: Instant::now(), unix_start, elapsed: Arc::default() }
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.elapsed.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// The time for deadlines.
    pub fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.elapsed.load(Ordering::Acquire))
    }

    /// Seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_start + self.elapsed.load(Ordering::Acquire) / 1_000_000_000
    }
}
