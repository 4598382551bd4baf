//! gearshift on one thread: requests run strictly one after another.
//!
//! **The model.** One thread, one loop: wait until something has arrived, accept who has come, drive each
//! connection that has news until it is idle again, wait. Between requests a connection is parked in the poller.
//! While a request runs nothing else does, so handlers need no locks among themselves and see each other's work
//! complete: the model of a command line tool, of a test, of code that cannot be shared between threads.
//!
//! **What things cost.** A connection costs a descriptor and a few hundred bytes; an idle one nothing more, and a
//! silent one cannot hold up anybody, as nothing is read before bytes have arrived. A request costs one `recv`, one
//! `send`, and its share of one `epoll_wait` with all that arrived at the same time. It costs no thread, no task and
//! no timer. The waits of an async handler overlap each other, in `block_on` on this thread.
//!
//! **When it stalls.** Whenever a handler does: a request of 50 ms holds up every other for 50 ms. It stalls too
//! while a peer that has begun a request is slow with its body, or with taking a large response, up to
//! `body_timeout` or `write_timeout` without a byte. Where that can happen put a buffering proxy in front, or shift
//! to the thread pool.
//!
//! At shutdown a sync handler that does not return cannot be cut: the thread that would do so is the one it holds.

mod server;

use gearshift_core::{App, Backend, Config, Report, ServeError, Server};

/// One thread; see the [crate's page](crate).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Backend for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn model(&self) -> &'static str {
        "one thread: requests run strictly one after another"
    }

    /// Refuses more than one worker, and any `threads`.
    fn check(&self, config: &Config) -> Result<(), ServeError> {
        let reason = match (config.workers, config.threads) {
            (Some(workers), _) if workers != 1 => format!("has one worker, not {workers}"),
            (_, Some(threads)) => format!("has one thread and takes no number of threads, such as {threads}"),
            _ => return Ok(()),
        };
        Err(ServeError::Setting { backend: self.name(), reason })
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        gearshift_blocking::serve(self.name(), server, app, server::run)
    }
}
