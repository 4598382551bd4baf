//! The threads that run connections: those of one work-stealing runtime, or one with a runtime of its own for
//! each core.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use gearshift_core::{Config, Engine, Latch, Listener, Service, Workers, lifecycle};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::accept::Acceptor;
use crate::runtime::TokioEngine;

/// Blocking threads that a runtime may have at least. It may be asked for them by others than us: its own files, name
/// look-ups, libraries. How many of ours there are at once is decided before they get there.
const OTHERS: usize = 512;

/// Threads that run connections, tasks and handlers. They end, or are left behind, when this is dropped.
pub(crate) struct TokioWorkers {
    threads: Threads,
    config: Config,
}

enum Threads {
    /// One runtime with all threads; `None` once it was told to end.
    Stealing(Option<Runtime>),
    /// A thread for each.
    PerCore(Vec<Core>),
}

impl TokioWorkers {
    /// Starts `n` threads that share all work.
    pub(crate) fn stealing(config: &Config) -> io::Result<TokioWorkers> {
        let number = std::sync::atomic::AtomicUsize::new(0);
        let name = move || format!("tokio-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.workers_or_cores())
            .max_blocking_threads(config.blocking_threads.max(OTHERS))
            .thread_name_fn(name)
            .enable_all()
            .build()?;
        Ok(TokioWorkers { threads: Threads::Stealing(Some(runtime)), config: config.clone() })
    }

    /// Starts `n` threads that share nothing.
    pub(crate) fn per_core(config: &Config) -> io::Result<TokioWorkers> {
        let cores = (0..config.workers_or_cores()).map(|number| Core::start(number, config.blocking_threads));
        let cores = cores.collect::<io::Result<_>>()?;
        Ok(TokioWorkers { threads: Threads::PerCore(cores), config: config.clone() })
    }

    /// One handle for each runtime.
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
                    // An error says that the thread has ended, for it drops its side then.
                    if thread.recv_timeout(lifecycle::LAST_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                        log::warn!("a worker is stuck in a handler that blocks, and is left behind");
                    }
                }
            }
        }
    }
}

/// A thread with a runtime.
pub(crate) struct Core {
    handle: Handle,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
    /// Disconnected once the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Core {
    fn start(number: usize, blocking: usize) -> io::Result<Core> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(blocking.max(OTHERS))
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
