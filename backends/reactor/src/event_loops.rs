//! A server of event loops: threads that wait in a reactor each and run tasks, and what an application asks of them.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gearshift_core::threads::OffloadThreads;
use gearshift_core::{
    BoxFuture, Driving, Endpoint, Engine, EngineStats, Job, Latch, Listener, Server, Service, Stream,
    Threads, Work, Workers, latch,
};

use crate::accept::accept;
use crate::handle::Handle;
use crate::reactor::Reactor;
use crate::transport::ReactorTransport;

thread_local! {
    /// The reactor of the event loop that this thread runs.
    static CURRENT: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// The executor of one event loop, as other threads see it.
pub trait EventLoop: Clone + Send + Sync + 'static {
    /// The number of threads that run its tasks.
    fn workers(&self) -> usize {
        1
    }

    /// Runs a task. The task is dropped if the loop has ended.
    fn spawn(&self, task: BoxFuture<()>);

    /// Runs a connection that was accepted on this loop.
    fn drive(&self, connection: Driving<ReactorTransport>) {
        self.spawn(Box::pin(connection));
    }
}

/// The event loops of one server.
pub struct EventLoops<L> {
    loops: Arc<Loops<L>>,
    /// Dropping it ends the loops.
    running: latch::Guard,
    threads: Threads,
}

/// The event loops as the application sees them.
struct Loops<L> {
    backend: &'static str,
    all: Vec<(Handle, L)>,
    next: AtomicUsize,
    offload: OffloadThreads,
}

impl<L: EventLoop> EventLoops<L> {
    /// Starts `n` event loops of the backend with this name, at least one. For each, `new` gets the handle of its
    /// reactor and a latch. It returns the executor, and the function that the thread calls with the reactor. That
    /// function returns once the latch is released, or with an error of the system.
    ///
    /// # Errors
    /// The system refuses a reactor or a thread.
    pub fn start<R>(
        server: &Server,
        backend: &'static str,
        n: usize,
        new: impl Fn(&Handle, &Latch) -> (L, R),
    ) -> io::Result<EventLoops<L>>
    where
        R: FnOnce(Reactor) -> io::Result<()> + Send + 'static,
    {
        let config = server.config();
        let (threads, latch) = (Threads::new(server), Latch::new());
        let running = latch.guard();
        let mut all = Vec::with_capacity(n);
        for number in 0..n {
            let reactor = Reactor::new(config.shortest_timeout())?;
            let (executor, run) = new(reactor.handle(), &latch);
            all.push((reactor.handle().clone(), executor));
            threads.spawn(format!("{backend}-{number}"), move || {
                CURRENT.set(Some(reactor.handle().clone()));
                run(reactor)
            })?;
        }
        let (next, offload) = (AtomicUsize::new(0), threads.offload(config));
        Ok(EventLoops { loops: Arc::new(Loops { backend, all, next, offload }), running, threads })
    }
}

impl<L: EventLoop> Workers for EventLoops<L> {
    fn engine(&self) -> impl Engine {
        LoopsEngine(self.loops.clone())
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        let all = &self.loops.all;
        for ((handle, executor), share) in all.iter().zip(Listener::share(listeners, all.len())?) {
            for listener in share {
                let home = executor.clone();
                let begin = move |driving| home.drive(driving);
                executor.spawn(Box::pin(accept(handle, listener, service, accepting, begin)?));
            }
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        drop(self.running);
        // A thread may look at the latch only between two turns.
        self.loops.all.iter().for_each(|(handle, _)| handle.wake());
        self.threads.join()
    }
}

/// The engine of a server's event loops.
struct LoopsEngine<L>(Arc<Loops<L>>);

impl<L: EventLoop> LoopsEngine<L> {
    /// The loop that the calling thread runs, if it is a loop of this server. Otherwise the next loop in turn.
    fn home(&self) -> &(Handle, L) {
        let Loops { all, next, .. } = &*self.0;
        let current = CURRENT.with_borrow(|current| {
            current
                .as_ref()
                .and_then(|current| all.iter().find(|(handle, _)| Arc::ptr_eq(&handle.0, &current.0)))
        });
        current.unwrap_or_else(|| &all[next.fetch_add(1, Ordering::Relaxed) % all.len()])
    }
}

impl<L: EventLoop> Engine for LoopsEngine<L> {
    fn backend(&self) -> &'static str {
        self.0.backend
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.home().0.sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.home().0.clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.home().1.spawn(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        self.0.offload.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        let all = &self.0.all;
        let workers = all.iter().map(|(_, executor)| executor.workers()).sum();
        EngineStats { workers, waiting: 0, turns: all.iter().map(|(handle, _)| handle.turns()).sum() }
    }
}
