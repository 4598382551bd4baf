//! What a handler can ask of this backend.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use async_std::task;
use futures_lite::future::or;
use gearshift_core::threads::Threads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, Job, Stream, Vitals, Work};
use gearshift_reactor::{Handle, Latch};

use crate::NAME;

/// async-std's executor, as the application of one server sees it.
pub(crate) struct AsyncStdEngine {
    /// Released when the server has ended. The executor outlives the server, so that background tasks have to be
    /// ended one by one.
    running: Latch,
    reactor: Handle,
    threads: Threads,
}

impl AsyncStdEngine {
    pub(crate) fn new(running: &Latch, reactor: &Handle, config: &Config) -> AsyncStdEngine {
        let threads = Threads::new(config.compute_threads_or_cores());
        AsyncStdEngine { running: running.clone(), reactor: reactor.clone(), threads }
    }
}

impl Engine for AsyncStdEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.reactor.sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.reactor.clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        task::spawn(or(self.running.released(), task));
    }

    fn runs_in_place(&self) -> bool {
        false
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        task::block_on(future);
    }

    fn vitals(&self) -> Vitals {
        Vitals { workers: crate::threads(), waiting: 0, turns: self.reactor.turns() }
    }
}

#[cfg(test)]
#[path = "../../reactor/tests/cases/runtime.rs"]
mod tests;

#[cfg(test)]
const BACKEND: crate::AsyncStd = crate::AsyncStd;
