//! The threads of this backend: those of one work-stealing runtime, or one thread with a runtime per core.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use gearshift_core::{Config, Engine, Latch, Listener, Service, Workers, lifecycle};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::accept::Acceptor;
use crate::runtime::TokioEngine;

/// Minimum limit for the blocking threads of a runtime. Tokio itself and libraries also use these threads, for files
/// and name lookups. The core limits its own jobs to `Config::blocking_threads` before it passes them to the runtime.
const MIN_BLOCKING_THREADS: usize = 512;

/// The threads that run connections, tasks and handlers. Dropping the value ends them. A thread that a handler holds is
/// left behind.
pub(crate) struct TokioWorkers {
    threads: Threads,
    config: Config,
}

enum Threads {
    /// One runtime with all threads; `None` during the drop.
    Stealing(Option<Runtime>),
    /// One runtime for each thread.
    PerCore(Vec<Core>),
}

impl TokioWorkers {
    /// Starts one runtime with `Config::workers` threads, one per core by default.
    ///
    /// # Errors
    /// The system refuses a thread or a reactor.
    pub(crate) fn stealing(config: &Config) -> io::Result<TokioWorkers> {
        let number = std::sync::atomic::AtomicUsize::new(0);
        let name = move || format!("tokio-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.workers_or_cores())
            .max_blocking_threads(config.blocking_threads.max(MIN_BLOCKING_THREADS))
            .thread_name_fn(name)
            .enable_all()
            .build()?;
        Ok(TokioWorkers { threads: Threads::Stealing(Some(runtime)), config: config.clone() })
    }

    /// Starts `Config::workers` threads with a runtime each, one per core by default.
    ///
    /// # Errors
    /// The system refuses a thread or a reactor.
    pub(crate) fn per_core(config: &Config) -> io::Result<TokioWorkers> {
        let cores = (0..config.workers_or_cores()).map(|number| Core::start(number, config.blocking_threads));
        let cores = cores.collect::<io::Result<_>>()?;
        Ok(TokioWorkers { threads: Threads::PerCore(cores), config: config.clone() })
    }

    /// A handle to each runtime.
    fn handles(&self) -> Vec<Handle> {
        match &self.threads {
            Threads::Stealing(runtime) => runtime.iter().map(|runtime| runtime.handle().clone()).collect(),
            Threads::PerCore(cores) => cores.iter().map(|core| core.handle.clone()).collect(),
        }
    }
}

impl Workers for TokioWorkers {
    fn engine(&self) -> impl Engine {
        TokioEngine::new(self.handles(), &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let handles = self.handles();
        for (share, handle) in Listener::share(listeners, handles.len())?.into_iter().zip(handles) {
            let _entered = handle.enter();
            for listener in share {
                let (acceptor, guard) = (Acceptor::new(listener, service.clone())?, accepting.guard());
                tokio::spawn(async move {
                    let _guard = guard;
                    acceptor.run().await;
                });
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TokioWorkers {
    fn drop(&mut self) {
        match &mut self.threads {
            Threads::Stealing(runtime) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
            Threads::PerCore(cores) => {
                let ended: Vec<_> = cores.drain(..).map(|core| core.ended).collect();
                for thread in ended {
                    // `Disconnected` means that the thread has ended and has dropped its sender.
                    if thread.recv_timeout(lifecycle::LAST_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                        log::warn!("a worker is stuck in a handler that blocks, and is left behind");
                    }
                }
            }
        }
    }
}

/// A thread with its own runtime.
struct Core {
    handle: Handle,
    /// Dropping the sender ends the thread.
    _end: oneshot::Sender<()>,
    /// A channel that is disconnected once the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Core {
    /// Starts the thread. `blocking_threads` is the maximum number of its blocking threads, if that is more than
    /// [`MIN_BLOCKING_THREADS`].
    fn start(number: usize, blocking_threads: usize) -> io::Result<Core> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(blocking_threads.max(MIN_BLOCKING_THREADS))
            .thread_name("tokio-blocking")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, told_to_end) = oneshot::channel::<()>();
        let (ending, ended) = mpsc::sync_channel::<()>(0);
        thread::Builder::new().name(format!("tokio-{number}")).spawn(move || {
            let _ = runtime.block_on(told_to_end);
            runtime.shutdown_background();
            drop(ending);
        })?;
        Ok(Core { handle, _end: end, ended })
    }
}
