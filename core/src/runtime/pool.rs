//! The admission of offloaded jobs: a bound on the jobs that run at once, and queues for the others.
//!
//! Blocking work and CPU-bound work have a pool each, so that neither can occupy the threads of the other. A job
//! leaves its queue when its future is dropped. A thread that has completed a job takes the next one.
//!
//! A job may wait for another job, for example in [`Runtime::block_on`](crate::Runtime::block_on) for a task that
//! offloads work. If the jobs of all threads did so, the jobs that they wait for would never start. A job that waits
//! for a future therefore lends its place: a *guest* runs meanwhile, on one more thread. A guest can wait and lend its
//! place, too. At most [`MAX_LENT`] places of a pool are lent at once. A job that waits beyond that keeps its place,
//! which is logged: if the jobs of all places wait for tasks whose jobs are queued, the pool makes no progress.
//!
//! A job of a handler is never a guest. Handlers may be as many as there are connections, and if their jobs wait, they
//! would take all places that can be lent. The jobs that they wait for are jobs of tasks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};

use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;
use crate::runtime::clock::{AtomicCoarseInstant, CoarseInstant};
use crate::runtime::config::Overload;
use crate::runtime::contained::contain;
use crate::runtime::handle::Work;
use crate::runtime::offload::Job;
use crate::runtime::stats::PoolStats;
use crate::runtime::task::lock;

/// Maximum number of places of one pool that are lent at the same time. A job that waits beyond it keeps its place.
pub(crate) const MAX_LENT: usize = 128;
/// The time for which a pool does not log again that a job keeps its place while it waits.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The admission of one kind of work.
pub(crate) struct Pool {
    kind: Work,
    /// Has a thread of a kind run a job without delay.
    run: Box<dyn Fn(Work, Job) + Send + Sync>,
    /// The number of places.
    threads: usize,
    /// The length of the queue from which on jobs that may be refused are refused.
    max_queue: usize,
    overload: Overload,
    state: Mutex<State>,
    /// The last time at which it was logged that a job keeps its place while it waits.
    full_logged: AtomicCoarseInstant,
}

#[derive(Default)]
struct State {
    /// The counts of jobs. The other values are not kept here.
    stats: PoolStats,
    /// The number of places that are taken.
    taken: usize,
    /// The number of jobs that wait for a future, and have lent their place.
    lent: usize,
    /// The number of guests. It exceeds `lent` when a job has ended its wait before its guest has ended.
    guests: usize,
    /// The position that the next queued job gets.
    next_position: u64,
    /// The queued jobs of handlers, by position.
    of_handlers: BTreeMap<u64, Queued>,
    /// The other queued jobs, by position.
    of_others: BTreeMap<u64, Queued>,
}

struct Queued {
    job: Job,
    since: Instant,
}

impl State {
    fn queued(&self) -> usize {
        self.of_handlers.len() + self.of_others.len()
    }

    fn queue(&mut self, requester: Requester) -> &mut BTreeMap<u64, Queued> {
        match requester {
            Requester::Handler => &mut self.of_handlers,
            Requester::Other => &mut self.of_others,
        }
    }

    /// Ends a claim.
    fn end(&mut self, claim: Claim) {
        match claim {
            Claim::Place => self.taken -= 1,
            Claim::Guest => self.guests -= 1,
        }
    }

    /// Takes the first queued job that may run by `claim`.
    fn pop(&mut self, claim: Claim) -> Option<Job> {
        let first = |queue: &BTreeMap<u64, Queued>| queue.first_key_value().map(|(position, _)| *position);
        let of_other = first(&self.of_others);
        let queue = match (claim, first(&self.of_handlers)) {
            (Claim::Place, Some(of_handler)) if of_other.is_none_or(|of_other| of_handler < of_other) => {
                &mut self.of_handlers
            }
            _ => &mut self.of_others,
        };
        let (_, Queued { job, since }) = queue.pop_first()?;
        self.stats.started += 1;
        self.stats.waits += 1;
        self.stats.waited += since.elapsed();
        Some(job)
    }
}

