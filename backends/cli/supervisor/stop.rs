//! The stop of all processes: first the drain delay, then the drain; or at once.

use std::time::{Duration, Instant};

use gearshift_core::Listener;
use gearshift_core::clock::after;

use super::Supervisor;
use super::process::State;
use crate::cli::supervised::Command;
use crate::signals::SLACK;

/// The time that a process may take to end, beyond the time after which it ends itself, before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Begins a graceful stop. With a drain delay, the processes serve as before until it is over, except that they
    /// tell load balancers that they are not ready. No process is started any more.
    pub(super) fn begin_stop(&mut self) {
        self.messages.stopping();
        self.stop = Some(0);
        if self.drain_delay.is_zero() || !self.has_served {
            return self.drain();
        }
        let delay = self.drain_delay;
        log::info!("a stop is requested; send the signal again to stop at once");
        log::info!("the processes are not ready any more, and begin to drain in {delay:?}");
        self.processes.iter_mut().for_each(|process| process.tell(Command::Announce));
        self.drains_at = Some(after(Instant::now(), self.drain_delay));
    }

    /// Drains all processes.
    pub(super) fn drain(&mut self) {
        log::info!("finishing the requests in flight; send the signal again to stop at once");
        self.drains_at = None;
        // The processes empty the queues, so these have to be complete. The sockets close with the last process that
        // has emptied them.
        Listener::close_all_to_new(&mut self.listeners);
        let deadline = self.drain_deadline();
        for process in &mut self.processes {
            // One that drains already keeps its deadline.
            if process.state != State::Draining {
                process.drain(deadline);
            }
        }
        self.listeners.clear();
    }

    /// Stops at once.
    pub(super) fn cut(&mut self) {
        log::warn!("stopping at once");
        if self.stop.is_none() {
            self.messages.stopping();
            self.stop = Some(0);
        }
        self.drains_at = None;
        self.listeners.clear();
        let deadline = Instant::now() + SLACK + KILL_AFTER;
        self.processes.iter_mut().for_each(|process| process.cut(deadline));
    }

    /// When a process that is told to drain now is killed.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.grace.saturating_add(SLACK).saturating_add(KILL_AFTER))
    }
}
