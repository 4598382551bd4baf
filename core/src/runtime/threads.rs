//! The threads behind [`Runtime::blocking`](crate::Runtime::blocking) and
//! [`Runtime::compute`](crate::Runtime::compute) for backends that bring none of their own.
//!
//! Work that waits goes to the `blocking` crate: threads come with the load and leave without it; they are the
//! process's, 500 at most. Work that burns CPU goes to a rayon pool of the server's own, made at first use. How many of
//! them are used at once is not decided here: no more jobs get here than there may be running.

use std::sync::OnceLock;

use crate::runtime::handle::Work;
use crate::runtime::offload::Job;

/// The threads of one server.
#[derive(Debug)]
pub struct Threads {
    compute_threads: usize,
    compute: OnceLock<rayon_core::ThreadPool>,
}

impl Threads {
    /// As many for computing as `compute_threads` says.
    pub fn new(compute_threads: usize) -> Threads {
        Threads { compute_threads: compute_threads.max(1), compute: OnceLock::new() }
    }

    /// Has a thread of the given kind run a job.
    pub fn run(&self, kind: Work, job: Job) {
        match kind {
            Work::Blocking => blocking::unblock(job).detach(),
            Work::Compute => self.compute().spawn(job),
        }
    }

    fn compute(&self) -> &rayon_core::ThreadPool {
        self.compute.get_or_init(|| {
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(self.compute_threads)
                .thread_name(|n| format!("compute-{n}"))
                .build()
                .expect("the system gives a thread for each core")
        })
    }
}
