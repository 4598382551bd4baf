//! The threads for the jobs of a server whose threads have a wrapper. No pool of another crate lets a thread be
//! wrapped for life.
//!
//! A thread is started for a job if no other one waits for a job, and ends when it has waited for [`MAX_IDLE`]. The
//! admission in `pool` decides how many jobs run at once, so a job does not wait here for the end of another one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::contained::discard;
use crate::runtime::offload::Job;
use crate::runtime::starter::Starter;
use crate::runtime::task::lock;

/// The time for which a thread waits for a job before it ends.
const MAX_IDLE: Duration = Duration::from_secs(10);

/// The threads for the jobs of one server.
pub(crate) struct JobThreads {
    starter: Starter,
    /// The largest number of threads: the largest number of jobs that are admitted at once.
    max: usize,
    max_idle: Duration,
    state: Mutex<State>,
    /// There is a job, or the threads are to end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The jobs for which a thread is about to begin.
    jobs: VecDeque<Job>,
    threads: usize,
    /// The number of threads that wait for a job. One that was woken counts until it has the lock.
    waiting: usize,
    /// The number of the next thread.
    next: u64,
    has_ended: bool,
}

impl JobThreads {
    /// Creates an empty set of at most `max` threads. The threads end with those of `starter`.
    pub(crate) fn new(starter: &Starter, max: usize) -> Arc<JobThreads> {
        JobThreads::with_idle(starter, max, MAX_IDLE)
    }

    fn with_idle(starter: &Starter, max: usize, max_idle: Duration) -> Arc<JobThreads> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let threads = Arc::new(JobThreads { starter: starter.clone(), max, max_idle, state, changed });
        let ending = Arc::downgrade(&threads);
        starter.add_end(move || {
            if let Some(threads) = ending.upgrade() {
                threads.end();
            }
        });
        threads
    }

    /// Runs a job, which does not panic. It is dropped if the threads were told to end.
    pub(crate) fn run(self: &Arc<JobThreads>, job: Job) {
        let mut state = lock(&self.state);
        if state.has_ended {
            drop(state);
            return discard(job);
        }
        state.jobs.push_back(job);
        if state.jobs.len() <= state.waiting {
            drop(state);
            return self.changed.notify_one();
        }
        // With the largest number of threads, one of them has ended its job and is about to look for the next one.
        if state.threads < self.max {
            let number = state.next;
            state.next += 1;
            state.threads += 1;
            drop(state);
            let place = Place(Some(self.clone()));
            let started = self.starter.spawn(format!("job-{number}"), move || {
                place.work();
                Ok(())
            });
            if let Err(error) = started {
                log::error!(
                    "a job waits for the thread of another one, because the system refuses a thread: {error}"
                );
            }
        }
    }

    /// Runs jobs until there is none for [`MAX_IDLE`], or until the threads are told to end.
    fn work(&self) {
        let mut state = lock(&self.state);
        let mut idle_since = Instant::now();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                idle_since = Instant::now();
                state = lock(&self.state);
                continue;
            }
            let left = self.max_idle.saturating_sub(idle_since.elapsed());
            if state.has_ended || left.is_zero() {
                // Under the same lock, so that no job counts on this thread.
                state.threads -= 1;
                return;
            }
            state.waiting += 1;
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Makes the threads end, each after its job. Jobs that no thread has begun are dropped.
    fn end(&self) {
        let mut state = lock(&self.state);
        state.has_ended = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.changed.notify_all();
        jobs.into_iter().for_each(discard);
    }
}

/// The place of a thread that was counted, until it works.
struct Place(Option<Arc<JobThreads>>);

impl Place {
    fn work(mut self) {
        if let Some(threads) = self.0.take() {
            threads.work();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(threads) = &self.0 {
            lock(&threads.state).threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    use super::*;
    use crate::runtime::park::block_on_until;
    use crate::runtime::shutdown::Shutdown;
    use crate::runtime::thread_wrapper::ThreadWrapper;

    /// Sends the id of a thread at its end.
    #[derive(Debug)]
    struct Ends(mpsc::Sender<ThreadId>);

    impl ThreadWrapper for Ends {
        fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
            thread();
            let _ = self.0.send(thread::current().id());
        }
    }

    #[derive(Debug)]
    struct Forgetful;

    impl ThreadWrapper for Forgetful {
        fn run(&self, _: Box<dyn FnOnce() + Send + '_>) {}
    }

    fn starter(wrapper: impl ThreadWrapper) -> (Starter, Shutdown) {
        let shutdown = Shutdown::new();
        (Starter::new(shutdown.clone(), Some(Arc::new(wrapper))), shutdown)
    }

    fn ended(starter: &Starter) {
        let deadline = Instant::now() + Duration::from_secs(30);
        block_on_until(Some(deadline), starter.ended()).expect("the threads end");
    }

    #[test]
    fn each_of_several_jobs_has_a_thread_at_once_and_all_threads_end() {
        const JOBS: usize = 5;
        let (send_end, ends) = mpsc::channel();
        let (starter, shutdown) = starter(Ends(send_end));
        let threads = JobThreads::new(&starter, JOBS);
        for _ in 0..3 {
            let (send, receive) = mpsc::channel();
            let mut releases = Vec::new();
            for _ in 0..JOBS {
                let (release, released) = mpsc::channel::<()>();
                releases.push(release);
                let send = send.clone();
                threads.run(Box::new(move || {
                    send.send(thread::current().id()).unwrap();
                    let _ = released.recv();
                }));
            }
            // No job ends before all have begun.
            let ids: HashSet<_> = receive.iter().take(JOBS).collect();
            assert_eq!(ids.len(), JOBS);
            assert!(lock(&threads.state).threads <= JOBS);
            drop(releases);
        }
        let started = lock(&threads.state).next;
        ended(&starter);
        assert_eq!(ends.try_iter().count() as u64, started, "each thread has ended inside its wrapper");
        assert_eq!(lock(&threads.state).threads, 0);
        assert!(starter.failure().is_none() && !shutdown.is_requested());
    }

    #[test]
    fn an_idle_thread_ends_and_the_next_job_starts_another_one() {
        let (send_end, ends) = mpsc::channel();
        let (starter, _) = starter(Ends(send_end));
        let threads = JobThreads::with_idle(&starter, 2, Duration::from_millis(1));
        for _ in 0..3 {
            let (send, receive) = mpsc::channel();
            threads.run(Box::new(move || send.send(thread::current().id()).unwrap()));
            assert_eq!(ends.recv().unwrap(), receive.recv().unwrap());
        }
        assert_eq!(lock(&threads.state).next, 3);
        ended(&starter);
    }

    #[test]
    fn a_job_after_the_end_is_dropped() {
        let (send_end, _ends) = mpsc::channel();
        let (starter, _) = starter(Ends(send_end));
        let threads = JobThreads::new(&starter, 1);
        ended(&starter);
        let (send, receive) = mpsc::channel::<()>();
        threads.run(Box::new(move || send.send(()).unwrap()));
        assert_eq!(receive.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn a_thread_whose_wrapper_does_not_call_it_has_failed() {
        let (starter, shutdown) = starter(Forgetful);
        let threads = JobThreads::new(&starter, 1);
        threads.run(Box::new(|| {}));
        ended(&starter);
        assert!(starter.failure().is_some() && shutdown.is_requested());
        assert_eq!(lock(&threads.state).threads, 0);
    }
}
