//! One event loop, as other threads see it: a queue of commands, and the reactor in which the loop waits.

use std::sync::{Arc, Weak};

#[cfg(not(gearshift_model))]
use crossbeam_queue::SegQueue;
use gearshift_core::BoxFuture;
use gearshift_core::sync::atomic::{AtomicBool, Ordering};
#[cfg(gearshift_model)]
use gearshift_core::sync::model::SegQueue;
use gearshift_reactor::{EventLoop, Handle};

use crate::executor::{TaskHeader, with_local};

/// A task that is ready.
pub(crate) enum Command {
    /// Polls a task that was woken.
    Wake(Arc<TaskHeader>),
    /// Polls a new task.
    Spawn(BoxFuture<()>),
}

/// The commands of other threads that the loop has not read.
pub(crate) struct CommandQueue {
    handle: Handle,
    commands: SegQueue<Command>,
    /// Whether the loop's wait was interrupted since the loop last began to read.
    is_notified: AtomicBool,
}

impl CommandQueue {
    pub(crate) fn new(handle: &Handle) -> Arc<CommandQueue> {
        let is_notified = AtomicBool::new(false);
        Arc::new(CommandQueue { handle: handle.clone(), commands: SegQueue::new(), is_notified })
    }

    /// The next command. Called by the loop only.
    pub(crate) fn next(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// Whether commands may have come since the last call. Called by the loop only.
    pub(crate) fn has_news(&self) -> bool {
        self.is_notified.load(Ordering::Relaxed) && self.is_notified.swap(false, Ordering::AcqRel)
    }
}

/// One event loop, as other threads see it. Only the loop's thread keeps the queue, so that the commands end with the
/// thread. Two values are equal if they are the same loop.
#[derive(Clone)]
pub(crate) struct Worker(Weak<CommandQueue>);

impl Worker {
    pub(crate) fn of(queue: &Arc<CommandQueue>) -> Worker {
        Worker(Arc::downgrade(queue))
    }

    /// Sends a command from another thread. It is dropped if the loop has ended.
    pub(crate) fn send(&self, command: Command) {
        if let Some(queue) = self.0.upgrade() {
            queue.commands.push(command);
            if !queue.is_notified.swap(true, Ordering::AcqRel) {
                queue.handle.wake();
            }
        }
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
        self.0.ptr_eq(&other.0)
    }
}
