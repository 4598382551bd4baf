//! The admission of offloaded jobs: a bound on the jobs that run at once, and a queue for the others.
//!
//! Blocking work and CPU-bound work have a pool each, so that neither can occupy the threads of the other. A job
//! leaves the queue when its future is dropped. A thread that has completed a job takes the next one from the queue.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{HeaderValue, StatusCode, header};

use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::runtime::config::Overload;
use crate::runtime::contained::contain;
use crate::runtime::handle::Work;
use crate::runtime::offload::Job;
use crate::runtime::stats::PoolStats;
use crate::runtime::task::lock;

/// The admission of one kind of work. The backend provides the threads.
pub(crate) struct Pool {
    kind: Work,
    /// The length of the queue from which on jobs that may be refused are refused.
    max_queue: usize,
    overload: Overload,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `queued` is not kept here: it is the length of `queue`.
    stats: PoolStats,
    /// The position that the next queued job gets.
    next_position: u64,
    /// The queued jobs by position.
    queue: BTreeMap<u64, Queued>,
}

struct Queued {
    job: Job,
    since: Instant,
}

/// The place of a job in the queue of a pool. Dropping it removes the job, if no thread has started it.
pub(crate) struct Place {
    pool: Arc<Pool>,
    position: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let withdrawn = lock(&self.pool.state).queue.remove(&self.position);
        // The drop runs code of the application, so it happens without the lock.
        drop(withdrawn);
    }
}

thread_local! {
    /// The kind of the pool whose job the thread runs.
    static CURRENT: Cell<Option<Work>> = const { Cell::new(None) };
}

impl Pool {
    /// Creates the admission of `kind` for `threads` threads, at least 1.
    pub(crate) fn new(kind: Work, threads: usize, max_queue: usize, overload: Overload) -> Arc<Pool> {
        let stats = PoolStats { threads: threads.max(1), ..PoolStats::default() };
        let state = Mutex::new(State { stats, ..State::default() });
        Arc::new(Pool { kind, max_queue, overload, state })
    }

    /// Whether the jobs of handlers are refused when the queue is full.
    pub(crate) fn refuses(&self) -> bool {
        self.overload == Overload::Refuse
    }

    /// Whether work of `kind` must run on the calling thread because that is a thread of a pool.
    ///
    /// The rule prevents a deadlock in which all threads of a pool wait for jobs in its queue. A CPU-bound job never
    /// waits for another job, and a blocking job waits only for CPU-bound jobs.
    pub(crate) fn runs_in_place(kind: Work) -> bool {
        match CURRENT.get() {
            Some(Work::Compute) => true,
            Some(Work::Blocking) => kind == Work::Blocking,
            None => false,
        }
    }

    /// Passes a job to `run`, which must have a thread run it now, or queues it. Returns the place of a queued job.
    ///
    /// # Errors
    /// [`Busy`] if `may_refuse` is set and the queue is full.
    pub(crate) fn admit(
        self: &Arc<Pool>,
        job: Job,
        may_refuse: bool,
        run: impl FnOnce(Job),
    ) -> Result<Option<Place>, Busy> {
        let mut state = lock(&self.state);
        if state.stats.running < state.stats.threads {
            state.stats.running += 1;
            state.stats.started += 1;
            drop(state);
            let permit = RunPermit(Some(self.clone()));
            run(Box::new(move || permit.work(job)));
            return Ok(None);
        }
        if may_refuse && state.queue.len() >= self.max_queue {
            state.stats.refused += 1;
            return Err(Busy);
        }
        let position = state.next_position;
        state.next_position += 1;
        state.queue.insert(position, Queued { job, since: Instant::now() });
        Ok(Some(Place { pool: self.clone(), position }))
    }

    /// The next job for a thread that has completed one. `None` ends its claim to run.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        let Some((_, Queued { job, since })) = state.queue.pop_first() else {
            state.stats.running -= 1;
            return None;
        };
        state.stats.started += 1;
        state.stats.waits += 1;
        state.stats.waited += since.elapsed();
        Some(job)
    }

    /// The statistics of the pool.
    pub(crate) fn stats(&self) -> PoolStats {
        let state = lock(&self.state);
        PoolStats { queued: state.queue.len(), ..state.stats }
    }
}

/// A claim to run jobs, counted in [`PoolStats::running`]. A backend that stops may drop the job and its claim unused.
struct RunPermit(Option<Arc<Pool>>);

impl RunPermit {
    /// Runs a job, then jobs of the queue until it is empty.
    fn work(mut self, job: Job) {
        let Some(pool) = self.0.take() else { return };
        let before = CURRENT.replace(Some(pool.kind));
        let mut next = Some(job);
        while let Some(job) = next {
            // A thread that ended here would take its place with it.
            let _ = contain("a job", job);
            next = pool.next();
        }
        CURRENT.set(before);
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            lock(&pool.state).stats.running -= 1;
        }
    }
}

/// The error of offloaded work that was refused because [`Config::pool_queue`](crate::Config::pool_queue) jobs were
/// waiting. As a response it is 503 with `Retry-After` (RFC 9110, 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many jobs are waiting")
    }
}

impl std::error::Error for Busy {}

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        let after = HeaderValue::from(Overload::RETRY_AFTER);
        StatusCode::SERVICE_UNAVAILABLE.into_response().with_value(header::RETRY_AFTER, after)
    }
}
