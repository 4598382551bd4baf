//! A timer of the system, which a poller waits for as for a socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// See the [module](self).
pub(crate) struct SystemTimer(OwnedFd);

impl SystemTimer {
    pub(crate) fn new() -> io::Result<SystemTimer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        // The clock of `Instant`.
        Ok(SystemTimer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Makes the timer fire at `at`, and at no other time that was set before.
    pub(crate) fn set(&self, at: Instant) -> io::Result<()> {
        // A time of zero would not set the timer.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Timespec::try_from(left).map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: Timespec::default(), it_value: once };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }
}

/// Readable once the timer has fired.
impl AsFd for SystemTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
