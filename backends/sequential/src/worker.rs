//! The thread that serves requests: its queue of connections that are ready, and its waits.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use gearshift_core::Service;
use gearshift_core::clock::CoarseInstant;
use gearshift_core::park::{self, Park};
use gearshift_reactor::{Handle, Reactor, Schedule, Task};

/// Connections that have their turn before the reactor is asked for news.
const A_ROUND: usize = 64;
/// How long a handler may take before the reactor is asked for news at once, so that the next connection is known to
/// have been closed.
const LONG: Duration = Duration::from_millis(10);

thread_local! {
    /// The reactor of this thread, while no turn of it goes on.
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// See the [module](self).
pub(crate) struct Worker {
    handle: Handle,
    ready: SegQueue<Arc<Task>>,
    /// Set by whatever ends the wait of the thread: a wake-up of its task, a task that is ready, a stop.
    is_woken: AtomicBool,
    is_stopped: AtomicBool,
    thread: OnceLock<ThreadId>,
    service: OnceLock<Arc<Service>>,
}

impl Worker {
    /// The worker that waits in the reactor of `handle`.
    pub(crate) fn new(handle: &Handle) -> Arc<Worker> {
        Arc::new(Worker {
            handle: handle.clone(),
            ready: SegQueue::new(),
            is_woken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
            service: OnceLock::new(),
        })
    }

    /// The reactor of the thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The queue of the thread.
    pub(crate) fn schedule(self: &Arc<Worker>) -> Arc<dyn Schedule> {
        self.clone()
    }

    /// The number of connections that wait for the thread.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether the calling thread is the worker.
    pub(crate) fn is_here(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    /// Tells the worker whose connections it drives.
    pub(crate) fn serve(&self, service: &Arc<Service>) {
        let _ = self.service.set(service.clone());
    }

    /// Has the thread end.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.unpark();
    }

    /// What the thread does, until it is told to stop.
    pub(crate) fn run(self: Arc<Worker>, reactor: Reactor) -> io::Result<()> {
        let _ = self.thread.set(thread::current().id());
        let _role = park::enter_worker(self.clone());
        REACTOR.set(Some(reactor));
        let ended = self.serve_ready();
        drop(REACTOR.take());
        while self.ready.pop().is_some() {}
        ended
    }

    fn serve_ready(&self) -> io::Result<()> {
        while !self.is_stopped.load(Ordering::SeqCst) {
            let mut asked = CoarseInstant::now();
            for _ in 0..A_ROUND {
                let Some(task) = self.ready.pop() else { break };
                if asked.elapsed() >= LONG {
                    turn(Some(Duration::ZERO), || true)?;
                    asked = CoarseInstant::now();
                }
                task.run(0, self);
            }
            if self.ready.is_empty() {
                self.found_idle();
                self.wait()?;
                self.found_idle();
            } else {
                turn(Some(Duration::ZERO), || true)?;
            }
        }
        Ok(())
    }

    /// Nothing waits for the thread.
    fn found_idle(&self) {
        self.service.get().into_iter().for_each(|service| service.found_idle());
    }

    /// Waits in the reactor, unless something ended the wait since the last one.
    fn wait(&self) -> io::Result<()> {
        let is_woken = || self.is_woken.load(Ordering::SeqCst);
        turn(is_woken().then_some(Duration::ZERO), is_woken)?;
        self.is_woken.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// One turn of the reactor of this thread.
fn turn(timeout: Option<Duration>, is_awake: impl FnOnce() -> bool) -> io::Result<()> {
    REACTOR.with_borrow_mut(|reactor| match reactor {
        Some(reactor) => reactor.turn_unless(timeout, is_awake).map(drop),
        None => Ok(()),
    })
}

impl Schedule for Worker {
    fn push(&self, task: Arc<Task>) {
        self.ready.push(task);
        self.unpark();
    }

    fn push_back(&self, task: Arc<Task>) {
        self.ready.push(task);
    }

    fn unpark(&self, _: usize) {
        Park::unpark(self);
    }
}

impl Park for Worker {
    /// A handler waits: for its timers and sockets, which are those of this thread, or for another thread.
    fn park(&self) {
        if let Err(error) = self.wait() {
            log::error!("the reactor failed while a handler waited: {error}");
            thread::sleep(LONG);
        }
    }

    fn unpark(&self) {
        let was_woken = self.is_woken.swap(true, Ordering::SeqCst);
        if !was_woken && !self.is_here() {
            self.handle.wake();
        }
    }
}

impl Worker {
    fn unpark(&self) {
        Park::unpark(self);
    }
}
