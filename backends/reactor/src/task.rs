//! The tasks of the blocking backends: connections as futures that their thread stays with while a handler is at work.
//!
//! A task is idle, queued, or run by one worker. Waking an idle task queues it. Waking a task that is run notes that,
//! and ends the wait of its worker. [`Task::run`] is the admission rule of these backends: a worker that polls a
//! connection and finds it pending parks the connection, unless its handler is at work; then the worker itself waits.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use gearshift_core::park::Park;
use gearshift_core::{BoxFuture, Driving};

use crate::lock;
use crate::transport::ReactorTransport;

/// Where tasks that are ready wait for a worker.
pub trait Schedule: Send + Sync + 'static {
    /// Queues a task that was woken.
    fn push(&self, task: Arc<Task>);

    /// Queues a task that its worker gives back, so that other tasks have their turn.
    fn push_back(&self, task: Arc<Task>);

    /// Ends the wait of a worker, as [`Park::unpark`] does.
    fn unpark(&self, worker: usize);
}

/// One connection, or what accepts connections.
pub struct Task {
    /// One of the states below; with the number of the worker above [`BITS`] while a worker runs it.
    state: AtomicUsize,
    work: Mutex<Work>,
    schedule: Arc<dyn Schedule>,
}

/// Nothing is to be done.
const IDLE: usize = 0;
/// It is in the queue.
const QUEUED: usize = 1;
/// A worker runs it.
const RUNNING: usize = 2;
/// A worker runs it, and it was woken since the worker polled it last.
const NOTIFIED: usize = 3;
/// What a state takes of the number that holds it.
const BITS: u32 = 2;

#[expect(clippy::large_enum_variant, reason = "most tasks are connections, which so need one allocation")]
enum Work {
    Connection(Driving<ReactorTransport>),
    Acceptor(BoxFuture<()>),
    Ended,
}

impl Work {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Work::Connection(driving) => Pin::new(driving).poll(cx),
            Work::Acceptor(future) => future.as_mut().poll(cx),
            Work::Ended => Poll::Ready(()),
        }
    }

    fn is_handling(&self) -> bool {
        matches!(self, Work::Connection(driving) if driving.is_handling())
    }
}

impl Task {
    /// Queues a connection for its first turn.
    pub fn connection(driving: Driving<ReactorTransport>, schedule: &Arc<dyn Schedule>) {
        Task::start(Work::Connection(driving), schedule);
    }

    /// Queues a future that never holds its thread.
    pub fn acceptor(future: impl Future<Output = ()> + Send + 'static, schedule: &Arc<dyn Schedule>) {
        Task::start(Work::Acceptor(Box::pin(future)), schedule);
    }

    fn start(work: Work, schedule: &Arc<dyn Schedule>) {
        let state = AtomicUsize::new(QUEUED);
        schedule.push(Arc::new(Task { state, work: Mutex::new(work), schedule: schedule.clone() }));
    }

    /// Runs a task that came out of the queue, on the calling thread, which is the worker of this number and waits
    /// through `park`: until the task is parked, wants others to have their turn, or has ended.
    pub fn run(self: Arc<Task>, worker: usize, park: &dyn Park) {
        let running = RUNNING | worker << BITS;
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        let mut work = lock(&self.work);
        loop {
            // Before the poll, so that a wake-up during it is kept.
            self.state.store(running, Ordering::SeqCst);
            let polled = catch_unwind(AssertUnwindSafe(|| work.poll(&mut cx)));
            match polled {
                Ok(Poll::Pending) if work.is_handling() => {
                    while self.state.load(Ordering::SeqCst) == running {
                        park.park();
                    }
                }
                Ok(Poll::Pending) => {
                    drop(work);
                    let parked =
                        self.state.compare_exchange(running, IDLE, Ordering::SeqCst, Ordering::SeqCst);
                    if parked.is_err() {
                        self.state.store(QUEUED, Ordering::SeqCst);
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
                    // It stays notified, so that no wake-up queues it again.
                    self.state.store(NOTIFIED | worker << BITS, Ordering::SeqCst);
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
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            let next = match state & ((1 << BITS) - 1) {
                IDLE => QUEUED,
                RUNNING => state | NOTIFIED,
                _ => return,
            };
            match self.state.compare_exchange_weak(state, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) if next == QUEUED => return self.schedule.push(self.clone()),
                Ok(_) => return self.schedule.unpark(state >> BITS),
                Err(now) => state = now,
            }
        }
    }
}
