//! What a handler may ask of this backend.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use async_io::{Async, Timer};
use async_std::task;
use futures_lite::future::or;
use gearshift_core::Latch;
use gearshift_core::threads::Threads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Stream, Work};
use gearshift_reactor::Handle;

use crate::NAME;

/// async-std's executor, as the application of one server sees it.
pub(crate) struct AsyncStdEngine {
    /// Released when the server has ended. The executor lives on, so background tasks are to end by themselves.
    running: Latch,
    reactor: Handle,
    threads: Threads,
}

impl AsyncStdEngine {
    pub(crate) fn new(running: &Latch, reactor: &Handle, config: &Config) -> AsyncStdEngine {
        let threads = Threads::new(config.compute_threads_or_cores());
        AsyncStdEngine { running: running.clone(), reactor: reactor.clone(), threads }
    }
}

impl Engine for AsyncStdEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(async move {
            Timer::at(until).await;
        })
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(async move {
            match to {
                Endpoint::Tcp(address) => {
                    let socket = Async::<TcpStream>::connect(address).await?;
                    socket.get_ref().set_nodelay(true)?;
                    Ok(Stream::from_socket(socket))
                }
                Endpoint::Unix(path) => Ok(Stream::from_socket(Async::<UnixStream>::connect(path).await?)),
            }
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        task::spawn(or(self.running.released(), task));
    }

    fn offload(&self, kind: Work, job: Job) {
        self.threads.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        EngineStats { workers: crate::threads(), waiting: 0, turns: self.reactor.turns() }
    }
}
