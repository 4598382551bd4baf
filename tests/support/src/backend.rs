//! The properties of a backend that tests depend on. This is the only place in the tests that knows names of backends.

use gearshift::{Backend, Config};

/// Threads of the pool in [`few_workers`].
const THREADS: usize = 4;

/// Whether the threads of a backend block: a request holds its thread while its handler runs.
///
/// Where this is false, the backend is an event loop, and a handler that blocks delays all other connections of its
/// loop.
pub fn blocks(backend: Backend) -> bool {
    backend.threads_block()
}

/// Settings with one event loop, or with a pool of four threads, so that a request that holds its thread is noticed.
///
/// The number of workers is left to the backend where it cannot be set.
pub fn few_workers(backend: Backend) -> Config {
    let mut config = Config::default();
    config.threads = Some(THREADS);
    if backend.check(&config).is_ok() {
        return config;
    }
    (config.threads, config.workers) = (None, Some(1));
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    config
}

/// The same settings, with each request begun when its head is complete. On a backend whose threads block, a request
/// with a small body begins with the whole body otherwise.
pub fn begins_with_head(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.body_buffer = 0;
    config
}

/// How many requests a server with the settings of [`few_workers`] runs at the same time.
///
/// `None` if their number has no limit, which is the case on every event loop.
pub fn concurrency(backend: Backend) -> Option<usize> {
    blocks(backend).then(|| few_workers(backend).threads.unwrap_or(1))
}

/// Whether background tasks begin on one thread with the settings of [`few_workers`], and so in their order.
pub fn begins_tasks_in_order(backend: Backend) -> bool {
    let config = few_workers(backend);
    config.threads.is_some() || config.workers == Some(1)
}

/// Whether handlers run inside a tokio runtime.
pub fn runs_in_tokio(backend: Backend) -> bool {
    backend.name() == "tokio"
}

/// Whether the number of event loops can be set, and a connection stays on the loop that has accepted it.
pub fn keeps_connections_on_loops(backend: Backend) -> bool {
    matches!(backend.name(), "mio" | "smol")
}
