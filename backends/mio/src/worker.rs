//! One event loop, as other threads see it: a queue of commands, and the reactor in which the loop waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;
use gearshift_core::BoxFuture;
use gearshift_reactor::{EventLoop, Handle};

use crate::executor::{TaskHeader, with_local};

/// A task that is ready.
pub(crate) enum Command {
    /// Polls a task that was woken.
    Wake(Arc<TaskHeader>),
    /// Polls a new task.
    Spawn(BoxFuture<()>),
}

/// One event loop, as other threads see it. Two values are equal if they are the same loop.
#[derive(Clone)]
pub(crate) struct Worker(Arc<CommandQueue>);

/// The commands of other threads that the loop has not read.
struct CommandQueue {
    handle: Handle,
    commands: SegQueue<Command>,
    /// Whether the loop's wait was interrupted since the loop last began to read.
    is_notified: AtomicBool,
    is_closed: AtomicBool,
}

impl Worker {
    pub(crate) fn new(handle: &Handle) -> Worker {
        Worker(Arc::new(CommandQueue {
            handle: handle.clone(),
            commands: SegQueue::new(),
            is_notified: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Sends a command from another thread. It is dropped if the loop has ended.
    pub(crate) fn send(&self, command: Command) {
        let queue = &*self.0;
        queue.commands.push(command);
        if queue.is_closed.load(Ordering::SeqCst) {
            self.clear();
        } else if !queue.is_notified.swap(true, Ordering::AcqRel) {
            queue.handle.wake();
        }
    }

    /// The next command. Called by the loop only.
    pub(crate) fn next(&self) -> Option<Command> {
        self.0.commands.pop()
    }

    /// Whether commands may have come since the last call. Called by the loop only.
    pub(crate) fn has_news(&self) -> bool {
        let is_notified = &self.0.is_notified;
        is_notified.load(Ordering::Relaxed) && is_notified.swap(false, Ordering::AcqRel)
    }

    /// Drops all commands, now and from now on, because the loop has ended.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        self.clear();
    }

    fn clear(&self) {
        while self.next().is_some() {}
    }
}

impl EventLoop for Worker {
    fn spawn(&self, task: BoxFuture<()>) {
        let mut command = Some(Command::Spawn(task));
        with_local(|local| {
            if local.worker == *self {
                local.ready.extend(command.take());
            }
        });
        command.into_iter().for_each(|command| self.send(command));
    }
}

impl PartialEq for Worker {
    #[inline]
    fn eq(&self, other: &Worker) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
