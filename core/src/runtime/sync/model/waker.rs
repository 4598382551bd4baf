//! A waker behind a lock, in place of `atomic_waker::AtomicWaker`.

use std::task::Waker;

use loom::sync::Mutex;

use crate::runtime::sync::lock;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct AtomicWaker(Mutex<Option<Waker>>);

#[allow(missing_docs)]
impl AtomicWaker {
    pub fn new() -> AtomicWaker {
        AtomicWaker::default()
    }

    pub fn register(&self, waker: &Waker) {
        let before = lock(&self.0).replace(waker.clone());
        drop(before);
    }

    pub fn take(&self) -> Option<Waker> {
        lock(&self.0).take()
    }
}
