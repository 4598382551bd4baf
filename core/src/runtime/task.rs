//! Background tasks, with the same contract on every backend.
//!
//! Dropping the handle detaches the task. Cancelling drops its future at its next wait. A panic ends only the task.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use crate::runtime::clock::CoarseInstant;
use crate::runtime::contained::{Contained, contain};
use crate::runtime::latch::Guard;
use crate::runtime::stall::{Origin, Stalls};

/// The handle to a background task, from [`Runtime::spawn`](crate::Runtime::spawn).
///
/// Awaiting the handle gives the output of the task, or a [`TaskError`]. Dropping it lets the task run on.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Request, Task, TaskError};
///
/// async fn double(request: Request) -> Result<String, TaskError> {
///     let task: Task<u32> = request.runtime().spawn(async { 21 * 2 });
///     Ok(task.await?.to_string())
/// }
/// # drop(double);
/// ```
#[must_use = "a dropped task runs on; use `.detach()` to say so"]
pub struct Task<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    /// The result of a task that has ended, until the handle takes it. The task or the handle drops a result that is
    /// left.
    outcome: Contained<Result<T, TaskError>>,
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
    /// run. That future does not panic. Without `stalls` the task may block its thread.
    pub(crate) fn new<F>(
        future: F,
        origin: Origin,
        counted: Option<Guard>,
        stalls: Option<Arc<Stalls>>,
    ) -> (Task<T>, impl Future<Output = ()> + Send + use<T, F>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State {
            outcome: Contained(None),
            finished: false,
            cancelled: false,
            task: None,
            waiter: None,
        }));
        let task = Task(state.clone());
        let mut finish = Finish { state, counted };
        let mut future = Contained::new(Box::pin(future));
        let body = poll_fn(move |cx| {
            let outcome = match &mut future.0 {
                Some(running) if !finish.is_cancelled(cx) => {
                    let began = CoarseInstant::now();
                    let polled = contain(origin, || running.as_mut().poll(cx));
                    stalls.iter().for_each(|stalls| stalls.polled_task(began, origin));
                    match polled {
                        Some(polled) => Ok(ready!(polled)),
                        None => Err(TaskError::Panicked),
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
        match state.outcome.0.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                let previous = state.waiter.replace(cx.waker().clone());
                drop(state);
                // The drop of a waker may run any code, so the lock is released first.
                drop(previous);
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
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Request, TaskError};
///
/// async fn cancelled(request: Request) -> &'static str {
///     let task = request.runtime().spawn(std::future::pending::<()>());
///     task.cancel();
///     match task.await {
///         Err(TaskError::Cancelled) => "cancelled",
///         Err(TaskError::Panicked) => "panicked",
///         Ok(()) => "done",
///     }
/// }
/// # drop(cancelled);
/// ```
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
        let is_known = state.task.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let previous = if is_known { None } else { state.task.replace(cx.waker().clone()) };
        let is_cancelled = state.cancelled;
        drop(state);
        drop(previous);
        is_cancelled
    }

    /// Stores the result, unless there is one, and wakes the waiter. The task is not counted any more once the waiter
    /// has the result.
    fn with(&mut self, outcome: Result<T, TaskError>) {
        drop(self.counted.take());
        let mut state = lock(&self.state);
        let task = state.task.take();
        if !state.finished {
            state.finished = true;
            state.outcome.0 = Some(outcome);
        }
        let waiter = state.waiter.take();
        drop(state);
        drop(task);
        waiter.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.with(Err(TaskError::Cancelled));
    }
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
        let (task, body) = Task::new(async {}, origin, Some(latch.guard()), Some(stalls));
        let mut body = pin!(body);
        assert_eq!(latch.guards(), 1);
        assert!(body.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(task.is_finished());
        assert_eq!(latch.guards(), 0, "an executor may keep the future for longer");
    }
}
