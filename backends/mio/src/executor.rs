//! The executor of one event loop: it keeps the tasks, and polls those that are ready.
//!
//! A task stays on the loop on which it was spawned. A wake-up on the loop's own thread puts the task on a local
//! queue. A wake-up on another thread sends a [`Command`].
//!
//! A round polls the tasks that are ready when the round begins. Tasks that become ready during the round are polled
//! in the next round, after the reactor was asked for events. A task that keeps waking itself therefore delays no
//! other task and no event.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use gearshift_core::{BoxFuture, Driving};
use gearshift_reactor::ReactorTransport;
use slab::Slab;

use crate::local;
use crate::worker::{Command, Worker};

/// What a task runs.
pub(crate) enum Work {
    /// Serves a connection. It is not wrapped into the other variant, because a future inside a future takes its
    /// memory twice.
    Connection(Box<Driving<ReactorTransport>>),
    /// Runs anything else.
    Background(BoxFuture<()>),
}

impl Work {
    fn is_done(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Work::Connection(driving) => Pin::new(&mut **driving).poll(cx).is_ready(),
            Work::Background(future) => future.as_mut().poll(cx).is_ready(),
        }
    }
}

/// The tasks of one event loop. See the [module](self).
pub(crate) struct Executor {
    tasks: Slab<Task>,
    spawned: u32,
    worker: Worker,
}

struct Task {
    work: Work,
    generation: u32,
}

/// The part of a task that its wakers hold.
pub(crate) struct TaskHeader {
    worker: Worker,
    /// The task's index in the executor.
    key: u32,
    /// Differs from the generations of earlier tasks at the same index.
    generation: u32,
    /// Whether the task is on a queue already.
    is_queued: AtomicBool,
}

impl Executor {
    /// Makes the calling thread the one that runs the loop of `worker`.
    pub(crate) fn enter(worker: &Worker) -> Executor {
        local::enter(worker);
        Executor { tasks: Slab::new(), spawned: 0, worker: worker.clone() }
    }

    /// Polls each task that is ready now, once.
    pub(crate) fn round(&mut self) {
        if self.worker.commands().has_news() {
            self.read_commands();
        }
        self.admit();
        let ready = local::with(|local| local.ready.len()).unwrap_or(0);
        for _ in 0..ready {
            let next = local::with(|local| local.ready.pop_front()).flatten();
            self.poll(next.expect("only rounds take from the queue"));
        }
    }

    /// How long the reactor may wait: without limit (`None`) if no task is ready, otherwise not at all.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let is_idle = local::with(|local| local.ready.is_empty() && local.spawned.is_empty());
        (is_idle == Some(false)).then_some(Duration::ZERO)
    }

    fn read_commands(&mut self) {
        while let Some(command) = self.worker.commands().next() {
            local::with(|local| match command {
                Command::Wake(header) => local.ready.push_back(header),
                Command::Spawn(future) => local.spawned.push(Work::Background(future)),
            });
        }
    }

    /// Adds the spawned tasks, which are ready from the beginning.
    fn admit(&mut self) {
        local::with(|local| {
            for work in local.spawned.drain(..) {
                self.spawned = self.spawned.wrapping_add(1);
                let generation = self.spawned;
                let key = self.tasks.insert(Task { work, generation });
                let key = u32::try_from(key).expect("memory does not hold that many tasks");
                let worker = self.worker.clone();
                local.ready.push_back(Arc::new(TaskHeader {
                    worker,
                    key,
                    generation,
                    is_queued: true.into(),
                }));
            }
        });
    }

    fn poll(&mut self, header: Arc<TaskHeader>) {
        let (key, generation) = (header.key as usize, header.generation);
        // Before the poll, so that a wake-up during the poll queues the task again.
        header.is_queued.swap(false, Ordering::AcqRel);
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.generation == generation) else {
            return;
        };
        let waker = Waker::from(header);
        let polled = catch_unwind(AssertUnwindSafe(|| task.work.is_done(&mut Context::from_waker(&waker))));
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
        self.worker.commands().close();
        self.tasks.drain().for_each(discard);
        if let Some(mut left) = local::leave() {
            left.spawned.drain(..).for_each(|work| discard(Task { work, generation: 0 }));
        }
    }
}

/// Drops a task, which may panic.
fn discard(task: Task) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        log::error!("a task panicked while it was dropped");
    }
}

impl Wake for TaskHeader {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut header = Some(self);
        local::with(|local| {
            if header.as_ref().is_some_and(|header| header.worker == local.worker) {
                local.ready.extend(header.take());
            }
        });
        if let Some(header) = header {
            let worker = header.worker.clone();
            worker.commands().send(Command::Wake(header));
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.load(Ordering::Acquire) {
            self.clone().wake();
        }
    }
}

#[cfg(test)]
mod tests;
