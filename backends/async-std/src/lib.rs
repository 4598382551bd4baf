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
//! a thread of its own waits in the reactor and wakes the tasks. As soon as several are ready together, a task of the
//! executor turns the reactor between the rounds of the executor, until it finds no event. Timers and sockets that a
//! handler brings from async-std work as well: they are on async-io's reactor.
//!
//! # Cost
//! A request takes one receive and one send, and its share of one wait. At 64 connections that is 2.0 system calls.
//!
//! With one connection, a request takes 4 to 7 system calls, where the smol backend takes 3: one wait, one receive,
//! one send, and 1 to 4 `futex` calls that hand the request from the reactor's thread to a thread of the executor. The
//! threads of the executor belong to async-std and wait inside async-io, so they cannot wait in the reactor. To let
//! the reactor wait inside async-io costs 10 calls with one thread, and more with several: async-io changes three
//! registrations and a timer for each wait, and its threads take turns in waiting.
//!
//! Tasks change threads, so a request also pays for cache misses that the smol and mio backends do not have. An open
//! connection is one task and one slot in the reactor, and no thread.
//!
//! # When it stalls
//! A handler that blocks or computes occupies one thread of the executor, and the other threads serve the
//! connections. As many such handlers as there are threads stall all connections, and everything else in the process
//! that uses async-std. Wrap such a handler in [`blocking`](gearshift_core::blocking) or
//! [`compute`](gearshift_core::compute).

mod runtime;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use async_std::task;
use gearshift_core::config::cores;
use gearshift_core::{
    App, Backend, Config, Listener, Report, Runtime, ServeError, Server, Service, Wire, drive,
};
use gearshift_reactor::{
    Acceptor, Guard, Handle, LAST_WAIT, Latch, Reactor, lock, park, supervise, yield_now,
};

use crate::runtime::AsyncStdEngine;

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
        if config.threads.is_some() {
            return Err(setting(
                "has event loops (`workers`), no pool of threads: `threads` cannot be set".into(),
            ));
        }
        match config.workers {
            Some(workers) if workers != threads() => Err(setting(format!(
                "takes its number of workers from the environment: set {THREADS}={workers} (it would be {} now)",
                threads()
            ))),
            _ => Ok(()),
        }
    }

    fn serve(&self, server: Server, app: App) -> Result<Report, ServeError> {
        self.check(server.config())?;
        let (listeners, config, shutdown) = server.into_parts();
        let reactor = Reactor::new(config.shortest_timeout())?;
        let handle = reactor.handle().clone();
        let (running, ended) = (Latch::new(), Latch::new());
        let runtime = Runtime::new(AsyncStdEngine::new(&running, &handle, &config), &config);

        let failure = Arc::new(Mutex::new(None));
        let stop = StopOnDrop { running: Some(running.guard()), handle: handle.clone() };
        thread::Builder::new().name(NAME.into()).spawn({
            let guard = ended.guard();
            let (failure, shutdown) = (failure.clone(), shutdown.clone());
            move || {
                let _guard = guard;
                let result = catch_unwind(AssertUnwindSafe(|| run(reactor, &running)));
                if let Err(error) = result.unwrap_or_else(|_| Err(io::Error::other("the reactor panicked"))) {
                    *lock(&failure) = Some(error);
                    shutdown.force();
                }
            }
        })?;
        let report = supervise(app, config, shutdown, &runtime, |service, guard| {
            for listener in listeners {
                accept(&handle, listener, service, guard())?;
            }
            Ok(())
        });
        drop(stop);
        if park::until(Some(Instant::now() + LAST_WAIT), ended.released()).is_none() {
            log::error!("handlers block the executor, which was left behind");
        }
        match lock(&failure).take() {
            Some(error) => Err(ServeError::System(error)),
            None => report,
        }
    }
}

/// Turns the reactor until the server ends. Called on a thread of its own, which lets a task of the executor go on
/// when several connections are ready together.
fn run(mut reactor: Reactor, running: &Latch) -> io::Result<()> {
    while !running.is_released() {
        if reactor.turn(None)? > 1 {
            reactor = park::until(None, task::spawn(turn_while_busy(reactor)))
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

/// Accepts from one listener; each connection becomes a task.
fn accept(handle: &Handle, listener: Listener, service: &Arc<Service>, guard: Guard) -> io::Result<()> {
    let acceptor = Acceptor::new(handle, listener)?;
    let service = service.clone();
    task::spawn(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor
            .run(service, move |transport, peer| {
                let wire = Wire::new(transport, peer, &connections);
                task::spawn(drive(wire, connections.clone()));
            })
            .await;
    });
    Ok(())
}

/// The number of threads of async-std's executor, or the number it would have if it started now.
fn threads() -> usize {
    let set = std::env::var(THREADS).ok().and_then(|count| count.parse().ok());
    set.unwrap_or_else(cores).max(1)
}

/// Ends the reactor's thread, on every path out of `serve`.
struct StopOnDrop {
    running: Option<Guard>,
    handle: Handle,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.running = None;
        self.handle.wake();
    }
}

fn setting(reason: String) -> ServeError {
    ServeError::Setting { backend: NAME, reason }
}
