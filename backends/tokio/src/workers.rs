//! The threads that run connections: those of one work-stealing runtime, or one with a runtime of its own for
//! each core.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// How long threads get to end once they were told to; a handler that blocks in place may take for ever.
const ENDING: Duration = Duration::from_secs(1);

/// Blocking threads that a runtime may have at least. It may be asked for them by others than us: its own files, name
/// look-ups, libraries. How many of ours there are at once is decided before they get there.
const OTHERS: usize = 512;

/// Worker threads; they end, or are left behind, when this is dropped.
pub(crate) enum Workers {
    /// One runtime with all threads; `None` once it was told to end.
    Stealing(Option<Runtime>),
    /// A thread for each.
    PerCore(Vec<Core>),
}

impl Workers {
    /// Starts `n` threads that share all work.
    pub(crate) fn stealing(n: usize, blocking: usize) -> io::Result<Workers> {
        let number = std::sync::atomic::AtomicUsize::new(0);
        let name = move || format!("tokio-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let runtime = Builder::new_multi_thread()
            .worker_threads(n)
            .max_blocking_threads(blocking.max(OTHERS))
            .thread_name_fn(name)
            .enable_all()
            .build()?;
        Ok(Workers::Stealing(Some(runtime)))
    }

    /// Starts `n` threads that share nothing.
    pub(crate) fn per_core(n: usize, blocking: usize) -> io::Result<Workers> {
        (0..n).map(|number| Core::start(number, blocking)).collect::<io::Result<_>>().map(Workers::PerCore)
    }

    /// One handle for each runtime.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        match self {
            Workers::Stealing(runtime) => runtime.iter().map(|runtime| runtime.handle().clone()).collect(),
            Workers::PerCore(cores) => cores.iter().map(|core| core.handle.clone()).collect(),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        match self {
            Workers::Stealing(runtime) => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
            Workers::PerCore(cores) => {
                let ended: Vec<_> = cores.drain(..).map(|core| core.ended).collect();
                for thread in ended {
                    // An error says that the thread has ended, for it drops its side then.
                    if thread.recv_timeout(ENDING) == Err(mpsc::RecvTimeoutError::Timeout) {
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
