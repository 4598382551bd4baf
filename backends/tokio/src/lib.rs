//! gearshift on [tokio](https://docs.rs/tokio): tasks on a work-stealing scheduler, or on an event loop for each
//! core.
//!
//! # The model
//! Each connection is a task for life. [`Tokio::work_stealing`] runs all of them on one runtime, whose threads
//! take tasks from each other when they have none of their own. [`Tokio::per_core`] gives each thread a runtime
//! and, where the kernel can spread connections (`SO_REUSEPORT`), a listener of its own; a connection stays where
//! it was accepted. With one worker the two are the same thing, and are run as the second, since nobody is there
//! to steal from.
//!
//! # What it costs
//! A connection costs a task and a registration with the reactor; while it is idle it holds no buffer, and its
//! one timer is touched when it fires, not for each request. A request costs one `recv` and one `send`, and its
//! share of an `epoll_wait`; a work-stealing scheduler adds the wake-ups of threads that look for work.
//!
//! # When it stalls
//! A handler that blocks or burns CPU holds up every connection of its thread, and those that wait for the
//! reactor if it is that thread's turn to poll it. Stealing hides one such handler, not as many as there are
//! threads. [`Runtime::blocking`] takes it to tokio's own blocking threads, [`Runtime::compute`] to a pool with a
//! thread for each core.
//!
//! Handlers run inside the runtime, so that libraries which insist on tokio work as they are.

mod accept;
mod runtime;
mod socket;
mod transport;
mod workers;

use std::io;

use gearshift_core::{App, Backend, Config, Report, ServeError, Server, backend, lifecycle};

use crate::workers::TokioWorkers;

/// The name this backend is selected by.
const NAME: &str = "tokio";

/// The tokio backend; see the [crate](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokio {
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    WorkStealing,
    PerCore,
}

impl Tokio {
    /// One runtime, whose threads share all connections. The default.
    pub const fn work_stealing() -> Tokio {
        Tokio { shape: Shape::WorkStealing }
    }

    /// A runtime for each thread; a connection stays on the thread that accepted it.
    pub const fn per_core() -> Tokio {
        Tokio { shape: Shape::PerCore }
    }

    fn workers(self, config: &Config) -> io::Result<TokioWorkers> {
        match self.shape {
            Shape::WorkStealing if config.workers_or_cores() > 1 => TokioWorkers::stealing(config),
            _ => TokioWorkers::per_core(config),
        }
    }
}

impl Backend for Tokio {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        match self.shape {
            Shape::WorkStealing => "tasks on tokio's work-stealing threads",
            Shape::PerCore => "tasks on a tokio event loop for each core",
        }
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = self.workers(server.config())?;
        lifecycle::run(server, app, workers)
    }
}