/// The code that has offloaded a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requester {
    /// A handler or a response body, on an event loop.
    Handler,
    /// A background task, a job, or a thread of the application.
    Other,
}

/// The claim of a thread to run jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// The thread has a place.
    Place,
    /// The thread is a guest in a place that is lent.
    Guest,
}

/// The position of a job in a queue. Dropping it removes the job, if no thread has started it.
pub(crate) struct Position {
    pool: Arc<Pool>,
    requester: Requester,
    number: u64,
}

impl Drop for Position {
    fn drop(&mut self) {
        let withdrawn = lock(&self.pool.state).queue(self.requester).remove(&self.number);
        // The drop runs code of the application, so it happens without the lock.
        drop(withdrawn);
    }
}

thread_local! {
    /// The pool whose job the thread runs.
    static CURRENT: RefCell<Option<Arc<Pool>>> = const { RefCell::new(None) };
}

impl Pool {
    /// Creates the admission of `kind` for `threads` threads, at least 1. `run` has a thread of a kind run a job
    /// without delay.
    pub(crate) fn new(
        kind: Work,
        threads: usize,
        max_queue: usize,
        overload: Overload,
        run: impl Fn(Work, Job) + Send + Sync + 'static,
    ) -> Arc<Pool> {
        let (run, threads) = (Box::new(run), threads.max(1));
        let full_logged = AtomicCoarseInstant::new(CoarseInstant::default());
        Arc::new(Pool { kind, run, threads, max_queue, overload, state: Mutex::default(), full_logged })
    }

    /// Whether the jobs of handlers are refused when the queue is full.
    pub(crate) fn refuses(&self) -> bool {
        self.overload == Overload::Refuse
    }

    /// Whether work of `kind` must run on the calling thread because that is a thread of a pool.
    ///
    /// The rule saves a job from waiting for its own pool: a CPU-bound job never waits for work that it offloads, and
    /// a blocking job waits only for CPU-bound work.
    pub(crate) fn runs_in_place(kind: Work) -> bool {
        CURRENT.with_borrow(|pool| match pool.as_ref().map(|pool| pool.kind) {
            Some(Work::Compute) => true,
            Some(Work::Blocking) => kind == Work::Blocking,
            None => false,
        })
    }

    /// Lends the place of the job that the calling thread runs, until the returned value is dropped: the job is about
    /// to wait for a future. `None` on a thread of no pool, and if [`MAX_LENT`] places are lent.
    pub(crate) fn lend_place() -> Option<LentPlace> {
        let pool = CURRENT.with_borrow(Option::clone)?;
        let mut state = lock(&pool.state);
        if state.lent >= MAX_LENT {
            drop(state);
            pool.log_full();
            return None;
        }
        state.lent += 1;
        let guest = pool.next_guest(&mut state);
        drop(state);
        if let Some(job) = guest {
            pool.start(job, Claim::Guest);
        }
        Some(LentPlace(pool))
    }

    /// Logs that a job keeps its place while it waits, unless that was logged shortly before.
    fn log_full(&self) {
        if self.full_logged.advance(CoarseInstant::now(), LOG_PERIOD) {
            let kind = match self.kind {
                Work::Blocking => "blocking",
                Work::Compute => "compute",
            };
            log::warn!(
                "all {MAX_LENT} places of the {kind} pool that can be lent are lent, so a waiting job keeps its thread: \
                 make handlers that wait for tasks async"
            );
        }
    }

