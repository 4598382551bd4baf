//! SIGINT and SIGTERM: the first signal starts a graceful stop, the second forces the stop. SIGHUP reloads what the
//! program can reload, and SIGUSR1 opens log files again.

use std::io;
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::clock::after;
use gearshift_core::shutdown::Subscription;
use gearshift_core::{Config, Phase, Server, Shutdown};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

/// The time that a server may take beyond its longest stop, or beyond a forced stop, before the process exits without
/// it.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// The line of the log when a graceful stop begins.
const FINISHING: &str = "finishing the requests in flight; send the signal again to stop at once";

/// Handles the signals of this process for one server, until it is dropped.
pub(crate) struct SignalGuard(Handle);

impl SignalGuard {
    /// Starts two threads: one waits for signals and stops `server`, the other calls `overdue` if the server has not
    /// ended in time after a signal. A server cannot end if handlers block all of its threads.
    /// `on_hangup` is called for each SIGHUP, and `on_usr1` for each SIGUSR1, which otherwise end the process.
    ///
    /// # Errors
    /// The system has refused the signal handlers or a thread.
    pub(crate) fn start(
        server: &Server,
        overdue: impl Fn() + Send + 'static,
        on_hangup: Option<Box<dyn Fn() + Send>>,
        on_usr1: Option<Box<dyn Fn() + Send>>,
    ) -> io::Result<SignalGuard> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        if on_hangup.is_some() {
            signals.add_signal(SIGHUP)?;
        }
        if on_usr1.is_some() {
            signals.add_signal(SIGUSR1)?;
        }
        let handle = signals.handle();
        let shutdown = server.shutdown();
        let (longest, is_delayed) = (longest_stop(server.config()), !server.config().drain_delay.is_zero());
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut drain = None;
            for signal in signals.forever() {
                match (signal, &on_hangup, &on_usr1) {
                    (SIGHUP, Some(on_hangup), _) => on_hangup(),
                    (SIGUSR1, _, Some(on_usr1)) => on_usr1(),
                    _ => {
                        stop(&shutdown, is_delayed, &mut drain);
                        let _ = sender.send(());
                    }
                }
            }
        })?;
        thread::Builder::new().name("watchdog".into()).spawn(move || watch(&receiver, longest, overdue))?;
        Ok(SignalGuard(handle))
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The time after which a server with these settings has stopped.
pub(crate) fn longest_stop(config: &Config) -> Duration {
    config.graceful_timeout.saturating_add(config.drain_delay)
}

/// Handles one signal. `is_delayed` is whether the server has a drain delay, at whose end `drain` logs.
fn stop(shutdown: &Shutdown, is_delayed: bool, drain: &mut Option<Subscription>) {
    if shutdown.is_announced() {
        log::warn!("stopping at once");
        return shutdown.force();
    }
    if is_delayed {
        log::info!("a stop is requested; send the signal again to stop at once");
        *drain = Some(log_drain(shutdown));
    } else {
        log::info!("{FINISHING}");
    }
    shutdown.graceful();
}

/// Logs [`FINISHING`] when the drain delay is over, until the returned subscription is dropped.
fn log_drain(shutdown: &Shutdown) -> Subscription {
    let (of, logged) = (shutdown.clone(), Once::new());
    shutdown.subscribe(move || {
        if of.phase() == Phase::Graceful {
            logged.call_once(|| log::info!("{FINISHING}"));
        }
    })
}

/// Waits for the first signal, then for the end of the server, which disconnects the channel. Calls `overdue` if the
/// server has not ended in the time `longest`. Signals after the second change nothing.
pub(crate) fn watch(signals: &Receiver<()>, longest: Duration, overdue: impl Fn()) {
    if signals.recv().is_err() {
        return;
    }
    let (graceful, mut forced) = (after(Instant::now(), longest.saturating_add(SLACK)), None);
    loop {
        let deadline = forced.unwrap_or(graceful);
        match signals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => forced = forced.or(Some(Instant::now() + SLACK)),
            Err(RecvTimeoutError::Timeout) => return overdue(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_third_signal_does_not_end_a_server_that_stops() {
        for longest in [Duration::from_secs(30), Duration::MAX] {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..3 {
                sender.send(()).expect("the receiver exists");
            }
            drop(sender);
            let is_overdue = Cell::new(false);
            watch(&receiver, longest, || is_overdue.set(true));
            assert!(!is_overdue.get());
        }
    }
}
