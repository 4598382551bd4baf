//! The executor of one event loop: it keeps the tasks, and polls those that are ready.
//!
//! A task stays on the loop on which it was spawned. A wake-up on the loop's own thread puts the task on a local
//! queue. A wake-up on another thread sends a [`Command`].
//!
//! A round polls the tasks that are ready when the round begins. Tasks that become ready during the round are polled
//! in the next round, after the reactor was asked for events. A task that keeps waking itself therefore delays no
//! other task and no event.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use gearshift_core::BoxFuture;
use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use gearshift_core::sync::thread_local;
use slab::Slab;

use crate::worker::{Command, CommandQueue, Worker};

thread_local! {
    static LOCAL: RefCell<Option<LocalQueue>> = const { RefCell::new(None) };
}

/// The queue of the event loop that the calling thread runs. No other thread sees it.
pub(crate) struct LocalQueue {
    /// The same loop, as other threads see it.
    pub(crate) worker: Worker,
    /// Tasks that are ready, in order.
    pub(crate) ready: VecDeque<Command>,
}

/// Calls `f` with the queue of the calling thread's loop, if it runs one. `f` must neither wake nor drop a waker, nor
/// drop a task: all of these may call this function again.
#[inline]
pub(crate) fn with_local<T>(f: impl FnOnce(&mut LocalQueue) -> T) -> Option<T> {
    LOCAL.try_with(|local| local.borrow_mut().as_mut().map(f)).ok().flatten()
}

/// The tasks of one event loop. See the [module](self).
pub(crate) struct Executor {
    tasks: Slab<Task>,
    queue: Arc<CommandQueue>,
}

struct Task {
    future: BoxFuture<()>,
    header: Arc<TaskHeader>,
}

/// The part of a task that its wakers hold.
pub(crate) struct TaskHeader {
    worker: Worker,
    /// The task's index in the executor. Another task may have it after this one has ended.
    key: usize,
    /// Whether the task is on a queue already.
    is_queued: AtomicBool,
}

impl Executor {
    /// Makes the calling thread the one that runs the loop of `queue`.
    pub(crate) fn enter(queue: Arc<CommandQueue>) -> Executor {
        let local = LocalQueue { worker: Worker::of(&queue), ready: VecDeque::new() };
        LOCAL.with(|current| current.replace(Some(local)));
        Executor { tasks: Slab::new(), queue }
    }

    /// Polls each task that is ready now, once.
    pub(crate) fn round(&mut self) {
        if self.queue.has_news() {
            while let Some(command) = self.queue.next() {
                with_local(|local| local.ready.push_back(command));
            }
        }
        let ready = with_local(|local| local.ready.len()).unwrap_or(0);
        for _ in 0..ready {
            let next = with_local(|local| local.ready.pop_front()).flatten();
            let header = match next.expect("only rounds take from the queue") {
                Command::Wake(header) => header,
                Command::Spawn(future) => self.add(future),
            };
            self.poll(header);
        }
    }

    /// How long the reactor may wait: without limit (`None`) if no task is ready, otherwise not at all.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let is_idle = with_local(|local| local.ready.is_empty());
        (is_idle == Some(false)).then_some(Duration::ZERO)
    }

    fn add(&mut self, future: BoxFuture<()>) -> Arc<TaskHeader> {
        let entry = self.tasks.vacant_entry();
        let (worker, key) = (Worker::of(&self.queue), entry.key());
        let header = Arc::new(TaskHeader { worker, key, is_queued: true.into() });
        entry.insert(Task { future, header: header.clone() });
        header
    }

    fn poll(&mut self, header: Arc<TaskHeader>) {
        // Before the poll, so that a wake-up during the poll queues the task again.
        header.is_queued.swap(false, Ordering::AcqRel);
        let key = header.key;
        let Some(task) = self.tasks.get_mut(key).filter(|task| Arc::ptr_eq(&task.header, &header)) else {
            return;
        };
        let waker = Waker::from(header);
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut cx).is_ready()));
        if polled.is_err() {
            log::error!("a task panicked outside of its handler");
        }
        if polled.unwrap_or(true) {
            discard(self.tasks.remove(key));
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.tasks.drain().for_each(discard);
        LOCAL.with(RefCell::take).into_iter().flat_map(|left| left.ready).for_each(discard);
    }
}

/// Drops a task, which may panic.
fn discard<T>(task: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        log::error!("a task panicked while it was dropped");
    }
}

impl TaskHeader {
    /// Whether the caller has to queue the task. Always a write, so that the next poll sees what precedes this call.
    fn has_to_queue(&self) -> bool {
        !self.is_queued.swap(true, Ordering::AcqRel)
    }

    fn queue(self: Arc<Self>) {
        let mut header = Some(self);
        with_local(|local| {
            if header.as_ref().is_some_and(|header| header.worker == local.worker) {
                local.ready.extend(header.take().map(Command::Wake));
            }
        });
        if let Some(header) = header {
            let worker = header.worker.clone();
            worker.send(Command::Wake(header));
        }
    }
}

impl Wake for TaskHeader {
    fn wake(self: Arc<Self>) {
        if self.has_to_queue() {
            self.queue();
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.has_to_queue() {
            self.clone().queue();
        }
    }
}

#[cfg(all(test, not(gearshift_model)))]
mod tests;
