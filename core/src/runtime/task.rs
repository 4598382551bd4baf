//! Background tasks, with one contract on every backend: dropping the handle detaches, cancelling drops the
//! future at its next wait, a panic ends the task alone.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::runtime::clock::CoarseInstant;
use crate::runtime::stall::Stalls;

/// A background task started by [`Runtime::spawn`](crate::Runtime::spawn).
#[must_use = "a dropped task runs on; say so with `.detach()`"]
pub struct Task<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    outcome: Option<Result<T, TaskError>>,
    cancelled: bool,
    /// Wakes the task itself, to be cancelled.
    task: Option<Waker>,
    /// Wakes whoever awaits the task.
    waiter: Option<Waker>,
}

impl<T: Send + 'static> Task<T> {
    /// The handle, and the future that a backend has to run.
    pub(crate) fn new<F>(
        future: F,
        spawned: &'static Location<'static>,
        tasks: &Tasks,
        stalls: &Arc<Stalls>,
    ) -> (Task<T>, impl Future<Output = ()> + Send + use<T, F>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let stalls = stalls.clone();
        let state = Arc::new(Mutex::new(State { outcome: None, cancelled: false, task: None, waiter: None }));
        let task = Task(state.clone());
        let counted = tasks.begin();
        let mut finish = Finish { state, _counted: counted };
        let mut future = Some(Box::pin(future));
        let body = poll_fn(move |cx| {
            let polled = match &mut future {
                Some(running) if !finish.is_cancelled(cx) => {
                    let began = CoarseInstant::now();
                    let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
                    stalls.polled_task(began, spawned);
                    match polled {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(output)) => Ok(output),
                        Err(panic) => {
                            log::error!(
                                "the background task of {spawned} panicked: {}",
                                panic_message(&*panic)
                            );
                            Err(TaskError::Panicked)
                        }
                    }
                }
                _ => Err(TaskError::Cancelled),
            };
            // Dropped before anyone is told that the task has ended.
            future = None;
            finish.with(polled);
            Poll::Ready(())
        });
        (task, body)
    }
}

impl<T> Task<T> {
    /// Lets the task run on, with nobody waiting for it. The same as dropping the handle, said aloud.
    pub fn detach(self) {}

    /// Asks the task to end: its future is dropped at its next wait, unless it ends before. Await the task to
    /// know which.
    pub fn cancel(&self) {
        cancel(&self.0);
    }

    /// What cancels it, whatever its output is.
    pub(crate) fn canceller(&self) -> Arc<dyn Cancellable>
    where
        T: Send + 'static,
    {
        self.0.clone()
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.0).outcome.is_some()
    }
}

/// A task that can be cancelled.
pub(crate) trait Cancellable: Send + Sync {
    /// As [`Task::cancel`].
    fn cancel(&self);

    /// As [`Task::is_finished`].
    fn is_finished(&self) -> bool;
}

impl<T: Send> Cancellable for Mutex<State<T>> {
    fn cancel(&self) {
        cancel(self);
    }

    fn is_finished(&self) -> bool {
        lock(self).outcome.is_some()
    }
}

fn cancel<T>(task: &Mutex<State<T>>) {
    let mut state = lock(task);
    state.cancelled = true;
    if let Some(task) = state.task.take() {
        drop(state);
        task.wake();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waiter = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}

/// Why a task gave no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// It was cancelled, or its backend has stopped.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskError::Cancelled => "the task was cancelled",
            TaskError::Panicked => "the task panicked",
        })
    }
}

impl std::error::Error for TaskError {}

/// Tells the waiter how the task ended, also when a stopping backend drops it unfinished.
struct Finish<T> {
    state: Arc<Mutex<State<T>>>,
    _counted: Counted,
}

impl<T> Finish<T> {
    fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if !state.task.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        state.cancelled
    }

    fn with(&mut self, outcome: Result<T, TaskError>) {
        let mut state = lock(&self.state);
        state.task = None;
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
        }
        if let Some(waiter) = state.waiter.take() {
            drop(state);
            waiter.wake();
        }
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.with(Err(TaskError::Cancelled));
    }
}

/// How many background tasks there are, and who waits for the last one.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<Count>>);

#[derive(Default)]
struct Count {
    running: usize,
    started: u64,
    waiters: Vec<Waker>,
}

impl Tasks {
    pub(crate) fn begin(&self) -> Counted {
        let mut count = lock(&self.0);
        count.running += 1;
        count.started += 1;
        drop(count);
        Counted(self.clone())
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).running
    }

    pub(crate) fn started(&self) -> u64 {
        lock(&self.0).started
    }

    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let tasks = self.clone();
        poll_fn(move |cx| {
            let mut count = lock(&tasks.0);
            if count.running == 0 {
                return Poll::Ready(());
            }
            if !count.waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                count.waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// A task that has not ended.
pub(crate) struct Counted(Tasks);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = lock(&self.0.0);
        count.running -= 1;
        if count.running == 0 {
            let waiters = std::mem::take(&mut count.waiters);
            drop(count);
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

/// What a panic said, if it said anything.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A panic while a lock was held leaves nothing half done here, so poison means nothing.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
