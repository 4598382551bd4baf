//! The threads behind [`Runtime::blocking`](crate::Runtime::blocking) and
//! [`Runtime::compute`](crate::Runtime::compute), for backends without such threads.
//!
//! Blocking work runs on the threads of the `blocking` crate: the process has one set of at most 500, which grows and
//! shrinks with the load. CPU-bound work runs on a rayon pool of the server, created at first use. The admission in
//! `pool` decides how many jobs run at once.

use std::sync::OnceLock;

use crate::runtime::handle::Work;
use crate::runtime::offload::Job;

/// The threads for the offloaded work of one server.
#[derive(Debug)]
pub struct OffloadThreads {
    compute_threads: usize,
    compute: OnceLock<rayon_core::ThreadPool>,
}

impl OffloadThreads {
    /// Creates a set with `compute_threads` threads for CPU-bound work, at least 1.
    pub fn new(compute_threads: usize) -> OffloadThreads {
        OffloadThreads { compute_threads: compute_threads.max(1), compute: OnceLock::new() }
    }

    /// Runs `job` on a thread of the given kind.
    ///
    /// # Panics
    /// If the operating system refuses to create a single thread for CPU-bound work.
    pub fn run(&self, kind: Work, job: Job) {
        match kind {
            Work::Blocking => blocking::unblock(job).detach(),
            Work::Compute => self.compute().spawn(job),
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
