//! Threads of a check. A thread parks on a lock and a condition, because loom's own `unpark` also ends other waits.

pub use loom::thread::{JoinHandle, spawn, yield_now};
pub use std::thread::{Builder, sleep};

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::runtime::sync::lock;

loom::thread_local! {
    static CURRENT: Thread = Thread(Arc::default());
}

/// A thread of the check.
#[derive(Clone, Debug)]
pub struct Thread(Arc<Token>);

#[derive(Debug, Default)]
struct Token {
    is_given: Mutex<bool>,
    given: Condvar,
}

/// The identity of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(usize);

impl Thread {
    /// The identity of the thread.
    pub fn id(&self) -> ThreadId {
        ThreadId(Arc::as_ptr(&self.0) as usize)
    }

    /// Makes the current or the next [`park`] of the thread return.
    pub fn unpark(&self) {
        *lock(&self.0.is_given) = true;
        self.0.given.notify_one();
    }
}

/// The calling thread.
pub fn current() -> Thread {
    CURRENT.with(Thread::clone)
}

/// Waits until [`Thread::unpark`] was called.
pub fn park() {
    let Thread(token) = current();
    let mut is_given = lock(&token.is_given);
    while !std::mem::take(&mut *is_given) {
        is_given = token.given.wait(is_given).expect("a lock without poison");
    }
}

/// Lets the other threads run, like a park whose time is over.
pub fn park_timeout(_: Duration) {
    yield_now();
}
