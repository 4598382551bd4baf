//! The threads behind [`Runtime::blocking`](crate::Runtime::blocking) and
//! [`Runtime::compute`](crate::Runtime::compute), for backends without such threads.
//!
//! Blocking work runs on the threads of the `blocking` crate: the process has one set of at most 500, which grows and
//! shrinks with the load. CPU-bound work runs on a rayon pool of the server, created at first use. If the threads of the
//! server have a wrapper, both kinds run on threads that the server starts (`job_threads.rs`). The admission in `pool`
//! decides how many jobs run at once.

use std::sync::{Arc, OnceLock};

use crate::runtime::config::Config;
use crate::runtime::handle::Work;
use crate::runtime::job_threads::JobThreads;
use crate::runtime::offload::Job;
use crate::runtime::pool::MAX_LENT;
use crate::runtime::starter::Starter;

/// The threads for the offloaded work of one server, from [`Threads::offload`](crate::Threads::offload).
pub struct OffloadThreads {
    compute_threads: usize,
    compute: OnceLock<rayon_core::ThreadPool>,
    /// The threads for all jobs, if the threads of the server have a wrapper.
    wrapped: Option<Arc<JobThreads>>,
}

impl OffloadThreads {
    pub(crate) fn new(config: &Config, starter: &Starter) -> OffloadThreads {
        let compute_threads = config.compute_threads_or_cores();
        // Both pools may lend places to guests.
        let max_jobs =
            config.blocking_threads.max(1).saturating_add(compute_threads).saturating_add(2 * MAX_LENT);
        let wrapped = starter.has_wrapper().then(|| JobThreads::new(starter, max_jobs));
        OffloadThreads { compute_threads, compute: OnceLock::new(), wrapped }
    }

    /// Whether the threads run inside a [`ThreadWrapper`](crate::ThreadWrapper). A backend whose runtime has threads for
    /// blocking work must then use these threads instead.
    pub fn have_wrapper(&self) -> bool {
        self.wrapped.is_some()
    }

    /// Runs `job` on a thread of the given kind.
    ///
    /// # Panics
    /// If the operating system refuses to create a single thread for CPU-bound work.
    pub fn run(&self, kind: Work, job: Job) {
        match (&self.wrapped, kind) {
            (Some(threads), _) => threads.run(job),
            (None, Work::Blocking) => blocking::unblock(job).detach(),
            (None, Work::Compute) => self.compute().spawn(job),
        }
    }

    /// The threads for CPU-bound work. If the operating system refuses their number, there are fewer of them.
    fn compute(&self) -> &rayon_core::ThreadPool {
        self.compute.get_or_init(|| {
            let mut threads = self.compute_threads;
            loop {
                let name = |n| format!("compute-{n}");
                match rayon_core::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build() {
                    Ok(pool) => return pool,
                    Err(error) => {
                        assert!(threads > 1, "no thread for CPU-bound work: {error}");
                        log::warn!("the system refuses {threads} threads for CPU-bound work: {error}");
                        threads /= 2;
                    }
                }
            }
        })
    }
}
