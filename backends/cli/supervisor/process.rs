//! A process that serves, as the supervisor sees it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use super::program::Program;
use crate::cli::supervised::{Command, Message};

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not said that it serves.
    Starting,
    /// It accepts connections.
    Serving,
    /// It was told to stop.
    Draining,
}

/// See the [module](self).
pub(super) struct Process {
    child: Child,
    control: UnixStream,
    /// Whether the process holds its side of `control`, as far as is known.
    is_connected: bool,
    pub(super) state: State,
    /// Whether it has said that it serves.
    pub(super) has_served: bool,
    /// The number of times that all processes were to be replaced before this one was started.
    pub(super) generation: u64,
    /// Whether a signal has asked this process to stop, so that another one has to take its place.
    pub(super) is_leaving: bool,
    pub(super) started: Instant,
    /// When the process is killed: until then it has to serve, or to end.
    pub(super) deadline: Option<Instant>,
}

impl Process {
    /// Starts a process that has to serve before `deadline`.
    ///
    /// # Errors
    /// The system cannot start the program.
    pub(super) fn start(
        program: &Program,
        listeners: &[impl AsFd],
        generation: u64,
        deadline: Option<Instant>,
    ) -> io::Result<Process> {
        let (control, of_child) = UnixStream::pair()?;
        control.set_nonblocking(true)?;
        let child = program.start(of_child, listeners)?;
        Ok(Process {
            child,
            control,
            is_connected: true,
            state: State::Starting,
            has_served: false,
            generation,
            is_leaving: false,
            started: Instant::now(),
            deadline,
        })
    }

    /// The number of the process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The socket on which a message may arrive; `None` if there will be no other.
    pub(super) fn to_hear(&self) -> Option<BorrowedFd<'_>> {
        self.is_connected.then(|| self.control.as_fd())
    }

    /// The next message of the process, if one has arrived.
    pub(super) fn hear(&mut self) -> Option<Message> {
        let mut byte = [0];
        loop {
            match self.control.read(&mut byte) {
                Ok(1) => return Message::of(byte[0]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                _ => {
                    self.is_connected = false;
                    return None;
                }
            }
        }
    }

    /// Tells the process what to do. A process that has not taken the commands before it is about to end.
    pub(super) fn tell(&mut self, command: Command) {
        let _ = self.control.write(&[command as u8]);
    }

    /// Tells the process to stop, at most until `deadline`.
    pub(super) fn drain(&mut self, deadline: Option<Instant>) {
        self.tell(Command::Drain);
        (self.state, self.deadline) = (State::Draining, deadline);
    }

    /// Tells the process to end at once, at most until `deadline`.
    pub(super) fn cut(&mut self, deadline: Instant) {
        self.tell(Command::Cut);
        (self.state, self.deadline) = (State::Draining, Some(deadline));
    }

    /// Kills the process. It has not been waited for, so no other process has its number.
    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.kill() {
            log::error!("process {} cannot be killed: {error}", self.id());
        }
        self.deadline = None;
    }

    /// How the process has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| {
            log::error!("the system does not tell whether process {} runs: {error}", self.id());
            None
        })
    }

    /// How long it has lived.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }
}
