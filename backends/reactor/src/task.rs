//! The tasks of the blocking backends, each of which is a connection or an acceptor.
//!
//! A task is idle, queued, or run by one worker. Waking an idle task queues it. Waking a running task marks it as
//! notified and ends the wait of its worker.
//!
//! [`Task::run`] implements the admission rule of these backends. If a polled connection is pending because of its
//! handler, the worker waits and then polls it again, so the handler keeps its thread. If the connection is pending for
//! any other reason, the worker leaves it and takes another task.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use gearshift_core::park::Park;
use gearshift_core::sync::atomic::{AtomicUsize, Ordering};
use gearshift_core::sync::{Mutex, lock};
use gearshift_core::{Latch, Listener, Service};

use crate::accept::accept;
use crate::handle::Handle;
#[cfg(gearshift_model)]
use crate::model::work::Work;
#[cfg(not(gearshift_model))]
use crate::work::Work;

/// A queue of ready tasks, and the workers that take tasks from it.
pub trait Schedule: Send + Sync + 'static {
    /// Queues a task that was woken.
    fn push(&self, task: Arc<Task>);

    /// Queues a task that was woken while its worker ran it. Other tasks run first.
    fn push_back(&self, task: Arc<Task>);

    /// Ends the wait of the worker with this number, like [`Park::unpark`].
    fn unpark(&self, worker: usize);
}

/// One connection, or an acceptor of connections.
pub struct Task {
    /// One of the states below. While a worker runs the task, the bits above [`STATE_BITS`] hold its number.
    state: AtomicUsize,
    work: Mutex<Work>,
    schedule: Arc<dyn Schedule>,
}

/// The task waits to be woken.
const IDLE: usize = 0;
/// The task is in the queue.
const QUEUED: usize = 1;
/// A worker runs the task.
const RUNNING: usize = 2;
/// A worker runs the task, and the task was woken after the start of the last poll. Tasks that have ended stay in this
/// state.
const NOTIFIED: usize = 3;
/// Number of low bits that hold the state.
const STATE_BITS: u32 = 2;

impl Task {
    /// Queues a task for each listener. It accepts until the server stops, as [`accept`](crate::accept()) does, and
    /// queues a task for each connection.
    ///
    /// # Errors
    /// An error of the system.
    pub fn accept(
        handle: &Handle,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
        schedule: &Arc<dyn Schedule>,
    ) -> io::Result<()> {
        for listener in listeners {
            let connections = schedule.clone();
            let begin = move |driving| Task::start(Work::Connection(driving), &connections);
            let acceptor = accept(handle, listener, service, accepting, begin)?;
            Task::start(Work::Acceptor(Box::pin(acceptor)), schedule);
        }
        Ok(())
    }

    pub(crate) fn start(work: Work, schedule: &Arc<dyn Schedule>) {
        let state = AtomicUsize::new(QUEUED);
        schedule.push(Arc::new(Task { state, work: Mutex::new(work), schedule: schedule.clone() }));
    }

    /// Runs a task that was taken from the queue, until it is idle, queued again, or has ended. The calling thread is
    /// the worker with the number `worker`, and waits through `park`.
    pub fn run(self: Arc<Task>, worker: usize, park: &dyn Park) {
        let running = RUNNING | worker << STATE_BITS;
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        let mut work = lock(&self.work);
        loop {
            // The state is set before the poll, so that a wake-up during the poll is not lost. Here and below the state
            // is swapped and not stored, so that the poll sees what precedes a wake-up that changed nothing.
            self.state.swap(running, Ordering::AcqRel);
            let polled = catch_unwind(AssertUnwindSafe(|| work.poll(&mut cx)));
            match polled {
                Ok(Poll::Pending) if work.is_handling() => {
                    while self.state.load(Ordering::Acquire) == running {
                        park.park();
                    }
                }
                Ok(Poll::Pending) => {
                    drop(work);
                    let became_idle =
                        self.state.compare_exchange(running, IDLE, Ordering::AcqRel, Ordering::Acquire);
                    if became_idle.is_err() {
                        self.state.swap(QUEUED, Ordering::AcqRel);
                        let schedule = self.schedule.clone();
                        schedule.push_back(self);
                    }
                    return;
                }
                ended => {
                    if ended.is_err() {
                        log::error!("a connection was lost to a panic outside its handler");
                    }
                    let ended = std::mem::replace(&mut *work, Work::Ended);
                    // The task stays notified, so that no wake-up queues it again.
                    self.state.store(NOTIFIED | worker << STATE_BITS, Ordering::Release);
                    drop(work);
                    if catch_unwind(AssertUnwindSafe(|| drop(ended))).is_err() {
                        log::error!("a connection panicked while it was dropped");
                    }
                    return;
                }
            }
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some(match state & ((1 << STATE_BITS) - 1) {
                IDLE => QUEUED,
                RUNNING => state | NOTIFIED,
                // The state is written again, so that the next poll sees what precedes this wake-up.
                _ => state,
            })
        });
        match woken.unwrap_or_else(|state| state) {
            IDLE => self.schedule.push(self.clone()),
            QUEUED => {}
            // Also if the task was notified already: its handler may wait in `Runtime::block_on`.
            state => self.schedule.unpark(state >> STATE_BITS),
        }
    }
}
