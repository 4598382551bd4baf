//! gearshift on a pool of threads: a request has a thread, an idle connection has none.
//!
//! **The model.** One thread waits in a poller, accepts who has come, and puts each connection that has news into a
//! queue; N workers (16 for each core, or `threads`) take connections out of it and drive each until it is idle
//! again. A handler may block, burn CPU or wait, as it likes: it has a thread to itself meanwhile, and the system's
//! scheduler shares the cores.
//!
//! **What things cost.** A connection costs a descriptor and a few hundred bytes, idle or silent ones nothing more: ten
//! thousand of them hold no worker. A request costs one `recv`, one `send`, its share of an `epoll_wait`, and what
//! waking a worker costs; when a connection's next bytes arrive before its worker is done with it, not even that.
//! Nothing is armed for it and no timer is set. A busy thread costs its stack, of which the system gives what is
//! touched. The waits of an async handler overlap each other, in `block_on` on its worker.
//!
//! **When it stalls.** When all workers are taken: N handlers that wait at once, N peers that have begun a request and
//! are slow with its body or with taking a large response (each for up to `body_timeout` or `write_timeout` without
//! a byte). Others then wait in the queue, in the order in which they came. What waits long belongs on an event loop.
//!
//! At shutdown a sync handler that does not return within the grace period is left behind, with its thread.

mod server;
mod slot;

use gearshift_core::{App, Backend, Config, Report, ServeError, Server};

/// A pool of threads; see the [crate's page](crate).
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadPool;

impl Backend for ThreadPool {
    fn name(&self) -> &'static str {
        "threadpool"
    }

    fn model(&self) -> &'static str {
        "a pool of threads: a request has a thread, an idle connection has none"
    }

    /// Refuses more than one worker; the size of the pool is `threads`.
    fn check(&self, config: &Config) -> Result<(), ServeError> {
        let reason = match config.workers {
            Some(workers) if workers != 1 => {
                format!("has one poller, not {workers}; its pool is set by threads")
            }
            _ => return Ok(()),
        };
        Err(ServeError::Setting { backend: self.name(), reason })
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        gearshift_blocking::serve(self.name(), server, app, server::run)
    }
}
