//! A process that a supervisor has started: the descriptors that it inherits, and what the two tell each other.
//!
//! The variable [`VARIABLE`] names the supervisor, one end of a pair of sockets, and the listening sockets. A byte is a
//! message:
//!
//! | from | byte | means |
//! | --- | --- | --- |
//! | the process | `+` | it serves |
//! | the process | `-` | SIGTERM has asked it to stop; the supervisor starts another one in its place first |
//! | the supervisor | `a` | a stop is announced: readiness ends, and `d` follows after the drain delay |
//! | the supervisor | `d` | stop: finish the requests in flight |
//! | the supervisor | `c` | stop at once |
//! | the supervisor | `r` | open the files of the log again |
//!
//! The end of the pair is the end of the supervisor, after which the process stops as for `d`. No process listens
//! longer than its supervisor, also if a signal has killed the supervisor.
//!
//! Signals do not stop a process directly, because a terminal and systemd may send them to the supervisor and to its
//! processes at once: the process would stop accepting before the supervisor has closed the queue, and the command of
//! the supervisor would count as a second signal.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use gearshift_core::{Bind, Server, Shutdown, inherited};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use crate::signals::{longest_stop, watch};

/// The variable of the environment: the numbers of the supervisor, of the descriptor of the pair, and of the listening
/// sockets, separated by commas. Processes that this one starts inherit the variable without the descriptors.
pub(super) const VARIABLE: &str = "GEARSHIFT_SUPERVISOR";

/// Whether a supervisor has started this process, once it was asked for. The descriptor that tells it is taken later.
static IS_SUPERVISED: OnceLock<bool> = OnceLock::new();

/// Whether a supervisor has started this process to serve, because of `--processes`. A program finds out before it calls
/// [`serve`](super::serve), for example to load what only a process that serves needs. A process that such a process
/// starts is not supervised.
///
/// ```
/// assert!(!gearshift::cli::is_supervised(), "no supervisor has started this process");
/// ```
pub fn is_supervised() -> bool {
    *IS_SUPERVISED.get_or_init(|| {
        let mut is_supervised = false;
        let inherited = Inherited::of_this_process();
        // The descriptor stays open, because the check fails.
        let _ = inherited.map(|inherited| {
            inherited.take(|is_ours| {
                is_supervised = is_ours;
                false
            })
        });
        is_supervised
    })
}

/// The value of [`VARIABLE`] for a process that this one starts.
pub(super) fn variable(control: RawFd, listeners: impl Iterator<Item = RawFd>) -> String {
    let numbers = [control].into_iter().chain(listeners);
    numbers.fold(std::process::id().to_string(), |text, number| format!("{text},{number}"))
}

/// What a process tells its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Message {
    /// It serves.
    Serving = b'+',
    /// A signal has asked it to stop.
    Leaving = b'-',
}

impl Message {
    pub(super) fn of(byte: u8) -> Option<Message> {
        [Message::Serving, Message::Leaving].into_iter().find(|message| *message as u8 == byte)
    }
}

/// What a supervisor tells a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    /// A stop is announced: readiness ends.
    Announce = b'a',
    /// Stop, and finish the requests in flight.
    Drain = b'd',
    /// Stop at once.
    Cut = b'c',
    /// Open the files of the log again.
    Reopen = b'r',
}

impl Command {
    fn of(byte: u8) -> Option<Command> {
        let all = [Command::Announce, Command::Drain, Command::Cut, Command::Reopen];
        all.into_iter().find(|command| *command as u8 == byte)
    }
}

/// The numbers in [`VARIABLE`].
struct Inherited {
    supervisor: u32,
    control: u16,
    listeners: Vec<u16>,
}

impl Inherited {
    fn of_this_process() -> Option<Inherited> {
        let text = env::var(VARIABLE).ok()?;
        let mut numbers = text.split(',');
        let supervisor = numbers.next()?.parse().ok()?;
        let control = numbers.next()?.parse().ok()?;
        let listeners = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Some(Inherited { supervisor, control, listeners })
    }

    /// Takes the end of the pair over if `is_taken` says so. It is called with whether the supervisor has made the
    /// pair: a process that this one starts inherits the variable, and the number is then that of another file.
    fn take(&self, is_taken: impl FnOnce(bool) -> bool) -> Option<UnixStream> {
        let check = |control: BorrowedFd<'_>| match is_taken(has_peer(control, self.supervisor)) {
            true => Ok(()),
            false => Err(ErrorKind::NotConnected.into()),
        };
        inherited::take(self.control.into(), check).ok().map(UnixStream::from)
    }
}

/// See the [module](self).
pub(super) struct Supervised {
    control: UnixStream,
    listeners: Vec<u16>,
}

impl Supervised {
    /// What this process has inherited from a supervisor; `None` if it has none, or was asked before.
    pub(super) fn of_this_process() -> Option<Supervised> {
        is_supervised();
        let inherited = Inherited::of_this_process()?;
        let control = inherited.take(|is_ours| is_ours)?;
        Some(Supervised { control, listeners: inherited.listeners })
    }

    /// The listening sockets.
    pub(super) fn binds(&self) -> Vec<Bind> {
        self.listeners.iter().copied().map(Bind::Fd).collect()
    }

