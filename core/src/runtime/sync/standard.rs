//! The standard library, and system calls as they are.

pub use rustix::time::clock_gettime;
pub use std::sync::{Mutex, MutexGuard, atomic};
pub use std::{thread, thread_local};

use std::io;
#[cfg(target_os = "linux")]
use std::sync::LazyLock;
#[cfg(target_os = "linux")]
use std::sync::atomic::compiler_fence;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::thread::{MembarrierCommand, membarrier};

/// The current time.
///
/// ```
/// let earlier = gearshift_core::sync::now();
/// assert!(gearshift_core::sync::now() >= earlier);
/// ```
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Makes a system call that waits for at most `timeout`, without limit if that is `None`. `call` gets the timeout, and
/// returns whether the call has found anything.
///
/// # Errors
/// The error of `call`.
#[inline]
pub fn wait(
    timeout: Option<Duration>,
    call: impl FnOnce(Option<Duration>) -> io::Result<bool>,
) -> io::Result<()> {
    call(timeout).map(drop)
}

/// Makes a system call that may end the [`wait`] of another thread.
#[inline]
pub fn interrupt<T>(call: impl FnOnce() -> T) -> T {
    call()
}

/// Separates a store from a later load, for a thread that often passes here. Of two threads that each make a store,
/// pass their barrier and load what the other stores, one light and one heavy, at least one sees the store of the
/// other. On Linux this barrier is no instruction.
#[cfg(target_os = "linux")]
#[inline]
pub fn light_barrier() {
    compiler_fence(Ordering::SeqCst);
}

/// Separates a store from a later load, for a thread that rarely passes here; see [`light_barrier`]. One system call.
/// If the system does not have it, the other thread may see the store late, by the time in which its processor
/// completes a store.
#[cfg(target_os = "linux")]
pub fn heavy_barrier() {
    static IS_REGISTERED: LazyLock<bool> =
        LazyLock::new(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
    fence(Ordering::SeqCst);
    if *IS_REGISTERED {
        let _ = membarrier(MembarrierCommand::PrivateExpedited);
    }
}

/// Separates a store from a later load. Of two threads that each make a store, pass a barrier and load what the other
/// stores, at least one sees the store of the other.
#[cfg(not(target_os = "linux"))]
#[inline]
pub fn light_barrier() {
    fence(Ordering::SeqCst);
}

/// See [`light_barrier`].
#[cfg(not(target_os = "linux"))]
pub fn heavy_barrier() {
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_makes_its_call_with_the_timeout() {
        for timeout in [None, Some(Duration::from_secs(1))] {
            let mut seen = Vec::new();
            let waited = wait(timeout, |timeout| {
                seen.push(timeout);
                Ok(true)
            });
            assert!(waited.is_ok());
            assert_eq!(seen, [timeout]);
        }
        let failed = wait(None, |_| Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(failed.map_err(|error| error.kind()), Err(io::ErrorKind::Interrupted));
        assert_eq!(interrupt(|| 7), 7);
    }
}
