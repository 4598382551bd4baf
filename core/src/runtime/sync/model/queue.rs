//! A queue behind a lock, in place of `crossbeam_queue::SegQueue`.

use std::collections::VecDeque;

use loom::sync::Mutex;

use crate::runtime::sync::lock;

/// See the [module](self).
#[derive(Debug)]
pub struct SegQueue<T>(Mutex<VecDeque<T>>);

#[allow(missing_docs)]
impl<T> SegQueue<T> {
    pub fn new() -> SegQueue<T> {
        SegQueue(Mutex::new(VecDeque::new()))
    }

    pub fn push(&self, value: T) {
        lock(&self.0).push_back(value);
    }

    pub fn pop(&self) -> Option<T> {
        lock(&self.0).pop_front()
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl<T> Default for SegQueue<T> {
    fn default() -> SegQueue<T> {
        SegQueue::new()
    }
}
