//! The engine of this backend: timers, connections, tasks and pools for the application.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::thread;
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep_until;

use crate::socket::TokioSocket;

/// The engine of one server.
pub(crate) struct TokioEngine {
    /// One handle for each runtime: one in total, or one per core. Never empty.
    pub(crate) handles: Vec<Handle>,
    /// The next runtime for a call from a thread that has none.
    pub(crate) next: AtomicUsize,
    /// Whether the runtimes are about to end. Polling one of their timers then panics.
    pub(crate) has_stopped: Arc<AtomicBool>,
    /// The pool for computations, and for all jobs if threads have a wrapper.
    pub(crate) threads: OffloadThreads,
}

impl TokioEngine {
    /// The runtime of the calling thread if it belongs to this server, otherwise each runtime of the server in turn.
    fn handle(&self) -> Handle {
        match Handle::try_current() {
            Ok(current) if self.handles.iter().any(|ours| ours.id() == current.id()) => current,
            _ => self.handles[self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len()].clone(),
        }
    }
}

impl Engine for TokioEngine {
    fn backend(&self) -> &'static str {
        crate::NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        let timer = {
            let handle = self.handle();
            let _entered = handle.enter();
            sleep_until(until.into())
        };
        let has_stopped = self.has_stopped.clone();
        Box::pin(async move {
            let mut timer = pin!(timer);
            let is_over = poll_fn(|cx| match has_stopped.load(Ordering::Acquire) {
                false => timer.as_mut().poll(cx).map(|()| true),
                // The runtime wakes the tasks of its timers when it ends.
                true => Poll::Ready(false),
            });
            if !is_over.await {
                outlive(until).await;
            }
        })
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        let handle = self.handle();
        let mut connecting = Box::pin(TokioSocket::connect(to));
        Box::pin(std::future::poll_fn(move |cx| {
            // Any thread may poll this future. The socket is registered with the reactor of this handle.
            let _entered = handle.enter();
            connecting.as_mut().poll(cx).map_ok(Stream::new)
        }))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.handle().spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        match kind {
            Work::Blocking if self.threads.have_wrapper() => {
                let handle = self.handle();
                let inside = move || {
                    let _entered = handle.enter();
                    job();
                };
                self.threads.run(kind, Box::new(inside));
            }
            Work::Blocking => drop(self.handle().spawn_blocking(job)),
            Work::Compute => self.threads.run(kind, job),
        }
    }

    fn poll_inside(&self, poll: &mut dyn FnMut()) {
        let handle = self.handle();
        let _entered = handle.enter();
        poll();
    }

    fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::default();
        for metrics in self.handles.iter().map(Handle::metrics) {
            stats.workers += metrics.num_workers();
            // Tokio counts only the polls of its reactor for which a worker parks.
            stats.turns += (0..metrics.num_workers()).map(|n| metrics.worker_park_count(n)).sum::<u64>();
        }
        stats
    }
}

/// Waits until `until` on a runtime that runs as long as the process, on a separate thread. It starts at first use:
/// when a server has ended, and a thread of the program still waits for a time.
async fn outlive(until: Instant) {
    static SUCCESSOR: OnceLock<Option<Handle>> = OnceLock::new();
    let successor = SUCCESSOR.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_time().build().ok()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(pending::<()>());
        thread::Builder::new().name("timers".into()).spawn(run).ok()?;
        Some(handle)
    });
    let timer = successor.as_ref().map(|handle| {
        let _entered = handle.enter();
        sleep_until(until.into())
    });
    match timer {
        Some(timer) => timer.await,
        // The system has no resources for the runtime.
        None => thread::sleep(until.saturating_duration_since(Instant::now())),
    }
}
