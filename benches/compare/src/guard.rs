//! Processes that do not outlive this one, however it ends: not by a panic, not by Ctrl-C, not by SIGKILL.
//!
//! Whatever is started is started by a guard, which is this program under another command: it leads a process group of
//! its own, and kills that group once its standard input ends. The other end of that pipe is ours, and the system
//! closes it whatever becomes of us. No `unsafe` hook between fork and exec is needed for it, the process that is
//! measured has no thread for it, and what it starts itself goes with it, unless it leaves the group.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process_group};

use crate::cores;

/// What a shell exits with if there is no such command.
const NO_SUCH_COMMAND: u8 = 127;
/// This program, even if its file was replaced meanwhile.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// A command that runs, and is killed with all that it started when this is dropped.
#[derive(Debug)]
pub struct Guarded {
    guard: Child,
}

impl Guarded {
    /// Starts a command on these processors. Its output is taken or dropped, its errors are to be taken.
    pub fn start(command: &[OsString], cores: &[usize], output: Stdio) -> io::Result<Guarded> {
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut guard = Command::new(OURSELVES);
        guard.arg0("compare").args(["guard", "--cores", &cores.join(","), "--"]).args(command);
        guard.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped()).process_group(0);
        Ok(Guarded { guard: guard.spawn()? })
    }

    /// The process group, which is the guard's own process id, too.
    pub fn group(&self) -> u32 {
        self.guard.id()
    }

    /// What it prints.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.guard.stdout.take()
    }

    /// What it prints on standard error.
    pub fn take_errors(&mut self) -> Option<ChildStderr> {
        self.guard.stderr.take()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.guard.try_wait()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The group is there as long as the guard was not waited for, or others are in it.
        if let Some(group) = i32::try_from(self.guard.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.guard.wait();
    }
}

/// The guard itself: runs the command, and exits as it does.
pub(crate) fn run(on: &[usize], command: &[OsString]) -> ExitCode {
    let Some((program, args)) = command.split_first() else { return ExitCode::from(NO_SUCH_COMMAND) };
    cores::lift_descriptor_limit();
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
        // Nothing is ever written.
        let _ = io::stdin().read(&mut [0]);
        let _ = kill_current_process_group(Signal::KILL);
    });
    let status = child.wait().ok().and_then(|status| status.code());
    ExitCode::from(status.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
