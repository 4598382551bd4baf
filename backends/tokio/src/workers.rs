//! The threads of this backend: those of one work-stealing runtime, or one thread with a runtime per core.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gearshift_core::{Config, Engine, Latch, Listener, Server, Service, Threads, Workers, latch};
use tokio::runtime::{Builder, Runtime};

use crate::NAME;
use crate::accept::{Load, Target, accept};
use crate::runtime::TokioEngine;

/// The blocking threads of a runtime beyond `Config::blocking_threads`. The core limits its own jobs to the setting
/// before it passes them to the runtime, except for the jobs that run while others wait ([`Engine::offload`]). Tokio
/// itself and libraries also use these threads, for files and name lookups.
const SPARE_BLOCKING_THREADS: usize = 512;

/// The threads that run connections, tasks and handlers. A thread that a handler holds at the stop is left behind.
pub(crate) struct TokioWorkers {
    /// One for each runtime. Never empty.
    targets: Vec<Target>,
    /// The work-stealing runtime, which owns its threads. `None` if `threads` run the runtimes.
    stealing: Option<Runtime>,
    /// The threads with a runtime each.
    threads: Threads,
    /// The latch of `running`.
    latch: Latch,
    /// Dropping it ends `threads`.
    running: latch::Guard,
    /// Set before the runtimes end.
    has_stopped: Arc<AtomicBool>,
    config: Config,
}

/// Builds a runtime with all drivers. If another crate enables tokio's feature `signal`, tokio panics where the system
/// refuses a socket for it.
///
/// # Errors
/// The system refuses a resource.
fn build(builder: &mut Builder) -> io::Result<Runtime> {
    let built = catch_unwind(AssertUnwindSafe(|| builder.enable_all().build()));
    built.unwrap_or_else(|_| Err(io::Error::other("a runtime of tokio could not be built")))
}

impl TokioWorkers {
    /// Starts one runtime with `Config::workers` threads, one per core by default.
    ///
    /// # Errors
    /// The system refuses a thread or a reactor.
    pub(crate) fn stealing(server: &Server) -> io::Result<TokioWorkers> {
        let config = server.config();
        let number = AtomicUsize::new(0);
        let runtime = build(
            Builder::new_multi_thread()
                .worker_threads(config.workers_or_cores())
                .max_blocking_threads(config.blocking_threads.saturating_add(SPARE_BLOCKING_THREADS))
                .thread_name_fn(move || format!("{NAME}-{}", number.fetch_add(1, Ordering::Relaxed))),
        )?;
        let mut workers = TokioWorkers::new(server, &Latch::new());
        workers.targets.push(Target { handle: runtime.handle().clone(), load: Load::default() });
        workers.stealing = Some(runtime);
        Ok(workers)
    }

    /// Starts `Config::workers` threads with a runtime each, one per core by default.
    ///
    /// # Errors
    /// The system refuses a thread or a reactor.
    pub(crate) fn per_core(server: &Server) -> io::Result<TokioWorkers> {
        let config = server.config();
        let latch = Latch::new();
        let mut workers = TokioWorkers::new(server, &latch);
        for number in 0..config.workers_or_cores() {
            let load = Load::default();
            load.add();
            let (parks, unparks) = (load.clone(), load.clone());
            let runtime = build(
                Builder::new_current_thread()
                    .max_blocking_threads(config.blocking_threads.saturating_add(SPARE_BLOCKING_THREADS))
                    .thread_name("tokio-blocking")
                    .on_thread_park(move || parks.remove())
                    .on_thread_unpark(move || unparks.add()),
            )?;
            workers.targets.push(Target { handle: runtime.handle().clone(), load });
            let running = latch.clone();
            workers.threads.spawn(format!("{NAME}-{number}"), move || {
                runtime.block_on(running.released());
                runtime.shutdown_background();
                Ok(())
            })?;
        }
        Ok(workers)
    }

    fn new(server: &Server, latch: &Latch) -> TokioWorkers {
        TokioWorkers {
            targets: Vec::new(),
            stealing: None,
            threads: Threads::new(server),
            latch: latch.clone(),
            running: latch.guard(),
            has_stopped: Arc::default(),
            config: server.config().clone(),
        }
    }
}

impl TokioWorkers {
    /// Accepts from listeners whose queue all runtimes share, on one more thread, because tokio registers a listener so
    /// that each connection wakes every runtime that waits for it. A connection goes to the runtime with the fewest
    /// connections that it has not begun, and of these to an idle one. So a runtime that a handler holds gets one only
    /// if no other is idle.
    fn accept_for_all(
        &self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        if listeners.is_empty() {
            return Ok(());
        }
        let runtime = build(&mut Builder::new_current_thread())?;
        let entered = runtime.enter();
        for listener in listeners {
            runtime.spawn(accept(listener, self.targets.clone(), service, accepting)?);
        }
        drop(entered);
        let running = self.latch.clone();
        self.threads.spawn(format!("{NAME}-accept"), move || {
            runtime.block_on(running.released());
            Ok(())
        })
    }
}

impl Workers for TokioWorkers {
    fn engine(&self) -> impl Engine {
        TokioEngine {
            handles: self.targets.iter().map(|target| target.handle.clone()).collect(),
            next: AtomicUsize::new(0),
            has_stopped: self.has_stopped.clone(),
            threads: self.threads.offload(&self.config),
        }
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let mut shares = Listener::share(listeners, self.targets.len())?;
        let shared = shares[0].extract_if(.., |listener| listener.is_shared()).collect();
        self.accept_for_all(shared, service, accepting)?;
        for (target, share) in self.targets.iter().zip(shares) {
            let _entered = target.handle.enter();
            for listener in share.into_iter().filter(|listener| !listener.is_shared()) {
                tokio::spawn(accept(listener, Vec::new(), service, accepting)?);
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        self.has_stopped.store(true, Ordering::Release);
        drop(self.running);
        self.stealing.into_iter().for_each(Runtime::shutdown_background);
        self.threads.join()
    }
}
