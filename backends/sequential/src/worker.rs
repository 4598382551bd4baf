//! The worker: the thread that serves requests, its queue of ready connections, and its wait in the reactor.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

#[cfg(not(gearshift_model))]
use crossbeam_queue::SegQueue;
use gearshift_core::Service;
use gearshift_core::clock::{AtomicCoarseInstant, CoarseInstant};
use gearshift_core::park::{self, Park};
use gearshift_core::sync::atomic::{AtomicBool, Ordering};
#[cfg(gearshift_model)]
use gearshift_core::sync::model::SegQueue;
use gearshift_core::sync::thread::{self, ThreadId};
use gearshift_core::sync::thread_local;
use gearshift_reactor::{Handle, Reactor, Schedule, Task};

/// Maximum number of connections that run between two turns of the reactor.
const MAX_RUNS_PER_TURN: usize = 64;
/// Age of the last turn from which the worker turns the reactor before it runs a connection. The turn reports a peer
/// that has left, so that its request is not begun.
const MAX_TURN_AGE: Duration = Duration::from_millis(10);
/// Pause after an error of the reactor during the wait of a handler.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    /// The reactor of this thread. It is borrowed during a turn.
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// See the [module](self).
pub(crate) struct Worker {
    handle: Handle,
    ready: SegQueue<Arc<Task>>,
    /// Whether the wait of the thread has to end. A wake-up of the current task, a ready task and a stop set it.
    is_woken: AtomicBool,
    is_stopped: AtomicBool,
    /// Time of the last turn of the reactor, also of one during a handler's wait.
    turned_at: AtomicCoarseInstant,
    /// The thread that runs [`Worker::run`].
    thread: OnceLock<ThreadId>,
    /// The service of the connections, set before the first connection. The service owns this worker through its
    /// runtime.
    service: OnceLock<Weak<Service>>,
}

impl Worker {
    /// Creates a worker that waits in the reactor of `handle`.
    pub(crate) fn new(handle: &Handle) -> Arc<Worker> {
        Arc::new(Worker {
            handle: handle.clone(),
            ready: SegQueue::new(),
            is_woken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            turned_at: AtomicCoarseInstant::new(CoarseInstant::now()),
            thread: OnceLock::new(),
            service: OnceLock::new(),
        })
    }

    /// The handle of the worker's reactor.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The queue of the worker.
    pub(crate) fn schedule(self: &Arc<Worker>) -> Arc<dyn Schedule> {
        self.clone()
    }

    /// The number of queued tasks.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether the calling thread is the worker's thread.
    pub(crate) fn is_here(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    /// Sets the service of the connections.
    pub(crate) fn serve(&self, service: &Arc<Service>) {
        let _ = self.service.set(Arc::downgrade(service));
    }

    /// Makes [`Worker::run`] return.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        Park::unpark(self);
    }

    /// Serves ready connections on the calling thread until [`Worker::stop`].
    ///
    /// # Errors
    /// The reactor fails.
    pub(crate) fn run(self: Arc<Worker>, reactor: Reactor) -> io::Result<()> {
        let _ = self.thread.set(thread::current().id());
        let _role = park::enter_worker(self.clone());
        REACTOR.with(|current| current.replace(Some(reactor)));
        let ended = self.serve_ready();
        drop(REACTOR.with(RefCell::take));
        // The tasks hold their queue, which is the worker.
        while self.ready.pop().is_some() {}
        ended
    }

    /// Runs ready tasks and turns of the reactor in alternation.
    fn serve_ready(&self) -> io::Result<()> {
        while !self.is_stopped.load(Ordering::SeqCst) {
            for _ in 0..MAX_RUNS_PER_TURN {
                let Some(task) = self.ready.pop() else { break };
                if self.is_turn_old() {
                    self.turn(Some(Duration::ZERO), || true)?;
                }
                task.run(0, self);
            }
            // Without a recent turn, the reactor may hold events of connections that wait for the thread.
            if !self.ready.is_empty() || self.is_turn_old() {
                self.turn(Some(Duration::ZERO), || true)?;
            } else {
                self.found_idle();
                self.wait()?;
                self.found_idle();
            }
        }
        Ok(())
    }

    fn is_turn_old(&self) -> bool {
        self.turned_at.get().elapsed() >= MAX_TURN_AGE
    }

    /// Tells the service that no connection waits for the thread.
    fn found_idle(&self) {
        self.service.get().and_then(Weak::upgrade).into_iter().for_each(|service| service.found_idle());
    }

    /// Waits in the reactor. Returns at once if `is_woken` was set since the last wait.
    fn wait(&self) -> io::Result<()> {
        let is_woken = || self.is_woken.load(Ordering::SeqCst);
        self.turn(is_woken().then_some(Duration::ZERO), is_woken)?;
        // Not a plain store: the caller must see what precedes a wake-up that found the flag set.
        self.is_woken.swap(false, Ordering::SeqCst);
        Ok(())
    }

    /// Runs one turn of the reactor of this thread, which lasts at most `timeout`. It does not wait if `is_awake`
    /// returns true after the wait was announced to the threads that wake the worker.
    fn turn(&self, timeout: Option<Duration>, is_awake: impl FnOnce() -> bool) -> io::Result<()> {
        let turned = REACTOR.with(|reactor| match &mut *reactor.borrow_mut() {
            Some(reactor) => reactor.turn_unless(timeout, is_awake).map(drop),
            None => Ok(()),
        });
        self.turned_at.set(CoarseInstant::now());
        turned
    }
}

impl Schedule for Worker {
    fn push(&self, task: Arc<Task>) {
        self.ready.push(task);
        Park::unpark(self);
    }

    fn push_back(&self, task: Arc<Task>) {
        self.ready.push(task);
    }

    fn unpark(&self, _: usize) {
        Park::unpark(self);
    }
}

impl Park for Worker {
    /// Waits on behalf of a handler. Its timers and sockets are in the reactor of this thread.
    fn park(&self) {
        if let Err(error) = self.wait() {
            log::error!("the reactor failed while a handler waited: {error}");
            thread::sleep(RETRY_PAUSE);
        }
    }

    fn unpark(&self) {
        let was_woken = self.is_woken.swap(true, Ordering::SeqCst);
        if !was_woken && !self.is_here() {
            self.handle.wake();
        }
    }
}
