//! gearshift on one thread: requests run strictly one after another.
//!
//! # Model
//! One thread with one reactor. It takes the next connection that is ready and drives it until nothing is left to do
//! for it. While a handler is at work, the thread stays with its connection: it waits in the reactor for whatever the
//! handler waits for, and notes which other connections become ready. So handlers never overlap, need no locks among
//! each other, and see each other's work complete. This is the model of a command line tool, of a test, and of code
//! that cannot be shared between threads.
//!
//! Background tasks run on a second thread, which serves no requests.
//!
//! # Cost
//! A request costs one `recv`, one `send` and its share of one `epoll_wait` for all connections that became ready
//! together. It costs no thread, no timer and no registration. A connection costs one task and one slot in the
//! reactor. The waits of one handler overlap: ten calls of 50 ms that are joined take 50 ms.
//!
//! # When it stalls
//! Whenever a handler takes time: a request of 50 ms delays every other request by 50 ms, whether it waits, blocks or
//! computes. Nothing else holds the thread: not an idle connection, not a slow head, not a body of up to
//! [`Config::body_buffer`](gearshift_core::Config::body_buffer) bytes that dribbles in, not a peer that is slow to take
//! a response, not a stream whose next piece is not ready, not an upgraded connection.

mod runtime;
mod worker;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    lifecycle,
};
use gearshift_reactor::{Background, Handle, Reactor, Task, accept};

use crate::runtime::SequentialEngine;
use crate::worker::Worker;

const NAME: &str = "sequential";

/// One thread; see the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Backend for Sequential {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "one thread: requests run strictly one after another"
    }

    fn threads_block(&self) -> bool {
        true
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        let reason = match (config.workers, config.threads) {
            (Some(workers), _) if workers != 1 => format!("has one worker, not {workers}"),
            (_, Some(threads)) => format!("has one thread and takes no number of threads, such as {threads}"),
            _ => return Ok(()),
        };
        Err(ServeError::Setting { backend: NAME, reason })
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = SequentialWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The thread that serves requests, and the thread that runs background tasks.
struct SequentialWorkers {
    worker: Arc<Worker>,
    background: Background,
    background_handle: Handle,
    threads: Threads,
    config: Config,
}

impl SequentialWorkers {
    fn start(server: &Server) -> io::Result<SequentialWorkers> {
        let config = server.config().clone();
        let threads = Threads::new(server.shutdown());
        let reactor = Reactor::new(config.shortest_timeout())?;
        let mut background_reactor = Reactor::new(config.shortest_timeout())?;
        let background_handle = background_reactor.handle().clone();
        reactor.handle().move_streams_to(&background_handle);

        let worker = Worker::new(reactor.handle());
        let running = worker.clone();
        threads.spawn(format!("{NAME}-0"), move || running.run(reactor))?;
        let background = Background::start(&threads, move |tasks| background_reactor.block_on(tasks))?;
        Ok(SequentialWorkers { worker, background, background_handle, threads, config })
    }
}

impl Workers for SequentialWorkers {
    fn engine(&self) -> impl Engine {
        SequentialEngine::new(&self.worker, &self.background, &self.background_handle, &self.config)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        self.worker.serve(service);
        let schedule = self.worker.schedule();
        for listener in listeners {
            let connections = schedule.clone();
            let begin = move |driving| Task::connection(driving, &connections);
            Task::acceptor(accept(self.worker.handle(), listener, service, accepting, begin)?, &schedule);
        }
        Ok(())
    }

    fn stop(self) -> io::Result<()> {
        self.worker.stop();
        self.background.stop();
        self.threads.join()
    }
}
