//! The messages to systemd, or to another program that has set `NOTIFY_SOCKET`: ready, reloading, stopping, and those
//! of the watchdog.
//!
//! | message | is sent |
//! | --- | --- |
//! | `READY=1` | once the application has started and the server accepts connections |
//! | `RELOADING=1` and `MONOTONIC_USEC`, then `READY=1` | around a reload at SIGHUP |
//! | `STOPPING=1` | when a stop begins |
//! | `WATCHDOG=1` | at half of the interval that `WATCHDOG_USEC` asks for, until a stop begins, while the server runs its tasks |
//!
//! Before each message of the watchdog, the server has to run tasks: as many as it has workers, one for each event
//! loop. An event loop that a handler holds therefore ends the messages. On the blocking backends, whose threads
//! handlers may hold, the background thread runs the tasks, so the messages prove that the process and this thread
//! live.
//!
//! The supervisor of several processes sends the same messages for all of them, and its processes send none
//! (`backends/cli/supervisor/mod.rs`).

use std::env;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::park::block_on_until;
use gearshift_core::shutdown::Subscription;
use gearshift_core::{Phase, Runtime, Server, Shutdown};
use sd_notify::NotifyState;

/// What the messages have told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Ready,
    Stopping,
}

/// The messages of a server, which end when this is dropped.
pub(crate) struct Messages {
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only a command line has reloads"))]
    told: Arc<Mutex<Told>>,
    _subscription: Subscription,
}

impl Messages {
    /// Returns a function that tells systemd of the reload that `reload` makes. A server that is not ready, or stops,
    /// only reloads.
    #[cfg(feature = "cli")]
    pub(crate) fn around(&self, reload: Box<dyn Fn() + Send>) -> Box<dyn Fn() + Send> {
        let told = self.told.clone();
        Box::new(move || {
            let told = lock(&told);
            if *told == Told::Ready {
                tell_reloading();
            }
            reload();
            if *told == Told::Ready {
                send(&[NotifyState::Ready]);
            }
        })
    }
}

/// Makes the server send its messages, if the environment asks for them.
pub(crate) fn attach(server: Server) -> (Server, Option<Messages>) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return (server, None);
    }
    let shutdown = server.shutdown();
    let told = Arc::new(Mutex::new(Told::Nothing));
    let by_stop = told.clone();
    let subscription = shutdown.subscribe(move || {
        let mut told = lock(&by_stop);
        if *told != Told::Stopping {
            *told = Told::Stopping;
            send(&[NotifyState::Stopping]);
        }
    });
    let messages = Messages { told: told.clone(), _subscription: subscription };
    let server = server.on_serving(move |runtime| {
        let mut told = lock(&told);
        if *told != Told::Nothing || shutdown.is_requested() {
            return;
        }
        *told = Told::Ready;
        send(&[NotifyState::Ready]);
        drop(told);
        if let Some(interval) = sd_notify::watchdog_enabled()
            && let Err(error) = start_watchdog(runtime.clone(), shutdown, interval)
        {
            log::error!("there is no thread for the messages of the watchdog: {error}");
        }
    });
    (server, Some(messages))
}

/// Locks a value that is complete after each of its changes.
fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells systemd that a reload begins. `READY=1` has to follow.
#[cfg(feature = "cli")]
pub(crate) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("systemd is not told of the reload, because there is no clock: {error}"),
    }
}

/// Sends a message, if the environment asks for messages.
pub(crate) fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the message {} to systemd was not sent: {error}", states[0]);
    }
}

/// Starts the thread that sends the messages of the watchdog, until a stop.
fn start_watchdog(runtime: Runtime, shutdown: Shutdown, interval: Duration) -> io::Result<()> {
    let half = interval / 2;
    let watch = move || {
        let has_stopped = |until| block_on_until(Some(until), shutdown.reached(Phase::Graceful)).is_some();
        loop {
            let next = Instant::now() + half;
            match runs_tasks(&runtime, next) {
                true => send(&[NotifyState::Watchdog]),
                false => log::warn!("the server runs no tasks, so the watchdog of systemd gets no message"),
            }
            if has_stopped(next) {
                return;
            }
        }
    };
    thread::Builder::new().name("systemd".into()).spawn(watch).map(drop)
}

/// Whether each event loop runs a task before `deadline`. The tasks are distributed evenly.
fn runs_tasks(runtime: &Runtime, deadline: Instant) -> bool {
    let tasks: Vec<_> = (0..runtime.stats().workers.max(1)).map(|_| runtime.spawn(async {})).collect();
    tasks.into_iter().all(|task| block_on_until(Some(deadline), task).is_some_and(|ended| ended.is_ok()))
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Backend, TestRuntime};

    #[test]
    fn event_loops_that_are_held_end_the_messages_of_the_watchdog() {
        let late = || Instant::now() + Duration::from_secs(60);
        for backend in Backend::available().iter().filter(|backend| !backend.threads_block()) {
            let server = TestRuntime::start(*backend).expect("the backend starts");
            let runtime = server.runtime();
            assert!(runs_tasks(runtime, late()), "{backend}");
            let (gate, begun) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
            let closed = gate.write().expect("no thread has panicked");
            // Each loop is held by one of the tasks. The next one is started when it has begun.
            for nth in 1..=runtime.stats().workers {
                let (gate, held) = (gate.clone(), begun.clone());
                let hold = async move {
                    held.fetch_add(1, Ordering::SeqCst);
                    drop(gate.read());
                };
                runtime.spawn(hold).detach();
                while begun.load(Ordering::SeqCst) < nth {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(!runs_tasks(runtime, Instant::now() + Duration::from_millis(50)), "{backend}");
            drop(closed);
            assert!(runs_tasks(runtime, late()), "{backend}");
        }
    }
}
