//! The requests that wait for Python, on an event loop.
//!
//! Threads of the blocking pool take them from the queue. A thread that has called the application for one request
//! takes the next one and keeps the GIL. While requests wait, one more thread waits for the GIL: the standby. It gets
//! the GIL when the application waits, or when a request takes long, and takes requests too. So requests that wait
//! overlap, on as many threads as the pool has, and short requests that only compute cause few switches of threads.
//! While a request of another thread has begun and not ended, a thread takes requests for [`MAX_TURN`] only, because the
//! other thread may want the GIL.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gearshift::{Busy, Request, Response, StatusCode};
use pyo3::prelude::*;

use crate::channel::{End, Producer};
use crate::wakes::Wakes;
use crate::wsgi::on_pool::{Job, run};
use crate::wsgi::{Shared, failed};

/// The time after which Python takes the GIL from a thread that computes: `sys.getswitchinterval()`, if the application
/// does not change it.
const SWITCH_INTERVAL: Duration = Duration::from_millis(5);

/// The time for which a thread takes requests although other threads run, which may want the GIL.
const MAX_TURN: Duration = Duration::from_millis(1);

/// The time that a standby leaves to a thread from which Python has taken the GIL.
const YIELD_TIMEOUT: Duration = Duration::from_millis(1);

/// See the [module](self).
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when a request has ended for which a standby waits.
    progress: Condvar,
    /// The number of requests that may wait or run before others are refused.
    capacity: Option<usize>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct State {
    /// Each has a connection that waits for it.
    waiting: VecDeque<(Request, Arc<Job>)>,
    /// The number of threads that have taken a request.
    running: usize,
    /// Whether a thread is on its way to the GIL.
    has_standby: bool,
    /// The number of requests that were run.
    ended: u64,
    /// Whether the standby waits until a request has ended.
    is_yielding: bool,
}

impl Queue {
    /// `capacity` is the number of requests that may wait or run before others are refused.
    pub(super) fn new(capacity: Option<usize>) -> Queue {
        Queue { state: Mutex::default(), progress: Condvar::new(), capacity, wakes: Arc::default() }
    }

    /// The wakes of the connections whose requests are in the queue.
    pub(super) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread from which Python has taken the GIL end its request.
    fn yield_to_other(&self) {
        let mut state = self.lock();
        let ended = state.ended;
        state.is_yielding = true;
        let waited = self.progress.wait_timeout_while(state, YIELD_TIMEOUT, |state| state.ended == ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_yielding = false;
    }

    /// Hands over a response that is complete.
    pub(super) fn complete(&self, job: &Job, response: Response) {
        let Some(waker) = job.channel().complete(response) else { return };
        // Without the lock: a wake may drop a connection, which removes its request from the queue.
        let is_last = self.lock().waiting.is_empty();
        match is_last {
            true => waker.wake(),
            false => self.wakes.collect(waker),
        }
    }

    /// Removes a request whose client has left.
    pub(super) fn remove(&self, job: &Arc<Job>) {
        let mut state = self.lock();
        let position = state.waiting.iter().position(|(_, waiting)| Arc::ptr_eq(waiting, job));
        let removed = position.and_then(|position| state.waiting.remove(position));
        drop(state);
        drop(removed);
    }
}

/// A thread that takes requests: the standby until it has the GIL.
pub(super) struct Worker {
    shared: Arc<Shared>,
    phase: Phase,
    /// When it began to take requests.
    since: Option<Instant>,
}

enum Phase {
    /// It is on its way to the GIL.
    Standby,
    /// A standby in the place of one that was cancelled.
    Substitute,
    /// It runs a request.
    Runs,
    /// It takes no more requests.
    Ended,
}

impl Worker {
    /// Queues a request. Returns the worker to run if there is no standby.
    ///
    /// # Errors
    /// [`Busy`] if too many requests wait.
    pub(super) fn queue(
        shared: &Arc<Shared>,
        request: Request,
        job: &Arc<Job>,
    ) -> Result<Option<Worker>, Busy> {
        let queue = &shared.queue;
        let mut state = queue.lock();
        if queue.capacity.is_some_and(|capacity| state.waiting.len() + state.running >= capacity) {
            return Err(Busy);
        }
        state.waiting.push_back((request, job.clone()));
        let has_standby = mem::replace(&mut state.has_standby, true);
        Ok((!has_standby).then(|| Worker::new(shared, Phase::Standby)))
    }

