//! The messages to systemd, or to another program that has set `NOTIFY_SOCKET`: ready, stopping, and those of the
//! watchdog.
//!
//! | message | is sent |
//! | --- | --- |
//! | `READY=1` | once the application has started and the server accepts connections |
//! | `STOPPING=1` | when a stop begins |
//! | `WATCHDOG=1` | at half of the interval that `WATCHDOG_USEC` asks for, until a stop begins, while the server runs its tasks |
//!
//! Before each message of the watchdog, the server has to run tasks: as many as it has workers, one for each event
//! loop. An event loop that a handler holds therefore ends the messages. On the blocking backends, whose threads
//! handlers may hold, the background thread runs the tasks, so the messages prove that the process and this thread
//! live.

use std::env;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::park::block_on_until;
use gearshift_core::shutdown::Subscription;
use gearshift_core::{Phase, Runtime, Server, Shutdown};
use sd_notify::NotifyState;

/// Makes the server send its messages, if the environment asks for them. They end when the returned subscription is
/// dropped.
pub(crate) fn attach(server: Server) -> (Server, Option<Subscription>) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return (server, None);
    }
    let shutdown = server.shutdown();
    let is_stopping = AtomicBool::new(false);
    let subscription = shutdown.subscribe(move || {
        if !is_stopping.swap(true, Ordering::Relaxed) {
            send(NotifyState::Stopping);
        }
    });
    let server = server.on_serving(move |runtime| {
        if shutdown.is_requested() {
            return;
        }
        send(NotifyState::Ready);
        if let Some(interval) = sd_notify::watchdog_enabled()
            && let Err(error) = start_watchdog(runtime.clone(), shutdown, interval)
        {
            log::error!("there is no thread for the messages of the watchdog: {error}");
        }
    });
    (server, Some(subscription))
}

fn send(state: NotifyState<'_>) {
    let states = [state];
    if let Err(error) = sd_notify::notify(&states) {
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
                true => send(NotifyState::Watchdog),
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
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, RwLock};

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
