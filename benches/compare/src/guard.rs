//! Child processes that never outlive this process, even after a panic, Ctrl-C or SIGKILL.
//!
//! Each command runs under a guard, which is this program with the command `guard`. The guard leads a process group of
//! its own and kills the group when its standard input ends. The other end of that pipe belongs to the parent process,
//! and the kernel closes it when the parent ends. The guard needs no `unsafe` hook between fork and exec, adds no
//! thread to the measured process, and also kills the processes that the command started, unless they left the group.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process_group};

use crate::cores;

/// The exit status of a shell for an unknown command.
const NO_SUCH_COMMAND: u8 = 127;
/// This program, even if its file was replaced since.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// A running command. Dropping it kills the command and the processes that it started.
#[derive(Debug)]
pub struct GuardedChild {
    guard: Child,
}

impl GuardedChild {
    /// Starts a command on the given cores. `output` is its standard output; standard error is piped.
    pub fn start(command: &[OsString], cores: &[usize], output: Stdio) -> io::Result<GuardedChild> {
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut guard = Command::new(THIS_PROGRAM);
        guard.arg0("compare").args(["guard", "--cores", &cores.join(","), "--"]).args(command);
        guard.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped()).process_group(0);
        Ok(GuardedChild { guard: guard.spawn()? })
    }

    /// The process group. Its id is the guard's process id.
    pub fn group(&self) -> u32 {
        self.guard.id()
    }

    /// The standard output, if it is piped and not taken yet.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.guard.stdout.take()
    }

    /// The standard error, if it is not taken yet.
    pub fn take_errors(&mut self) -> Option<ChildStderr> {
        self.guard.stderr.take()
    }

    /// The exit status, if the command has exited.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.guard.try_wait()
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        // The group id stays valid until the guard is waited for.
        if let Some(group) = i32::try_from(self.guard.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.guard.wait();
    }
}

/// The guard process: runs the command and exits with its status.
pub(crate) fn run(on: &[usize], command: &[OsString]) -> ExitCode {
    let Some((program, args)) = command.split_first() else { return ExitCode::from(NO_SUCH_COMMAND) };
    cores::raise_descriptor_limit();
    let pinned = cores::pin(on);
    let started = pinned.and_then(|()| Command::new(program).args(args).stdin(Stdio::null()).spawn());
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("error: cannot run {}: {error}", OsStr::new(program).display());
            return ExitCode::from(NO_SUCH_COMMAND);
        }
    };
    thread::spawn(|| {
        // The parent writes nothing. The read returns when the parent ends.
        let _ = io::stdin().read(&mut [0]);
        let _ = kill_current_process_group(Signal::KILL);
    });
    let status = child.wait().ok().and_then(|status| status.code());
    ExitCode::from(status.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
