//! Where the background thread waits: for its own tasks, and for the reactor while no worker watches it.
//!
//! It does not wait in the reactor itself, where a wake-up may reach any of the threads that do.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};

/// See the [module](self).
pub(crate) struct StandIn {
    event: OwnedFd,
    is_woken: AtomicBool,
}

impl StandIn {
    /// # Errors
    /// An error of the system.
    pub(crate) fn new() -> io::Result<StandIn> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(StandIn { event, is_woken: AtomicBool::new(false) })
    }

    /// Waits until it is woken, or `reactor` has news; says whether it has.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn wait(&self, reactor: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let event = PollFd::new(&self.event, PollFlags::IN);
        let mut both = match &reactor {
            Some(reactor) => vec![event, PollFd::new(reactor, PollFlags::IN)],
            None => vec![event],
        };
        match poll(&mut both, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_news = both.get(1).is_some_and(|reactor| !reactor.revents().is_empty());
        if self.is_woken.swap(false, Ordering::SeqCst) {
            // It was written to after that was set, or will be: then the next wait ends at once.
            let _ = read(&self.event, &mut [0; 8]);
        }
        Ok(has_news)
    }

    /// Ends the current wait, or the next one. From any thread.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst)
            && let Err(error) = write(&self.event, &1u64.to_ne_bytes())
        {
            log::error!("the background thread could not be woken: {error}");
        }
    }
}

impl Wake for StandIn {
    fn wake(self: Arc<Self>) {
        StandIn::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        StandIn::wake(self);
    }
}