    fn new(shared: &Arc<Shared>, phase: Phase) -> Worker {
        Worker { shared: shared.clone(), phase, since: None }
    }

    /// Runs requests until none waits, or until another thread runs and a standby takes the place of this one.
    pub(super) fn run(mut self) {
        loop {
            let (ended, since) = (self.shared.queue.lock().ended, Instant::now());
            let has_run = Python::attach(|py| {
                // Python has taken the GIL from a thread that runs short requests.
                if since.elapsed() >= SWITCH_INTERVAL && self.shared.queue.lock().ended != ended {
                    return false;
                }
                while let Some((request, job)) = self.next() {
                    self.respond(py, request, &job);
                }
                true
            });
            if has_run {
                return;
            }
            self.shared.queue.yield_to_other();
        }
    }

    /// Takes a request, unless this thread has to end.
    fn next(&mut self) -> Option<(Request, Arc<Job>)> {
        let queue = &self.shared.queue;
        let mut state = queue.lock();
        let takes = match mem::replace(&mut self.phase, Phase::Runs) {
            Phase::Standby | Phase::Substitute => {
                state.has_standby = false;
                state.running += 1;
                self.since = Some(Instant::now());
                true
            }
            // If other threads run, they may want the GIL, so this thread does not keep it for long.
            Phase::Runs => {
                state.ended += 1;
                if state.is_yielding {
                    queue.progress.notify_one();
                }
                let is_alone = state.running == 1 || !state.has_standby;
                is_alone || self.since.is_some_and(|since| since.elapsed() < MAX_TURN)
            }
            Phase::Ended => false,
        };
        let next = if takes { state.waiting.pop_front() } else { None };
        if next.is_none() {
            // Before the GIL is released, so that the next thread does not take this one for another that wants it.
            self.phase = Phase::Ended;
            state.running -= 1;
        }
        let needs_standby = next.is_some() && !state.waiting.is_empty() && !state.has_standby;
        state.has_standby |= needs_standby;
        drop(state);
        if needs_standby {
            Worker::start(&self.shared, Phase::Standby);
        }
        if next.is_none() {
            queue.wakes.flush();
        }
        next
    }

    /// Responds to a request.
    fn respond(&self, py: Python<'_>, request: Request, job: &Arc<Job>) {
        let response = match catch_unwind(AssertUnwindSafe(|| run(py, &self.shared, request, job))) {
            Ok(None) => return,
            Ok(Some(response)) => response,
            Err(_) => {
                log::error!("a panic while a request was handled");
                // If the head was sent, the response is cut.
                job.channel().end(End::Cut);
                failed(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        self.shared.queue.complete(job, response);
    }

    /// Starts a standby on a thread of the pool.
    fn start(shared: &Arc<Shared>, phase: Phase) {
        let worker = Worker::new(shared, phase);
        let runtime = shared.runtime.clone();
        shared.runtime.spawn(async move { runtime.blocking(move || worker.run()).await }).detach();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut state = self.shared.queue.lock();
        match self.phase {
            Phase::Runs => state.running -= 1,
            // The client whose request has started the thread has left.
            Phase::Standby if !state.waiting.is_empty() => {
                drop(state);
                Worker::start(&self.shared, Phase::Substitute);
            }
            // Without the second one, a server that has ended would try again and again.
            Phase::Standby | Phase::Substitute => state.has_standby = false,
            Phase::Ended => {}
        }
    }
}
