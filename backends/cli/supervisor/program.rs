//! The program that the supervisor starts: its path and its command line, as they were when the supervisor started.
//!
//! The path is the one by which the supervisor was started, and not that of its file. A file that replaces the program,
//! or a symbolic link on the path that is changed, is therefore what the next process runs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{self, Path, PathBuf};
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cli::supervised;

/// The variables of systemd that are for the supervisor alone.
const OF_SYSTEMD: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// See the [module](self).
pub(super) struct Program {
    path: PathBuf,
    name: OsString,
    args: Vec<OsString>,
}

impl Program {
    /// The program that this process runs.
    ///
    /// # Errors
    /// The system does not tell which file that is.
    pub(super) fn of_this_process() -> io::Result<Program> {
        let mut args = env::args_os();
        let name = args.next().unwrap_or_default();
        let this = env::current_exe()?;
        // The first argument may be any text.
        let path = find(&name).filter(|path| is_same_file(path, &this)).unwrap_or(this);
        Ok(Program { path, name, args: args.collect() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a process, which inherits `control` and `listeners`. The listeners must be inheritable.
    ///
    /// # Errors
    /// The system cannot start the program.
    pub(super) fn start(&self, control: impl AsFd, listeners: &[impl AsFd]) -> io::Result<Child> {
        make_inheritable(&control)?;
        let numbers = listeners.iter().map(|listener| listener.as_fd().as_raw_fd());
        let inherited = supervised::variable(control.as_fd().as_raw_fd(), numbers);
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.args).env(supervised::VARIABLE, inherited);
        for name in OF_SYSTEMD {
            command.env_remove(name);
        }
        command.spawn()
    }
}

/// Lets the processes that this one starts inherit a descriptor.
///
/// # Errors
/// The system refuses it.
pub(super) fn make_inheritable(descriptor: impl AsFd) -> io::Result<()> {
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// The absolute path of a program that a shell finds by this name.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if Path::new(name).components().count() > 1 {
        return path::absolute(name).ok();
    }
    let paths = env::var_os("PATH")?;
    let found = env::split_paths(&paths).map(|directory| directory.join(name)).find(|path| path.is_file());
    path::absolute(found?).ok()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let shell = find(OsStr::new("sh")).expect("there is a shell");
        assert!(shell.is_absolute() && shell.ends_with("sh"));
        assert_eq!(find(OsStr::new("/a/program")), Some("/a/program".into()));
        let here = env::current_dir().expect("there is one");
        assert_eq!(find(OsStr::new("./program")), Some(here.join("program")));
        assert_eq!(find(OsStr::new("a program that does not exist")), None);
        assert_eq!(find(OsStr::new("")), None);
    }
}
