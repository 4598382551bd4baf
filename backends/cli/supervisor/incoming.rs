//! The signals of the supervisor, as bytes of a socket, so that one thread can wait for them and for other things.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

/// See the [module](self).
pub(super) struct Incoming {
    receiver: UnixStream,
    handle: Handle,
}

impl Incoming {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has refused a signal handler, a socket or the thread.
    pub(super) fn start() -> io::Result<Incoming> {
        let (receiver, mut sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let all = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1];
        let mut signals = Signals::new(all)?;
        let handle = signals.handle();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                // The receiver lives as long as this thread.
                let _ = sender.write_all(&[signal as u8]);
            }
        })?;
        Ok(Incoming { receiver, handle })
    }

    /// The socket that can be read when there is a signal.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// The next signal, if one has arrived.
    pub(super) fn next(&mut self) -> Option<i32> {
        let mut byte = [0];
        loop {
            match self.receiver.read(&mut byte) {
                Ok(1) => return Some(byte[0].into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.handle.close();
    }
}
