//! The tokio backend of gearshift: connections are tasks of [tokio](https://docs.rs/tokio).
//!
//! # Model
//! Each connection is one task. [`Tokio::work_stealing`] runs all tasks on one runtime, whose threads take tasks from
//! each other when they have none of their own. [`Tokio::per_core`] gives each thread its own runtime and, if the
//! system can distribute connections (`SO_REUSEPORT`), its own listeners; a connection stays on its thread. One more
//! thread accepts from Unix and inherited listeners, and gives each connection to the thread that has the least to do.
//! With one worker both run as `per_core`, because there is no thread to take tasks from.
//!
//! Handlers run inside the runtime, so libraries that require tokio work in them.
//!
//! # Cost
//! A connection costs one task and one registration with the reactor. An idle connection holds no buffer. Its timers
//! change when they fire, not for each request. A request costs one `recv`, one `send` and its share of an
//! `epoll_wait`. The work-stealing scheduler also wakes threads that look for tasks.
//!
//! # When it stalls
//! A handler that blocks or computes delays every connection of its thread. It also delays the connections that wait
//! for events, if its thread is the one that polls the reactor. Stealing hides such handlers while at least one thread
//! is free. [`Runtime::blocking`](gearshift_core::Runtime::blocking) runs a function on the blocking threads of tokio,
//! [`Runtime::compute`](gearshift_core::Runtime::compute) on a pool with one thread per core.

mod accept;
mod runtime;
mod socket;
mod transport;
mod workers;

use gearshift_core::{App, Backend, Config, Report, ServeError, Server, backend, lifecycle};

use crate::workers::TokioWorkers;

/// The name by which a user selects the backend.
const NAME: &str = "tokio";

/// The tokio backend; see the [crate](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokio {
    /// Whether each thread has its own runtime. Otherwise all threads have one.
    per_core: bool,
}

impl Tokio {
    /// Creates a backend with one runtime, whose threads share all connections. This is the default.
    pub const fn work_stealing() -> Tokio {
        Tokio { per_core: false }
    }

    /// Creates a backend with a runtime for each thread. A connection stays on the thread that has accepted it.
    pub const fn per_core() -> Tokio {
        Tokio { per_core: true }
    }
}

impl Backend for Tokio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        match self.per_core {
            false => "tasks on tokio's work-stealing threads",
            true => "tasks on a tokio event loop for each worker",
        }
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = match self.per_core || server.config().workers_or_cores() == 1 {
            false => TokioWorkers::stealing(&server)?,
            true => TokioWorkers::per_core(&server)?,
        };
        lifecycle::run(server, app, workers)
    }
}
