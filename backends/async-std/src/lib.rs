//! gearshift on async-std, whose upstream is discontinued.
//!
//! async-std has had no maintainer since March 2025 (RUSTSEC-2025-0052), and its authors recommend smol. This backend
//! is for applications that depend on async-std already. A new application should use the smol backend.
//!
//! # Model
//! async-std has one executor for the whole process, and its threads take tasks from each other. Their number is not
//! a setting of the server: it comes from the environment variable `ASYNC_STD_THREAD_COUNT`, or is the number of
//! cores. A connection is a task of that executor, and moves between threads as the load does. There is one listener
//! for each address.
//!
//! Connections, timers and outgoing sockets are on one [`Reactor`]. While at most one connection is ready at a time,
//! one more thread waits in the reactor and wakes the tasks. As soon as several are ready together, a task of the
//! executor turns the reactor between the rounds of the executor, until it finds no event. Timers and sockets that a
//! handler brings from async-std work as well: they are on async-io's reactor.
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait: 2.0 to 2.3 system calls at 64 connections. With
//! one connection it takes 4 to 7, where the smol backend takes 3, because 1 to 4 `futex` calls hand the request from
//! the reactor's thread to a thread of the executor. These threads wait inside async-io and cannot wait in the reactor.
//! To let the reactor wait inside async-io costs 10 calls or more, because async-io changes three registrations and a
//! timer for each wait.
//!
//! Tasks change threads, so a request also pays for cache misses that the smol and mio backends do not have. An open
//! connection is one task and one slot in the reactor, and no thread.
//!
//! # When it stalls
//! A handler that blocks or computes occupies one thread of the executor, and the other threads serve the
//! connections. As many such handlers as there are threads stall all connections, and everything else in the process
//! that uses async-std. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute).

use std::io;
use std::time::Duration;

use async_std::task;
use futures_lite::future::{or, yield_now};
use gearshift_core::config::cores;
use gearshift_core::{
    App, Backend, BoxFuture, Config, Driving, Latch, Report, ServeError, Server, backend, lifecycle, park,
};
use gearshift_reactor::{EventLoop, EventLoops, Reactor, ReactorTransport};

const NAME: &str = "async-std";
/// The environment variable from which async-std takes its number of threads.
const THREADS: &str = "ASYNC_STD_THREAD_COUNT";

/// async-std's executor. See the [crate](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

impl Backend for AsyncStd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn model(&self) -> &'static str {
        "async-std's one executor, whose threads share all connections (discontinued upstream, RUSTSEC-2025-0052)"
    }

    fn check(&self, config: &Config) -> Result<(), ServeError> {
        backend::check_event_loop(NAME, config)?;
        match config.workers {
            Some(workers) if workers != threads() => Err(ServeError::Setting {
                backend: NAME,
                reason: format!(
                    "takes its number of workers from the environment: set {THREADS}={workers} (it would be {} now)",
                    threads()
                ),
            }),
            _ => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let loops = EventLoops::start(&server, NAME, 1, |_, running| {
            let turning = running.clone();
            (Tasks(running.clone()), move |reactor| run(reactor, &turning))
        })?;
        lifecycle::run(server, app, loops)
    }
}

/// The tasks of one server on the executor of the process. The executor outlives the server, so the release of the
/// latch ends each background task. A connection ends by itself, at the latest on a forced stop.
#[derive(Clone)]
struct Tasks(Latch);

impl EventLoop for Tasks {
    fn workers(&self) -> usize {
        threads()
    }

    fn spawn(&self, task: BoxFuture<()>) {
        task::spawn(or(self.0.released(), task));
    }

    fn drive(&self, connection: Driving<ReactorTransport>) {
        task::spawn(connection);
    }
}

/// Turns the reactor until the server ends, on a separate thread. The thread passes the reactor to a task of the
/// executor while several connections are ready.
fn run(mut reactor: Reactor, running: &Latch) -> io::Result<()> {
    while running.guards() > 0 {
        if reactor.turn(None)? > 1 {
            reactor = park::block_on_until(None, task::spawn(turn_while_busy(reactor)))
                .expect("without a deadline the wait ends with the task")?;
        }
    }
    Ok(())
}

/// Turns the reactor between the rounds of the executor, as long as it has events.
async fn turn_while_busy(mut reactor: Reactor) -> io::Result<Reactor> {
    loop {
        yield_now().await;
        if reactor.turn(Some(Duration::ZERO))? == 0 {
            return Ok(reactor);
        }
    }
}

/// The number of threads of async-std's executor, or the number it would have if it started now.
fn threads() -> usize {
    let set = std::env::var(THREADS).ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(cores).max(1)
}
