//! What a handler may ask of this backend.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use gearshift_core::threads::Threads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::Handle;
use smol::Executor;

use crate::NAME;

thread_local! {
    static HERE: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// One worker, as other threads see it.
#[derive(Clone)]
pub(crate) struct Worker {
    /// Kept by the worker's thread alone, so that the tasks end with it.
    executor: Weak<Executor<'static>>,
    handle: Handle,
}

impl Worker {
    pub(crate) fn new(executor: &Arc<Executor<'static>>, handle: &Handle) -> Worker {
        Worker { executor: Arc::downgrade(executor), handle: handle.clone() }
    }

    /// The reactor that its connections are on.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a task on it. It is dropped if the worker has ended.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    /// Makes it the one that the calling thread runs, until the guard is dropped.
    pub(crate) fn enter(self) -> Here {
        HERE.set(Some(self));
        Here
    }
}

/// See [`Worker::enter`].
pub(crate) struct Here;

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// All workers of a server.
pub(crate) struct Loops {
    workers: Vec<Worker>,
    turn: AtomicUsize,
}

impl Loops {
    pub(crate) fn new(workers: impl Iterator<Item = Worker>) -> Arc<Loops> {
        Arc::new(Loops { workers: workers.collect(), turn: AtomicUsize::new(0) })
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Worker] {
        &self.workers
    }

    /// The calling thread's worker if it is one of these, else one of them in turn.
    fn home(&self) -> Worker {
        let is_ours = |here: &Worker| self.workers.iter().any(|one| one.executor.ptr_eq(&here.executor));
        HERE.with_borrow(|here| here.clone().filter(is_ours)).unwrap_or_else(|| {
            self.workers[self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len()].clone()
        })
    }
}

/// The executors of one server, as its application sees them.
pub(crate) struct SmolEngine {
    loops: Arc<Loops>,
    threads: Threads,
}

impl SmolEngine {
    pub(crate) fn new(loops: &Arc<Loops>, config: &Config) -> SmolEngine {
        SmolEngine { loops: loops.clone(), threads: Threads::new(config.compute_threads_or_cores()) }
    }
}

impl Engine for SmolEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.loops.home().handle().sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.loops.home().handle().clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.loops.home().spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        let turns = self.loops.all().iter().map(|worker| worker.handle().turns()).sum();
        EngineStats { workers: self.loops.all().len(), waiting: 0, turns }
    }
}
