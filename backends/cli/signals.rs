//! What SIGINT and SIGTERM do: the first asks the server to finish, the second to end.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use gearshift_core::Shutdown;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// How long a server may take beyond what it was told, before the process ends without it.
const SLACK: Duration = Duration::from_secs(3);

/// The signals of this process steer a server until this is dropped.
pub(crate) struct Steering {
    signals: Handle,
}

impl Steering {
    /// Lets signals stop a server.
    ///
    /// A server whose every thread is stuck in handlers cannot end itself; `overdue` is then called when its time
    /// is over.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) fn start(
        shutdown: Shutdown,
        grace: Duration,
        overdue: impl Fn() + Send + 'static,
    ) -> io::Result<Steering> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                advance(&shutdown, &tell);
            }
        })?;
        thread::Builder::new().name("watchdog".into()).spawn(move || watch(&told, grace, overdue))?;
        Ok(Steering { signals: handle })
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        self.signals.close();
    }
}

/// One more signal came.
fn advance(shutdown: &Shutdown, watchdog: &Sender<()>) {
    if shutdown.is_requested() {
        log::warn!("ending at once");
        shutdown.force();
    } else {
        log::info!("finishing what is in flight; once more to end at once");
        shutdown.graceful();
    }
    let _ = watchdog.send(());
}

/// Waits for the first signal, and from then on not for ever. A disconnected channel means that the server has
/// ended.
fn watch(told: &Receiver<()>, grace: Duration, overdue: impl Fn()) {
    if told.recv().is_err() {
        return;
    }
    let second = match told.recv_timeout(grace + SLACK) {
        Ok(()) => told.recv_timeout(SLACK),
        other => other,
    };
    if second != Err(RecvTimeoutError::Disconnected) {
        overdue();
    }
}
