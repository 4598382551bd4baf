//! The sequential backend of gearshift: one thread runs all requests, one after another.
//!
//! # Model
//! One thread has one reactor. The thread takes the next connection that is ready and drives it until the connection is
//! pending. If the connection is pending because of its handler, the thread stays with it: the thread waits in the
//! reactor for the events of the handler, and queues the other connections that become ready. Handlers therefore never
//! overlap. A lock that only handlers take is never contended, and a handler sees the complete effects of the handlers
//! before it. The model suits command line tools and tests.
//!
//! Background tasks run on a second thread, which serves no requests.
//!
//! # Cost
//! A request costs one `recv`, one `send` and its share of one `epoll_wait` for all connections that became ready
//! together. It costs no thread, no timer and no registration. A connection costs one task and one slot in the
//! reactor. The waits inside one handler overlap: ten joined calls of 50 ms each take 50 ms.
//!
//! # When it stalls
//! The server stalls while a handler runs: a handler of 50 ms delays every other request by 50 ms, whether it waits,
//! blocks or computes. So does a response whose body holds the thread
//! ([`Body::holding_thread`](gearshift_core::Body::holding_thread)), until the peer has received it. Nothing else holds
//! the thread. It is free during an idle connection, a slow head, a slow body of up to
//! [`Config::body_buffer`](gearshift_core::Config::body_buffer) bytes, a peer that receives another response slowly, a
//! stream whose next piece is pending, and an upgraded connection that waits.

#[cfg(all(test, gearshift_model))]
mod model_checks;
mod runtime;
mod worker;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    lifecycle,
};
use gearshift_reactor::{Background, Handle, Reactor, Task};

use crate::runtime::SequentialEngine;
use crate::worker::Worker;

const NAME: &str = "sequential";

/// The sequential backend; see the [crate](self).
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
            (Some(workers), _) if workers != 1 => {
                format!("needs 1 worker, not {workers} (--workers, WEB_CONCURRENCY)")
            }
            (_, Some(threads)) => format!("has one thread, so --threads {threads} cannot be set"),
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
        let threads = Threads::new(server);
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
        let offload = self.threads.offload(&self.config);
        SequentialEngine::new(&self.worker, &self.background, &self.background_handle, offload)
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        self.worker.serve(service);
        Task::accept(self.worker.handle(), listeners, service, accepting, &self.worker.schedule())
    }

    fn stop(self) -> io::Result<()> {
        self.worker.stop();
        self.background.stop();
        self.threads.join()
    }
}
