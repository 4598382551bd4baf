//! The timer of the system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gearshift_core::sync::model::alarm;
use rustix::event::{EventfdFlags, eventfd};

/// A timer that follows the time of the check.
pub(crate) struct SystemTimer {
    /// Written to when the timer fires. It is never read: each write is an edge.
    event: Arc<OwnedFd>,
    at: Arc<Mutex<Option<Instant>>>,
}

impl SystemTimer {
    pub(crate) fn new() -> io::Result<SystemTimer> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(SystemTimer { event: Arc::new(event), at: Arc::default() })
    }

    pub(crate) fn set(&self, at: Instant) -> io::Result<()> {
        let (event, current) = (self.event.clone(), self.at.clone());
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        alarm(
            at,
            Arc::new(move || {
                let current =
                    current.lock().unwrap_or_else(PoisonError::into_inner).take_if(|set| *set == at);
                if current.is_some() {
                    rustix::io::write(&event, &1u64.to_ne_bytes())
                        .expect("the counter of the event is small");
                }
            }),
        );
        Ok(())
    }
}

impl AsFd for SystemTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
