//! The file to which a log goes: standard error for the log, and the file of the access log.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf, absolute};

use log::Level;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{AccessFlags, access};

/// The file to which the thread of a queue writes.
pub(crate) struct Output {
    file: File,
    /// The absolute path of the file, if it can be opened again. The program may have changed its directory then.
    path: Option<PathBuf>,
    /// The name of the file in the lines of the log about it. `None` for the log itself.
    name: Option<String>,
    /// Whether the last line was written in part.
    is_torn: bool,
    /// Whether the last write has failed.
    is_failing: bool,
    /// The number of dropped lines that were not reported.
    pub(crate) dropped: u64,
    /// The largest number of bytes of one write, unless a line is longer.
    max_write: usize,
}

impl Output {
    /// The output of the log.
    pub(crate) fn of_log(file: File) -> Output {
        Output {
            file,
            path: None,
            name: None,
            is_torn: false,
            is_failing: false,
            dropped: 0,
            max_write: usize::MAX,
        }
    }

    /// Limits the bytes of one write, unless a line is longer.
    pub(crate) fn with_max_write(self, max_write: usize) -> Output {
        Output { max_write, ..self }
    }

    /// The output of the access log on an open file.
    pub(crate) fn named(name: &str, file: File) -> Output {
        Output { name: Some(name.to_owned()), ..Output::of_log(file) }
    }

    /// The output of the access log on the file at `path`, which is created if it does not exist. Lines are appended.
    ///
    /// # Errors
    /// The file cannot be opened, or is a pipe that no program reads.
    pub(crate) fn open(path: PathBuf) -> io::Result<Output> {
        let file = append_to(&path, true)?;
        Ok(Output { path: Some(absolute(&path)?), ..Output::named(&path.display().to_string(), file) })
    }

    /// Checks that [`Output::open`] would succeed, without creating the file.
    ///
    /// # Errors
    /// As [`Output::open`].
    pub(crate) fn check(path: &Path) -> io::Result<()> {
        let missing = match append_to(path, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => error,
            opened => return opened.map(drop),
        };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(missing);
        }
        Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
    }

    /// Opens the file at its path again. If that fails, the old file stays.
    pub(crate) fn reopen(&mut self) {
        let Some(path) = self.path.clone() else { return };
        match Output::open(path) {
            Ok(output) => {
                *self = Output { dropped: self.dropped, max_write: self.max_write, ..output };
                log::info!("the access log was opened again");
            }
            Err(error) => {
                log::error!("the access log stays as it is, because the file cannot be opened: {error}")
            }
        }
    }

    /// Writes lines, and reports dropped ones. Returns the number of lines that are lost because the write fails.
    pub(crate) fn write(&mut self, lines: &[u8], dropped: u64) -> u64 {
        let Some(name) = &self.name else {
            let _ = self.write_all(lines);
            if dropped > 0 {
                // The dropped lines are later than all lines of a full queue.
                let why = "standard error did not take them";
                let report = format!("{:5} {dropped} log lines were dropped, because {why}\n", Level::Warn);
                let _ = self.write_all(report.as_bytes());
            }
            return 0;
        };
        self.dropped += dropped;
        let mut written = Ok(());
        if self.is_torn {
            written = self.write_all(b"\n");
        }
        let written = written.map_err(|(error, _)| (error, lines)).and_then(|()| self.write_all(lines));
        let Err((error, rest)) = written else {
            (self.is_torn, self.is_failing) = (false, false);
            if self.dropped > 0 {
                let dropped = std::mem::take(&mut self.dropped);
                log::warn!(
                    "{dropped} lines of the access log were dropped, because {name} did not take them"
                );
            }
            return 0;
        };
        let begun = &lines[..lines.len() - rest.len()];
        self.is_torn = begun.last().map_or(self.is_torn, |last| *last != b'\n');
        if !std::mem::replace(&mut self.is_failing, true) {
            log::error!("the access log cannot be written to {name}: {error}");
        }
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped += lost;
        lost
    }

    /// Writes whole lines at once where the limit of a write allows that.
    ///
    /// # Errors
    /// The error of a write, with the bytes that were not written.
    fn write_all<'a>(&self, bytes: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
        let mut begin = 0;
        for piece in pieces(bytes, self.max_write) {
            begin += piece.len();
            write_all(&self.file, piece).map_err(|(error, rest)| (error, &bytes[begin - rest.len()..]))?;
        }
        Ok(())
    }
}

/// Opens a file to append to it. The open of a pipe does not wait for the reader that the pipe lacks.
///
/// # Errors
/// The file cannot be opened, or is a pipe that no program reads.
fn append_to(path: &Path, create: bool) -> io::Result<File> {
    let mut options = File::options();
    let opened = options.append(true).create(create).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() == Some(Errno::ENXIO as i32) {
        true => io::Error::new(error.kind(), "it is a pipe that no program reads, or no file"),
        false => error,
    })?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// Splits lines into pieces of whole lines, of at most `max` bytes unless a line is longer.
fn pieces(mut lines: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    let end_of_line = |byte: &u8| *byte == b'\n';
    std::iter::from_fn(move || {
        let fits = lines.get(..max).unwrap_or(lines);
        let at = fits.iter().rposition(end_of_line).or_else(|| lines.iter().position(end_of_line));
        let (piece, rest) = lines.split_at(at.map_or(lines.len(), |at| at + 1));
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Writes `bytes`, and waits while `out` takes none.
///
/// # Errors
/// The error of a write, with the bytes that were not written.
fn write_all<'a>(mut out: &File, mut bytes: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the pipe or the terminal non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                _ = is_writable(out.as_fd(), PollTimeout::NONE)
            }
            Err(error) => return Err((error, bytes)),
        }
    }
    Ok(())
}

/// Waits until a write of one line to `out` does not block. Returns whether that is so before `timeout` is over.
pub(crate) fn is_writable(out: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(out, PollFlags::POLLOUT)], timeout).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines() {
        let split = |max| -> Vec<_> { pieces(b"a\nbc\ndefghi\n\nj", max).collect() };
        assert_eq!(split(usize::MAX), [b"a\nbc\ndefghi\n\n".as_slice(), b"j"]);
        assert_eq!(split(5), [b"a\nbc\n".as_slice(), b"defghi\n", b"\n", b"j"]);
        assert_eq!(split(4), [b"a\n".as_slice(), b"bc\n", b"defghi\n", b"\n", b"j"]);
        assert_eq!(pieces(b"", 4).count(), 0);
    }
}
