//! Code of the application that may panic on a thread of the server.
//!
//! A panic of a handler is answered, and a panic of a task or a job is its outcome. The values of these also run code
//! when they are dropped: captured variables, outputs that nobody takes, the payloads of panics. A panic there would
//! end the thread of an executor, abort the process (`async_task` and rayon do that), or skip the rest of a clean-up.
//! The server therefore drops such a value through [`discard`] or in a [`Contained`]. The panic is logged, and has no
//! other effect.

use std::any::Any;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`. If it panics, logs that `what` has panicked, and returns `None`.
pub(crate) fn contain<R>(what: impl fmt::Display, work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| log_panic(what, panic)).ok()
}

/// Drops `value`. If the drop panics, the panic is logged.
pub(crate) fn discard<T>(value: T) {
    let _ = contain("a value of the application that is dropped", || drop(value));
}

/// Part of the message with which tokio panics on a thread that does not belong to a runtime of it.
const NO_TOKIO: &str = "context of a Tokio 1.x runtime";

/// Logs that `what` has panicked, and drops the payload of the panic.
pub(crate) fn log_panic(what: impl fmt::Display, panic: Box<dyn Any + Send>) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    log::error!("{what} panicked: {message}");
    if message.contains(NO_TOKIO) {
        log::error!(
            "code that needs tokio ran outside of it: enable the feature `async-compat` for services of tower, wrap other \
             futures by `.compat()` of the crate async-compat, or use the backend tokio"
        );
    }
    // The payload may panic when it is dropped, and so may the payload of that panic. The second one is leaked.
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}

/// A value of the application, which is discarded when it is dropped. `None` once the value was taken.
pub(crate) struct Contained<T>(pub(crate) Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Contained<T> {
        Contained(Some(value))
    }

    /// Takes the value, which is then not contained any more.
    pub(crate) fn take(mut self) -> T {
        self.0.take().expect("the value was not taken")
    }

    /// Discards the value.
    pub(crate) fn clear(&mut self) {
        if let Some(value) = self.0.take() {
            discard(value);
        }
    }
}

/// Panics if the value was taken.
impl<T> Deref for Contained<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value was not taken")
    }
}

/// Panics if the value was taken.
impl<T> DerefMut for Contained<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the value was not taken")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// A value whose drop panics with such a value, so many times.
    struct Bomb(usize);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Bomb(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_value_whose_drop_panics_is_discarded() {
        for depth in 0..4 {
            discard(Bomb(depth));
            drop(Contained::new(Bomb(depth)));
        }
    }

    #[test]
    fn a_panic_is_contained_with_its_payload() {
        assert_eq!(contain("a test", || 7), Some(7));
        for depth in 0..4 {
            assert_eq!(contain::<()>("a test", || panic_any(Bomb(depth))), None);
        }
    }
}
