//! The wait of the background thread: for its own tasks, and for the reactor while no worker waits in it.
//!
//! The background thread polls the descriptor of the reactor and its own event descriptor. It does not wait in
//! the reactor, because a wake-up of the reactor can reach any thread that waits there.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use gearshift_core::sync;
use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::time::Timespec;

/// See the [module](self).
pub(crate) struct StandIn {
    /// The event descriptor, which is readable after a wake-up.
    event: OwnedFd,
    is_woken: AtomicBool,
}

impl StandIn {
    /// Creates the event descriptor.
    ///
    /// # Errors
    /// The system provides no event descriptor.
    pub(crate) fn new() -> io::Result<StandIn> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(StandIn { event, is_woken: AtomicBool::new(false) })
    }

    /// Waits until [`StandIn::wake`] is called or `reactor` has events. Returns whether `reactor` has events.
    ///
    /// # Errors
    /// The system call fails.
    pub(crate) fn wait(&self, reactor: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let event = PollFd::new(&self.event, PollFlags::IN);
        let mut both = match &reactor {
            Some(reactor) => vec![event, PollFd::new(reactor, PollFlags::IN)],
            None => vec![event],
        };
        sync::wait(None, |timeout| {
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            match poll(&mut both, timeout.as_ref()) {
                Ok(ready) => Ok(ready > 0),
                Err(Errno::INTR) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })?;
        let has_events = both.get(1).is_some_and(|reactor| !reactor.revents().is_empty());
        if !both[0].revents().is_empty() {
            // The read comes first: a wake-up between the two is seen by the caller, which looks for work after this.
            // In the other order the read could take the event of a wake-up whose flag stays set, and no wake-up would
            // follow.
            let _ = read(&self.event, &mut [0; 8]);
            // Not a plain store: the caller must see what precedes a wake-up that found the flag set.
            self.is_woken.swap(false, Ordering::SeqCst);
        }
        Ok(has_events)
    }

    /// Ends the current wait or the next one. Any thread may call this method.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst)
            && let Err(error) = sync::interrupt(|| write(&self.event, &1u64.to_ne_bytes()))
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

#[cfg(all(test, not(gearshift_model)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const WAKERS: usize = 2;
    const WAKE_UPS: usize = 50_000;

    #[test]
    fn no_wake_up_is_lost() {
        let stand_in = Arc::new(StandIn::new().expect("an event descriptor"));
        let given = Arc::new(AtomicUsize::new(0));
        for _ in 0..WAKERS {
            let (stand_in, given) = (stand_in.clone(), given.clone());
            thread::spawn(move || {
                for _ in 0..WAKE_UPS {
                    given.fetch_add(1, Ordering::SeqCst);
                    StandIn::wake(&stand_in);
                }
            });
        }
        let (seen_all, ended) = mpsc::channel();
        thread::spawn(move || {
            while given.load(Ordering::SeqCst) < WAKERS * WAKE_UPS {
                stand_in.wait(None).expect("the wait ends without an error");
            }
            let _ = seen_all.send(());
        });
        ended.recv_timeout(Duration::from_secs(30)).expect("the last wake-up ends the wait");
    }
}
