//! The thread pool backend of gearshift: each running request has a thread, an idle connection has none.
//!
//! # Model
//! N threads ([`Config::threads`], 16 per core by default) share one reactor and one list of ready connections. A free
//! thread waits in the reactor itself and drives the connections that become ready, so no poller thread passes
//! connections to workers. A thread stays with a connection while its handler runs. A handler may therefore block,
//! compute or wait, and the scheduler of the system shares the cores. Handlers never overlap on one thread.
//!
//! Background tasks run on one more thread. While handlers hold all workers, that thread also watches the reactor.
//!
//! The threads and the list are in `pool.rs`. The rule by which a handler keeps its thread is
//! [`Task::run`](gearshift_reactor::Task::run).
//!
//! # Cost
//! A request costs one `recv`, one `send` and its share of an `epoll_wait`. When several connections become ready at
//! once, a parked thread is woken for them, unless their requests are quick. An idle connection costs one task and one
//! slot in the reactor. A thread costs its stack, of which the system provides the pages that are used. The waits
//! inside one async handler overlap.
//!
//! # When it stalls
//! The server stalls while handlers hold all N threads, whether they wait, block or compute, and while responses do
//! whose bodies hold their threads ([`Body::holding_thread`](gearshift_core::Body::holding_thread)), until their peers
//! have received them. Other requests then wait in the list, in the order in which they became ready. Nothing else holds
//! a thread. Threads are free during an idle connection, a slow head, a slow body of up to [`Config::body_buffer`]
//! bytes, a peer that receives another response slowly, a stream whose next piece is pending, and an upgraded connection
//! that waits. Event loops suit handlers with long waits better.

#[cfg(all(test, gearshift_model))]
mod model_checks;
mod pool;
mod round;
mod runtime;
mod stand_in;

use std::io;
use std::sync::Arc;

use gearshift_core::{
    App, Backend, Config, Engine, Latch, Listener, Report, ServeError, Server, Service, Threads, Workers,
    lifecycle,
};
use gearshift_reactor::{Background, Task};

use crate::pool::{Pool, WATCHERS};
use crate::runtime::ThreadPoolEngine;

const NAME: &str = "threadpool";

/// The thread pool backend; see the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadPool;

impl Backend for ThreadPool {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "a pool of threads: a request has a thread, an idle connection has none"
    }

    fn threads_block(&self) -> bool {
        true
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        match config.workers {
            Some(workers) if workers != 1 => Err(ServeError::Setting {
                backend: NAME,
                reason: format!(
                    "needs 1 worker, not {workers} (--workers, WEB_CONCURRENCY); --threads sets the size of its pool"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let workers = ThreadPoolWorkers::start(&server)?;
        lifecycle::run(server, app, workers)
    }
}

/// The threads that serve requests, and the thread that runs background tasks.
struct ThreadPoolWorkers {
    pool: Arc<Pool>,
    background: Background,
    threads: Threads,
    config: Config,
}

impl ThreadPoolWorkers {
    fn start(server: &Server) -> io::Result<ThreadPoolWorkers> {
        let config = server.config().clone();
        let threads = Threads::new(server);
        let pool = Pool::new(config.threads_or_default(), WATCHERS, config.shortest_timeout())?;
        for number in 0..pool.threads() {
            let pool = pool.clone();
            threads.spawn(format!("worker-{number}"), move || pool.work(number))?;
        }
        let standing_in = pool.clone();
        let background = Background::start(&threads, move |tasks| standing_in.stand_in(tasks))?;
        Ok(ThreadPoolWorkers { pool, background, threads, config })
    }
}

impl Workers for ThreadPoolWorkers {
    fn engine(&self) -> impl Engine {
        ThreadPoolEngine::new(&self.pool, &self.background, self.threads.offload(&self.config))
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        service: &Arc<Service>,
        accepting: &Latch,
    ) -> io::Result<()> {
        self.pool.serve(service);
        Task::accept(self.pool.handle(), listeners, service, accepting, &self.pool.schedule())
    }

    fn stop(self) -> io::Result<()> {
        self.pool.stop();
        self.background.stop();
        let joined = self.threads.join();
        self.pool.close();
        joined
    }
}