    /// Has a thread run a job now, or queues it. Returns the position of a queued job.
    ///
    /// # Errors
    /// [`Busy`] if `may_refuse` is set and the queue is full.
    pub(crate) fn admit(
        self: &Arc<Pool>,
        job: Job,
        requester: Requester,
        may_refuse: bool,
    ) -> Result<Option<Position>, Busy> {
        let mut state = lock(&self.state);
        let claim = if state.taken < self.threads {
            state.taken += 1;
            Claim::Place
        } else if requester == Requester::Other && state.guests < state.lent {
            state.guests += 1;
            Claim::Guest
        } else if may_refuse && state.queued() >= self.max_queue {
            state.stats.refused += 1;
            return Err(Busy);
        } else {
            let number = state.next_position;
            state.next_position += 1;
            state.queue(requester).insert(number, Queued { job, since: Instant::now() });
            return Ok(Some(Position { pool: self.clone(), requester, number }));
        };
        state.stats.started += 1;
        drop(state);
        self.start(job, claim);
        Ok(None)
    }

    /// Passes a job and its claim to a thread. The places of all CPU-bound threads may be lent, so a guest runs on a
    /// thread for blocking work.
    fn start(self: &Arc<Pool>, job: Job, claim: Claim) {
        let kind = match claim {
            Claim::Place => self.kind,
            Claim::Guest => Work::Blocking,
        };
        let permit = RunPermit(Some((self.clone(), claim)));
        (self.run)(kind, Box::new(move || permit.work(job)));
    }

    /// Takes a job for a new guest, if a place is lent that has none.
    fn next_guest(&self, state: &mut State) -> Option<Job> {
        let job = (state.guests < state.lent).then(|| state.pop(Claim::Guest)).flatten()?;
        state.guests += 1;
        Some(job)
    }

    /// The next job for a thread that has completed one. `None` ends its claim.
    fn next(&self, claim: Claim) -> Option<Job> {
        let mut state = lock(&self.state);
        // A job that has ended its wait needs its place again.
        let may_run = claim == Claim::Place || state.guests <= state.lent;
        let job = may_run.then(|| state.pop(claim)).flatten();
        if job.is_none() {
            state.end(claim);
        }
        job
    }

    /// The statistics of the pool.
    pub(crate) fn stats(&self) -> PoolStats {
        let state = lock(&self.state);
        PoolStats {
            threads: self.threads,
            running: state.taken + state.guests,
            queued: state.queued(),
            ..state.stats
        }
    }
}

/// A claim to run jobs. A backend that stops may drop the job and its claim unused.
struct RunPermit(Option<(Arc<Pool>, Claim)>);

impl RunPermit {
    /// Runs a job, then queued jobs until there is none for the claim.
    fn work(mut self, job: Job) {
        let Some((pool, claim)) = self.0.take() else { return };
        let before = CURRENT.replace(Some(pool.clone()));
        let mut next = Some(job);
        while let Some(job) = next {
            // A thread that ended here would take its place with it.
            let _ = contain("a job", job);
            next = pool.next(claim);
        }
        CURRENT.set(before);
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        if let Some((pool, claim)) = &self.0 {
            lock(&pool.state).end(*claim);
        }
    }
}

/// A place that is lent. Dropping it ends the wait of the job.
pub(crate) struct LentPlace(Arc<Pool>);

impl Drop for LentPlace {
    fn drop(&mut self) {
        lock(&self.0.state).lent -= 1;
    }
}

/// The error of offloaded work that was refused because [`Config::pool_queue`](crate::Config::pool_queue) jobs were
/// waiting. As a response it is 503 with `Retry-After` (RFC 9110, 10.2.3).
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Busy, IntoResponse, Request, StatusCode};
///
/// /// `?` answers with 503 if too many jobs wait.
/// async fn sum(request: Request) -> Result<String, Busy> {
///     let sum = request.runtime().try_compute(|| (1..1_000_000_u64).sum::<u64>()).await?;
///     Ok(sum.to_string())
/// }
///
/// assert_eq!(Busy.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
/// # drop(sum);
/// ```
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
        StatusCode::SERVICE_UNAVAILABLE.into_response().with_header(header::RETRY_AFTER, after)
    }
}

#[cfg(test)]
mod tests;
