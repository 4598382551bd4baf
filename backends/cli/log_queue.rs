//! The queue between a log and the file to which it goes: standard error for the log, and the file of the access log.
//!
//! A write to standard error blocks while its reader does not read, for example a full pipe. An event loop therefore
//! only queues its lines, and one thread writes them. Lines beyond the limit of the queue are dropped and counted. The
//! thread reports their number once it can write again.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use gearshift_core::AccessSink;
use log::Level;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{AccessFlags, access};

/// The largest number of bytes that wait for the thread, which holds as many again while it writes them.
const MAX_QUEUED: usize = 1 << 20;
/// The longest wait of [`LogQueue::flush`].
const MAX_FLUSH: Duration = Duration::from_secs(1);

/// See the [module](self). Clones refer to the same queue.
#[derive(Clone, Default)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The number of lines that were dropped since the start.
    dropped: AtomicU64,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything is written.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    /// The lines that wait for the thread.
    lines: Vec<u8>,
    /// The number of lines that were dropped since the last report.
    dropped: u64,
    /// The number of lines that were dropped, of which the thread knows, and which it has not reported.
    unreported: u64,
    /// Whether the thread writes lines that it has taken.
    is_writing: bool,
    /// Whether the thread opens its file again once it has written the lines.
    reopens: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.reopens
    }
}

/// The file to which the thread of a queue writes.
pub(crate) struct Output {
    file: File,
    /// The path of the file, if it can be opened again.
    path: Option<PathBuf>,
    /// The name of the file in the lines of the log about it. `None` for the log itself.
    name: Option<String>,
    /// Whether the last line was written in part.
    is_torn: bool,
    /// Whether the last write has failed.
    is_failing: bool,
    /// The number of dropped lines that were not reported.
    dropped: u64,
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
        Ok(Output { path: Some(path.clone()), ..Output::named(&path.display().to_string(), file) })
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
    fn reopen(&mut self) {
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
    fn write(&mut self, lines: &[u8], dropped: u64) -> u64 {
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

impl LogQueue {
    /// Starts the thread of this name, which writes to `out`.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(crate) fn start(&self, thread: &str, mut out: Output) -> io::Result<()> {
        let queue = self.clone();
        thread::Builder::new().name(thread.into()).spawn(move || queue.write_to(&mut out)).map(drop)
    }

    /// Queues a line, with its line end, or drops it if the queue is full.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        match state.lines.len() + line.len() <= MAX_QUEUED {
            true => state.lines.extend_from_slice(line),
            false => self.drop_one(&mut state),
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// Counts a line that was not queued as dropped.
    pub(crate) fn count_dropped(&self) {
        self.drop_one(&mut self.state());
        self.0.filled.notify_one();
    }

    fn drop_one(&self, state: &mut State) {
        state.dropped += 1;
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes the thread open its file again, behind the lines that are queued now.
    pub(crate) fn reopen(&self) {
        self.state().reopens = true;
        self.0.filled.notify_one();
    }

    /// Waits until all lines are written, at most for [`MAX_FLUSH`].
    pub(crate) fn flush(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.is_empty();
        drop(self.0.emptied.wait_timeout_while(self.state(), MAX_FLUSH, is_busy));
    }

    /// Waits as [`LogQueue::flush`] does, and reports the lines of the access log that its file has not taken.
    pub(crate) fn close(&self) {
        self.flush();
        let state = self.state();
        let (is_late, dropped) = (state.is_writing || !state.is_empty(), state.unreported);
        drop(state);
        if is_late {
            log::warn!("the last lines of the access log are lost, because its file does not take them");
        } else if dropped > 0 {
            log::warn!(
                "the last {dropped} lines of the access log were dropped, because its file did not take them"
            );
        }
    }

    /// Writes the lines of the queue for as long as the process runs.
    fn write_to(&self, out: &mut Output) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state();
            (state.is_writing, state.unreported) = (false, out.dropped);
            if state.is_empty() {
                self.0.emptied.notify_all();
            }
            let waited = self.0.filled.wait_while(state, |state| state.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_writing = true;
            lines.clear();
            std::mem::swap(&mut lines, &mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            let reopens = std::mem::take(&mut state.reopens);
            drop(state);
            let lost = out.write(&lines, dropped);
            self.0.dropped.fetch_add(lost, Ordering::Relaxed);
            if reopens {
                out.reopen();
            }
        }
    }

    /// Locks the state, which is complete after each of its changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One write is one line, as the logger writes it.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

impl AccessSink for LogQueue {
    fn write(&self, line: &[u8]) {
        self.push(line);
    }

    fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for LogQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogQueue").field("dropped", &self.0.dropped).finish_non_exhaustive()
    }
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
    use std::io::{BufRead, BufReader, PipeReader};
    use std::os::fd::OwnedFd;

    use super::*;

    /// A queue that writes to a pipe, and the other end of the pipe.
    fn queue() -> (PipeReader, LogQueue) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let queue = LogQueue::default();
        queue.start("log", Output::of_log(OwnedFd::from(writer).into())).expect("a thread");
        (reader, queue)
    }

    #[test]
    fn pieces_are_whole_lines() {
        let split = |max| -> Vec<_> { pieces(b"a\nbc\ndefghi\n\nj", max).collect() };
        assert_eq!(split(usize::MAX), [b"a\nbc\ndefghi\n\n".as_slice(), b"j"]);
        assert_eq!(split(5), [b"a\nbc\n".as_slice(), b"defghi\n", b"\n", b"j"]);
        assert_eq!(split(4), [b"a\n".as_slice(), b"bc\n", b"defghi\n", b"\n", b"j"]);
        assert_eq!(pieces(b"", 4).count(), 0);
    }

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let (reader, queue) = queue();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        // The queue, the lines that the thread has taken, and the pipe hold fewer than these.
        let pushed = 4 * MAX_QUEUED / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        queue.count_dropped();
        let mut lines = BufReader::new(reader).lines();
        let (mut written, mut dropped) = (0, 0);
        while written + dropped < pushed + 1 {
            let line = lines.next().expect("the pipe is open").expect("the lines are UTF-8");
            match line.strip_prefix("WARN  ").and_then(|report| report.split_once(' ')) {
                Some((number, "log lines were dropped, because standard error did not take them")) => {
                    dropped += number.parse::<usize>().expect("a number");
                }
                _ => {
                    assert_eq!(line.len(), 1023, "{line}");
                    written += 1;
                }
            }
        }
        assert!(dropped > pushed / 4 && written >= MAX_QUEUED / 1024, "{dropped} dropped, {written} written");
        queue.push(b"the last\n");
        queue.flush();
        assert_eq!(lines.next().expect("the pipe is open").expect("a line"), "the last");
    }

    #[test]
    fn a_flush_of_a_blocked_queue_ends() {
        let (_reader, queue) = queue();
        queue.push(&vec![b'x'; MAX_QUEUED]);
        queue.flush();
        assert!(queue.state().is_writing);
    }
}
