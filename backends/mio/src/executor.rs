//! The executor of one event loop: its tasks, and their turns.
//!
//! A task stays on the loop it was spawned on. Waking it on the loop's own thread puts it on a queue that no other
//! thread sees; waking it from elsewhere sends a [`Letter`].
//!
//! A round polls the tasks that were ready when it began; then the reactor is asked for news before those that
//! became ready meanwhile have their turn, so that a task that keeps waking itself delays nobody.

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

use crate::here;
use crate::mailbox::{Letter, Mailbox};

/// What a task does.
pub(crate) enum Work {
    /// Serves a connection. Not wrapped into the other kind, because a future inside a future takes its room twice.
    Connection(Box<Driving<ReactorTransport>>),
    /// Anything else.
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

/// The tasks of one event loop; see the [module](self).
pub(crate) struct Executor {
    tasks: Slab<Task>,
    spawned: u32,
    mailbox: Arc<Mailbox>,
}

struct Task {
    work: Work,
    generation: u32,
}

/// What a waker knows of its task.
pub(crate) struct Header {
    mailbox: Arc<Mailbox>,
    /// The task's place, and what tells it from its predecessors there.
    key: u32,
    generation: u32,
    /// Whether it is on a queue already.
    queued: AtomicBool,
}

impl Executor {
    /// Makes the calling thread the one that runs the loop of `mailbox`.
    pub(crate) fn enter(mailbox: &Arc<Mailbox>) -> Executor {
        here::enter(mailbox);
        Executor { tasks: Slab::new(), spawned: 0, mailbox: mailbox.clone() }
    }

    /// Polls each task that is ready now, once.
    pub(crate) fn round(&mut self) {
        if self.mailbox.has_news() {
            self.read_letters();
        }
        self.admit();
        let ready = here::with(|here| here.ready.len()).unwrap_or(0);
        for _ in 0..ready {
            let next = here::with(|here| here.ready.pop_front()).flatten();
            self.poll(next.expect("only rounds take from the queue"));
        }
    }

    /// How long the reactor may wait: without limit (`None`) if no task is ready, else not at all.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        here::with(|here| here.ready.is_empty() && here.spawned.is_empty())
            .is_some_and(|is_idle| !is_idle)
            .then_some(Duration::ZERO)
    }

    fn read_letters(&mut self) {
        while let Some(letter) = self.mailbox.next() {
            here::with(|here| match letter {
                Letter::Wake(header) => here.ready.push_back(header),
                Letter::Spawn(future) => here.spawned.push(Work::Background(future)),
            });
        }
    }

    /// Gives each spawned task its place and its first turn.
    fn admit(&mut self) {
        here::with(|here| {
            for work in here.spawned.drain(..) {
                self.spawned = self.spawned.wrapping_add(1);
                let generation = self.spawned;
                let key = self.tasks.insert(Task { work, generation });
                let key = u32::try_from(key).expect("memory does not hold that many tasks");
                let mailbox = self.mailbox.clone();
                here.ready.push_back(Arc::new(Header { mailbox, key, generation, queued: true.into() }));
            }
        });
    }

    fn poll(&mut self, header: Arc<Header>) {
        let (key, generation) = (header.key as usize, header.generation);
        // Before the poll, so that news during it queues the task again.
        header.queued.swap(false, Ordering::AcqRel);
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
        self.mailbox.close();
        self.tasks.drain().for_each(discard);
        if let Some(mut left) = here::leave() {
            left.spawned.drain(..).for_each(|work| discard(Task { work, generation: 0 }));
        }
    }
}

/// Drops what is left of a task, which may panic.
fn discard(task: Task) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        log::error!("a task panicked while it was dropped");
    }
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut header = Some(self);
        here::with(|here| {
            if header.as_ref().is_some_and(|header| Arc::ptr_eq(&header.mailbox, &here.mailbox)) {
                here.ready.extend(header.take());
            }
        });
        if let Some(header) = header {
            let mailbox = header.mailbox.clone();
            mailbox.send(Letter::Wake(header));
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.load(Ordering::Acquire) {
            self.clone().wake();
        }
    }
}

#[cfg(test)]
mod tests;
