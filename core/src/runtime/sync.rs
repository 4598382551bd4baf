//! The means by which threads meet: atomics, locks, parking, and the system calls that wait for another thread.
//!
//! All names are those of the standard library. With `--cfg gearshift_model` they are those of the model checker
//! [loom](https://docs.rs/loom), which runs the threads of a check in every order, and lets a load return each value
//! that the memory model allows. The model checks of this crate and of the backends therefore check the code as it is.

#[cfg(gearshift_model)]
pub mod model;
#[cfg(not(gearshift_model))]
mod standard;

#[cfg(gearshift_model)]
pub use model::{
    Mutex, MutexGuard, atomic, clock_gettime, heavy_barrier, interrupt, light_barrier, now, thread,
    thread_local, wait,
};
#[cfg(not(gearshift_model))]
pub use standard::{
    Mutex, MutexGuard, atomic, clock_gettime, heavy_barrier, interrupt, light_barrier, now, thread,
    thread_local, wait,
};

use std::sync::PoisonError;

/// Locks a mutex whose data is complete even after a panic under the lock, so that poison has no meaning.
///
/// ```
/// use gearshift_core::sync::{Mutex, lock};
///
/// let count = Mutex::new(1);
/// *lock(&count) += 1;
/// assert_eq!(*lock(&count), 2);
/// ```
#[inline]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
