//! Background tasks, with the same contract on every backend.
//!
//! Dropping the handle detaches the task. Cancelling drops its future at its next wait. A panic ends only the task.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use crate::runtime::clock::CoarseInstant;
use crate::runtime::latch::Guard;
use crate::runtime::stall::{Origin, Stalls};

/// The handle to a background task, from [`Runtime::spawn`](crate::Runtime::spawn).
///
/// Awaiting the handle gives the output of the task, or a [`TaskError`]. Dropping it lets the task run on.
#[must_use = "a dropped task runs on; use `.detach()` to say so"]
pub struct Task<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    /// The result of a task that has ended, until the handle takes it.
    outcome: Option<Result<T, TaskError>>,
    /// The task has ended. It stays set when the handle takes the result.
    finished: bool,
    /// The task was asked to end.
    cancelled: bool,
    /// The waker of the task, for its cancellation.
    task: Option<Waker>,
    /// The waker of the future that awaits the task.
    waiter: Option<Waker>,
}

impl<T: Send + 'static> Task<T> {
    /// Creates a task that holds `counted` until it has ended. Returns its handle, and the future that the backend must
    /// run. That future does not panic.
    pub(crate) fn new<F>(
        future: F,
        origin: Origin,
        counted: Option<Guard>,
        stalls: Arc<Stalls>,
    ) -> (Task<T>, impl Future<Output = ()> + Send + use<T, F>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State {
            outcome: None,
            finished: false,
            cancelled: false,
            task: None,
            waiter: None,
        }));
        let task = Task(state.clone());
        let mut finish = Finish { state, counted };
        let mut future = Contained(Some(Box::pin(future)));
        let body = poll_fn(move |cx| {
            let outcome = match &mut future.0 {
                Some(running) if !finish.is_cancelled(cx) => {
                    let began = CoarseInstant::now();
                    let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
                    stalls.polled_task(began, origin);
                    match polled {
                        Ok(polled) => Ok(ready!(polled)),
                        Err(panic) => {
                            let message = panic_message(&*panic);
                            log::error!("{origin} panicked: {message}");
                            Err(TaskError::Panicked)
                        }
                    }
                }
                _ => Err(TaskError::Cancelled),
            };
            // The future is dropped before the waiter learns that the task has ended.
            future.clear();
            finish.with(outcome);
            Poll::Ready(())
        });
        (task, body)
    }
}

impl<T> Task<T> {
    /// Lets the task run on without its handle. Dropping the handle has the same effect; this call makes it visible.
    pub fn detach(self) {}

    /// Requests the end of the task: its future is dropped at its next wait, unless it completes before. Awaiting the
    /// task tells which.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// A handle that can cancel the task and does not depend on the type of its output.
    pub(crate) fn canceller(&self) -> Arc<dyn Cancellable + Send + Sync>
    where
        T: Send + 'static,
    {
        self.0.clone()
    }
}

/// A task whose output type is erased. The methods are those of [`Task`].
pub(crate) trait Cancellable {
    fn cancel(&self);
    fn is_finished(&self) -> bool;
}

impl<T> Cancellable for Mutex<State<T>> {
    fn cancel(&self) {
        let mut state = lock(self);
        state.cancelled = true;
        if let Some(task) = state.task.take() {
            drop(state);
            task.wake();
        }
    }

    fn is_finished(&self) -> bool {
        lock(self).finished
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

/// The reason why a task has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// The task was cancelled, or the backend has dropped it while stopping.
    Cancelled,
    /// The task panicked. The panic was logged.
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

/// The task's side of the shared state. It stores the result and wakes the waiter, also when a stopping backend drops
/// the task.
struct Finish<T> {
    state: Arc<Mutex<State<T>>>,
    counted: Option<Guard>,
}

impl<T> Finish<T> {
    /// Registers the waker of the task. Returns whether the task was cancelled.
    fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if !state.task.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        state.cancelled
    }

    /// Stores the result, unless there is one, and wakes the waiter. The task is not counted any more once the waiter
    /// has the result.
    fn with(&mut self, outcome: Result<T, TaskError>) {
        drop(self.counted.take());
        let mut state = lock(&self.state);
        state.task = None;
        if !state.finished {
            state.finished = true;
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

/// A value of the application that an executor may drop. A panic of the drop is logged: it would end the thread of the
/// executor, and `async_task` aborts the process.
pub(crate) struct Contained<T>(pub(crate) Option<T>);

impl<T> Contained<T> {
    /// Drops the value.
    pub(crate) fn clear(&mut self) {
        let value = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            log::error!("a task or a job panicked while it was dropped: {}", panic_message(&*panic));
        }
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The message of a panic payload.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Locks `mutex` and ignores poisoning: no critical section in this crate leaves its data inconsistent by a panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::runtime::latch::Latch;

    #[test]
    fn a_task_that_has_a_result_is_not_counted() {
        let latch = Latch::new();
        let stalls = Arc::new(Stalls::new("none", std::time::Duration::MAX));
        let origin = Origin::Spawned(std::panic::Location::caller());
        let (task, body) = Task::new(async {}, origin, Some(latch.guard()), stalls);
        let mut body = pin!(body);
        assert_eq!(latch.guards(), 1);
        assert!(body.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(task.is_finished());
        assert_eq!(latch.guards(), 0, "an executor may keep the future for longer");
    }
}
