//! The deadlines of the requests of one connection.
//!
//! Each request has several deadlines, and a connection has one timer of the runtime. A [`Deadline`] is an entry in the
//! list of the connection, which costs no operation of a timer. The timer of the connection wakes the requests whose
//! deadlines have passed.

use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;

use crate::runtime::task::lock;

/// The list of the deadlines of a connection.
#[derive(Default)]
pub(super) struct Timers(Mutex<State>);

#[derive(Default)]
struct State {
    /// The deadlines, each with the waker of the task that waits for it. The time is `None` once it was reported.
    entries: Slab<(Option<Instant>, Waker)>,
    /// A time that no deadline precedes. It may be earlier than all of them, because the removal of a deadline does not
    /// change it.
    earliest: Option<Instant>,
    /// The waker of the task of the connection. `None` while the task is being polled: it looks at the list itself.
    task: Option<Waker>,
}

impl Timers {
    /// Records that the task of the connection is being polled.
    pub(super) fn begin_turn(&self) {
        let task = lock(&self.0).task.take();
        drop(task);
    }

    /// Records that the poll ends. Returns the time at which the connection has to call [`Timers::wake_due`].
    pub(super) fn end_turn(&self, task: &Waker) -> Option<Instant> {
        let mut state = lock(&self.0);
        state.task = Some(task.clone());
        state.earliest
    }

    /// Wakes the tasks that wait for a deadline that has passed.
    pub(super) fn wake_due(&self, now: Instant) {
        let mut due = Vec::new();
        let mut state = lock(&self.0);
        let mut earliest: Option<Instant> = None;
        for (_, (at, waker)) in &mut state.entries {
            match *at {
                Some(time) if time <= now => {
                    *at = None;
                    due.push(waker.clone());
                }
                Some(time) => earliest = Some(earliest.map_or(time, |earliest| earliest.min(time))),
                None => {}
            }
        }
        state.earliest = earliest;
        drop(state);
        due.into_iter().for_each(Waker::wake);
    }
}

/// One deadline, which is removed on drop.
pub(super) struct Deadline {
    timers: Arc<Timers>,
    key: Option<usize>,
}

impl Deadline {
    pub(super) fn new(timers: &Arc<Timers>) -> Deadline {
        Deadline { timers: timers.clone(), key: None }
    }

    /// Sets the time at which `waker` is woken.
    pub(super) fn set(&mut self, at: Instant, waker: &Waker) {
        let mut state = lock(&self.timers.0);
        let previous = match self.key {
            None => {
                self.key = Some(state.entries.insert((Some(at), waker.clone())));
                None
            }
            Some(key) => {
                let (time, known) = &mut state.entries[key];
                *time = Some(at);
                (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
            }
        };
        let is_earlier = state.earliest.is_none_or(|earliest| at < earliest);
        let mut task = None;
        if is_earlier {
            state.earliest = Some(at);
            // The task sets its timer to the earlier time.
            task = state.task.take();
        }
        drop(state);
        drop(previous);
        task.into_iter().for_each(Waker::wake);
    }

    /// Removes the time.
    pub(super) fn clear(&mut self) {
        if let Some(key) = self.key.take() {
            let entry = lock(&self.timers.0).entries.try_remove(key);
            drop(entry);
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_deadline_wakes_its_waiter_once_and_an_earlier_one_wakes_the_task() {
        let (timers, waits, task) =
            (Arc::new(Timers::default()), Arc::new(Count::default()), Arc::new(Count::default()));
        let (waiter, task_waker) = (Waker::from(waits.clone()), Waker::from(task.clone()));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (mut first, mut second) = (Deadline::new(&timers), Deadline::new(&timers));
        timers.begin_turn();
        first.set(after(10), &waiter);
        assert_eq!(timers.end_turn(&task_waker), Some(after(10)));
        second.set(after(20), &waiter);
        assert_eq!(task.0.load(Ordering::SeqCst), 0, "the timer of the task is early enough");
        second.set(after(5), &waiter);
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
        timers.wake_due(after(4));
        assert_eq!(waits.0.load(Ordering::SeqCst), 0);
        timers.wake_due(after(5));
        timers.wake_due(after(6));
        assert_eq!(waits.0.load(Ordering::SeqCst), 1);
        assert_eq!(timers.end_turn(&task_waker), Some(after(10)));
        drop(first);
        timers.wake_due(after(30));
        assert_eq!(waits.0.load(Ordering::SeqCst), 1);
        assert_eq!(timers.end_turn(&task_waker), None);
    }
}