    /// Makes the server tell the supervisor that it serves.
    ///
    /// # Errors
    /// The system refuses a descriptor.
    pub(super) fn announce(&self, server: Server) -> io::Result<Server> {
        let mut control = self.control.try_clone()?;
        Ok(server.on_serving(move |_| tell(&mut control, Message::Serving)))
    }

    /// Makes `server` obey the supervisor until the returned guard is dropped. Three threads wait: for signals, for
    /// commands, and for the end of the server, as those of
    /// [`SignalGuard::start`](crate::signals::SignalGuard::start) do. `reopen` is called to open the files of the log
    /// again.
    ///
    /// # Errors
    /// The system has refused the signal handlers, a descriptor or a thread.
    pub(super) fn obey(
        self,
        server: &Server,
        overdue: impl Fn() + Send + 'static,
        reopen: impl Fn() + Send + 'static,
    ) -> io::Result<Guard> {
        // The others are for the supervisor, which may get them together with its processes.
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        let handle = signals.handle();
        let mut control = self.control.try_clone()?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever().filter(|signal| *signal == SIGTERM) {
                log::debug!("signal {signal}: the supervisor is asked for another process");
                tell(&mut control, Message::Leaving);
            }
        })?;
        let (sender, receiver) = mpsc::channel();
        let (control, shutdown) = (self.control, server.shutdown());
        thread::Builder::new().name("supervisor".into()).spawn(move || {
            obey(control, &shutdown, reopen, || _ = sender.send(()));
            // The end of the channel would be the end of the server.
            std::mem::forget(sender);
        })?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let guard = Guard { handle, has_ended: has_ended.clone() };
        let overdue = move || {
            if !has_ended.load(Ordering::Acquire) {
                overdue();
            }
        };
        let longest = longest_stop(server.config());
        thread::Builder::new().name("watchdog".into()).spawn(move || watch(&receiver, longest, overdue))?;
        Ok(guard)
    }
}

/// Handles the signals of a process with a supervisor until it is dropped.
pub(super) struct Guard {
    handle: Handle,
    /// Whether the server has ended.
    has_ended: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        self.handle.close();
    }
}

/// Obeys the commands until the end of the supervisor. `stops` tells the watchdog: once of a stop, and once more of one
/// that is forced.
fn obey(mut control: UnixStream, shutdown: &Shutdown, reopen: impl Fn(), stops: impl Fn()) {
    let mut told = 0;
    let mut stops = |times| {
        (told..times).for_each(|_| stops());
        told = told.max(times);
    };
    loop {
        let command = match read(&mut control) {
            Some(byte) => Command::of(byte),
            None => {
                log::warn!("the supervisor has ended; finishing the requests in flight");
                shutdown.drain();
                return stops(1);
            }
        };
        match command {
            Some(Command::Announce) => {
                shutdown.graceful();
                stops(1);
            }
            // The drain delay is over, or another process has taken the place of this one.
            Some(Command::Drain) => {
                log::info!("finishing the requests in flight");
                shutdown.drain();
                stops(1);
            }
            Some(Command::Cut) => {
                log::warn!("stopping at once");
                shutdown.force();
                stops(2);
            }
            Some(Command::Reopen) => reopen(),
            None => log::warn!("the supervisor has sent a command that this version does not know"),
        }
    }
}

/// The next byte; `None` at the end.
fn read(control: &mut UnixStream) -> Option<u8> {
    let mut byte = [0];
    loop {
        match control.read(&mut byte) {
            Ok(1) => return Some(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

/// Tells the supervisor. If it has ended, the other thread notices.
fn tell(control: &mut UnixStream, message: Message) {
    let _ = control.write_all(&[message as u8]);
}

/// Whether the process `id` has made the pair of sockets to which `control` belongs.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_peer(control: BorrowedFd<'_>, id: u32) -> bool {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(&control, PeerCredentials).is_ok_and(|peer| u32::try_from(peer.pid()) == Ok(id))
}

/// Whether the process `id` has started this one.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_peer(_: BorrowedFd<'_>, id: u32) -> bool {
    std::os::unix::process::parent_id() == id
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use gearshift_core::Phase;

    use super::*;

    #[test]
    fn the_watchdog_is_told_once_of_a_stop_and_again_of_a_forced_one() {
        for (commands, phase, expected) in [
            ("", Phase::Graceful, 1),
            ("r", Phase::Graceful, 1),
            ("ad", Phase::Graceful, 1),
            ("dd", Phase::Graceful, 1),
            ("c", Phase::Forced, 2),
            ("adcc", Phase::Forced, 2),
        ] {
            let (mut supervisor, control) = UnixStream::pair().expect("a pair of sockets");
            supervisor.write_all(commands.as_bytes()).expect("the buffer has room");
            drop(supervisor);
            let (shutdown, reopened, told) = (Shutdown::new(), Cell::new(false), Cell::new(0));
            obey(control, &shutdown, || reopened.set(true), || told.set(told.get() + 1));
            assert_eq!((shutdown.phase(), told.get()), (phase, expected), "{commands}");
            assert_eq!(reopened.get(), commands.contains('r'));
        }
    }
}
