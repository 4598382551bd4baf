//! One event loop, as other threads see it: a queue of commands, and the reactor in which the loop waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;
use gearshift_core::BoxFuture;
use gearshift_reactor::Handle;

use crate::executor::{TaskHeader, Work};
use crate::local;

/// One event loop, as other threads see it.
#[derive(Clone)]
pub(crate) struct Worker(Arc<CommandQueue>);

impl Worker {
    pub(crate) fn new(handle: &Handle) -> Worker {
        Worker(Arc::new(CommandQueue {
            handle: handle.clone(),
            commands: SegQueue::new(),
            is_notified: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// The loop that the calling thread runs.
    pub(crate) fn current() -> Option<Worker> {
        local::with(|local| local.worker.clone())
    }

    /// Runs a task on the loop. The task is dropped if the loop has ended.
    pub(crate) fn spawn(&self, task: BoxFuture<()>) {
        match local::is(self) {
            true => local::spawn(Work::Background(task)),
            false => self.0.send(Command::Spawn(task)),
        }
    }

    /// Makes the loop end.
    pub(crate) fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.0.handle.wake();
    }

    /// Whether the loop has to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    /// The commands to the loop.
    pub(crate) fn commands(&self) -> &CommandQueue {
        &self.0
    }
}

impl gearshift_reactor::EventLoop for Worker {
    fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl PartialEq for Worker {
    #[inline]
    fn eq(&self, other: &Worker) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A message to an event loop.
pub(crate) enum Command {
    /// Polls a task, which was woken.
    Wake(Arc<TaskHeader>),
    /// Runs a new task.
    Spawn(BoxFuture<()>),
}

/// The commands that an event loop has not read.
pub(crate) struct CommandQueue {
    handle: Handle,
    commands: SegQueue<Command>,
    /// Whether the loop's wait was interrupted since the loop last began to read.
    is_notified: AtomicBool,
    is_stopped: AtomicBool,
    is_closed: AtomicBool,
}

impl CommandQueue {
    /// Sends a command. It is dropped if the loop has ended.
    pub(crate) fn send(&self, command: Command) {
        self.commands.push(command);
        if self.is_closed.load(Ordering::SeqCst) {
            self.clear();
        } else if !self.is_notified.swap(true, Ordering::AcqRel) {
            self.handle.wake();
        }
    }

    /// The next command. Called by the loop only.
    pub(crate) fn next(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// Whether commands may have come since the last call. Called by the loop only.
    pub(crate) fn has_news(&self) -> bool {
        self.is_notified.load(Ordering::Relaxed) && self.is_notified.swap(false, Ordering::AcqRel)
    }

    /// Drops all commands, now and from now on, because the loop has ended.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.clear();
    }

    fn clear(&self) {
        while let Some(command) = self.next() {
            drop(command);
        }
    }
}
