//! Starting the threads of a server: each inside the wrapper of the configuration, counted, and with its failure kept.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::runtime::latch::Latch;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::lock;
use crate::runtime::thread_wrapper::{ThreadWrapper, run_in};

/// Starts the threads of one server. Clones start threads of the same server.
#[derive(Clone)]
pub(crate) struct Starter {
    running: Latch,
    failure: Arc<Mutex<Option<io::Error>>>,
    shutdown: Shutdown,
    wrapper: Option<Arc<dyn ThreadWrapper>>,
    /// What ends the threads that wait for jobs.
    ends: Arc<Mutex<Vec<Box<dyn FnOnce() + Send>>>>,
}

impl Starter {
    /// A thread that fails stops the server of `shutdown` by force.
    pub(crate) fn new(shutdown: Shutdown, wrapper: Option<Arc<dyn ThreadWrapper>>) -> Starter {
        Starter { running: Latch::new(), failure: Arc::default(), shutdown, wrapper, ends: Arc::default() }
    }

    /// Starts a thread that runs `run`. The thread fails if `run` returns an error or panics, or if the wrapper does not
    /// call it.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn spawn(
        &self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (failure, shutdown, wrapper) =
            (self.failure.clone(), self.shutdown.clone(), self.wrapper.clone());
        let running = self.running.guard();
        let mut builder = thread::Builder::new().name(name);
        if let Some(size) = wrapper.as_deref().and_then(ThreadWrapper::stack_size) {
            builder = builder.stack_size(size);
        }
        builder.spawn(move || {
            let _running = running;
            let ended = catch_unwind(AssertUnwindSafe(|| run_in(wrapper.as_deref(), run)));
            if let Err(error) = ended.unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked"))) {
                *lock(&failure) = Some(error);
                shutdown.force();
            }
        })?;
        Ok(())
    }

    /// Makes the threads end that wait for jobs. Waits until all threads have ended.
    pub(crate) async fn ended(&self) {
        let ends = std::mem::take(&mut *lock(&self.ends));
        ends.into_iter().for_each(|end| end());
        self.running.released().await;
    }

    /// The error of the last thread that has failed.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }
}

#[cfg(feature = "pools")]
impl Starter {
    /// Whether threads run inside a wrapper.
    pub(crate) fn has_wrapper(&self) -> bool {
        self.wrapper.is_some()
    }

    /// Adds a function that ends threads.
    pub(crate) fn add_end(&self, end: impl FnOnce() + Send + 'static) {
        lock(&self.ends).push(Box::new(end));
    }
}
