//! How many offloaded jobs run at once, and what becomes of the others: a queue with a limit.
//!
//! Work that waits and work that burns CPU have a pool each, so that neither takes the other's threads. A job whose
//! future is dropped leaves the queue with it. A thread that has done its job goes on with the next one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};

use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::runtime::config::Overload;
use crate::runtime::handle::Work;
use crate::runtime::offload::Job;
use crate::runtime::stats::PoolStats;
use crate::runtime::task::lock;

/// The pool's side of one kind of work. The threads are the backend's.
pub(crate) struct Pool {
    kind: Work,
    threads: usize,
    /// The longest queue where jobs may be refused.
    queue: usize,
    overload: Overload,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// The next place in the queue.
    next: u64,
    /// By place. Whoever gives up takes its job out.
    queue: BTreeMap<u64, Queued>,
    started: u64,
    waits: u64,
    waited: Duration,
    refused: u64,
}

struct Queued {
    job: Job,
    since: Instant,
}

/// What became of a job.
pub(crate) enum Admission {
    /// A thread is to run this now.
    Run(Job),
    /// It waits for a thread, in this place.
    Queued(u64),
}

thread_local! {
    static CURRENT: Cell<Option<Work>> = const { Cell::new(None) };
}

impl Pool {
    pub(crate) fn new(kind: Work, threads: usize, queue: usize, overload: Overload) -> Arc<Pool> {
        Arc::new(Pool { kind, threads: threads.max(1), queue, overload, state: Mutex::default() })
    }

    /// Whether handlers are refused when the queue is full.
    pub(crate) fn refuses(&self) -> bool {
        self.overload == Overload::Refuse
    }

    /// Whether work of `kind` runs in place on the calling thread because that is a pool's own.
    ///
    /// A job may wait for another one. So that the threads cannot all wait for threads, what computes waits for
    /// nobody, and what blocks only for what computes.
    pub(crate) fn runs_in_place(kind: Work) -> bool {
        match CURRENT.get() {
            Some(Work::Compute) => true,
            Some(Work::Blocking) => kind == Work::Blocking,
            None => false,
        }
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// [`Busy`] if it may be refused and the queue is full.
    pub(crate) fn admit(self: &Arc<Pool>, job: Job, may_refuse: bool) -> Result<Admission, Busy> {
        let mut state = lock(&self.state);
        if state.running < self.threads {
            state.running += 1;
            state.started += 1;
            drop(state);
            let place = Place(Some(self.clone()));
            return Ok(Admission::Run(Box::new(move || place.work(job))));
        }
        if may_refuse && state.queue.len() >= self.queue {
            state.refused += 1;
            return Err(Busy);
        }
        let place = state.next;
        state.next += 1;
        state.queue.insert(place, Queued { job, since: Instant::now() });
        Ok(Admission::Queued(place))
    }

    /// Takes a job out of the queue, if it is there still.
    pub(crate) fn withdraw(&self, place: u64) {
        let withdrawn = lock(&self.state).queue.remove(&place);
        // What it holds may do anything when it is dropped: not under the lock.
        drop(withdrawn);
    }

    /// The next job for a thread that has done one. Without one the thread is free, and counts as such from now on.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        let Some((_, Queued { job, since })) = state.queue.pop_first() else {
            state.running -= 1;
            return None;
        };
        state.started += 1;
        state.waits += 1;
        state.waited += since.elapsed();
        Some(job)
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = lock(&self.state);
        PoolStats {
            threads: self.threads,
            running: state.running,
            queued: state.queue.len(),
            started: state.started,
            waits: state.waits,
            waited: state.waited,
            refused: state.refused,
        }
    }
}

/// A place among those that run. A backend that ends may drop it unused.
struct Place(Option<Arc<Pool>>);

impl Place {
    /// Runs a job and then what waits.
    fn work(mut self, job: Job) {
        let Some(pool) = self.0.take() else { return };
        let before = CURRENT.replace(Some(pool.kind));
        let mut next = Some(job);
        while let Some(job) = next {
            job();
            next = pool.next();
        }
        CURRENT.set(before);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            lock(&pool.state).running -= 1;
        }
    }
}

/// The queue of a pool is full: [`Config::pool_queue`](crate::Config::pool_queue). As a response: 503 with
/// `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much of this work waits already")
    }
}

impl std::error::Error for Busy {}

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        let after = HeaderValue::from(Overload::RETRY_AFTER);
        StatusCode::SERVICE_UNAVAILABLE.into_response().with_value(header::RETRY_AFTER, after)
    }
}
