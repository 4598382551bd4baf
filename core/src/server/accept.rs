//! What to do when accepting fails: wait, or say so.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::service::Service;
use crate::runtime::config::Overload;
use crate::server::listener::Listener;

/// How long to leave a listener alone after accepting failed.
///
/// Being out of descriptors or memory is no reason to end, nor to spin: accepting pauses, for longer each time,
/// and the waiting connections stay in the kernel's queue. Under [`Overload::Refuse`] they are told, one after the
/// other, on a descriptor that was kept for it.
#[derive(Debug)]
pub struct AcceptPause {
    next: Duration,
    reserve: Option<File>,
}

impl AcceptPause {
    /// The first pause.
    pub const SHORTEST: Duration = Duration::from_millis(10);
    /// The longest pause.
    pub const LONGEST: Duration = Duration::from_secs(1);
    /// Connections told between two pauses, at most.
    const REFUSALS: usize = 64;

    /// A policy that has seen no failure. It keeps a descriptor for when there is no other.
    pub fn new() -> AcceptPause {
        AcceptPause { next: AcceptPause::SHORTEST, reserve: reserve() }
    }

    /// A connection was accepted: the next pause is short again.
    #[inline]
    pub fn accepted(&mut self) {
        self.next = AcceptPause::SHORTEST;
    }

    /// Judges a failure of [`Listener::accept`] other than `WouldBlock`: how long to wait before the next try,
    /// nothing if the failure was the peer's.
    pub fn failed(&mut self, error: &io::Error, listener: &Listener, service: &Service) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return None;
        }
        let pause = self.next;
        if pause == AcceptPause::SHORTEST {
            log::warn!("accepting pauses: {error}");
        }
        self.next = (pause * 2).min(AcceptPause::LONGEST);
        let exhausted =
            [Errno::MFILE, Errno::NFILE].iter().any(|kind| error.raw_os_error() == Some(kind.raw_os_error()));
        if exhausted && service.config().overload == Overload::Refuse {
            self.refuse(listener, service);
        }
        Some(pause)
    }

    /// Tells those in the queue that there is no room, as far as that is possible without another descriptor: there
    /// is no lingering for what they may still send.
    fn refuse(&mut self, listener: &Listener, service: &Service) {
        for _ in 0..AcceptPause::REFUSALS {
            if self.reserve.take().is_none() {
                break;
            }
            let told = listener.accept().and_then(|(mut socket, _)| {
                // Closing over what was received would destroy what is sent.
                let _ = socket.read(&mut [0; 4096]);
                socket.write_all(&service.refusal())?;
                socket.shutdown(Shutdown::Write)
            });
            self.reserve = reserve();
            match told {
                Ok(()) => service.was_refused(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        self.reserve = self.reserve.take().or_else(reserve);
    }
}

/// Any descriptor, to be given up when one is needed.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

impl Default for AcceptPause {
    fn default() -> AcceptPause {
        AcceptPause::new()
    }
}
