//! The threads behind [`Runtime::blocking`](crate::Runtime::blocking) and
//! [`Runtime::compute`](crate::Runtime::compute) for backends that bring none of their own.
//!
//! Work that waits goes to the `blocking` crate: threads come with the load, 500 at most, and may stay. Work that
//! burns CPU goes to a rayon pool with a thread for each core, made at first use.

use std::sync::OnceLock;

use crate::config::cores;
use crate::offload::Job;
use crate::runtime::Work;

/// Queues a job for a thread of the given kind.
pub fn offload(kind: Work, job: Job) {
    match kind {
        Work::Blocking => blocking::unblock(job).detach(),
        Work::Compute => compute_pool().spawn(job),
    }
}

fn compute_pool() -> &'static rayon_core::ThreadPool {
    static POOL: OnceLock<rayon_core::ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| {
        rayon_core::ThreadPoolBuilder::new()
            .num_threads(cores())
            .thread_name(|n| format!("compute-{n}"))
            .build()
            .expect("the system gives a thread for each core")
    })
}
