//! The queue between the log and standard error.
//!
//! A write to standard error blocks while its reader does not read, for example a full pipe. An event loop therefore
//! only queues its lines, and one thread writes them. Lines beyond the limit of the queue are dropped and counted. The
//! thread reports their number once it can write again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::Level;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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
    /// Whether the thread writes lines that it has taken.
    is_writing: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

impl LogQueue {
    /// Starts the thread, which writes to `out`, not more than `max_write` bytes at once unless a line is longer.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(crate) fn start(&self, out: File, max_write: usize) -> io::Result<()> {
        let queue = self.clone();
        thread::Builder::new().name("log".into()).spawn(move || queue.write_to(&out, max_write)).map(drop)
    }

    /// Queues a line, with its line end, or drops it if the queue is full.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        match state.lines.len() + line.len() <= MAX_QUEUED {
            true => state.lines.extend_from_slice(line),
            false => state.dropped += 1,
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// Counts a line that was not queued as dropped.
    pub(crate) fn count_dropped(&self) {
        self.state().dropped += 1;
        self.0.filled.notify_one();
    }

    /// Waits until all lines are written, at most for [`MAX_FLUSH`].
    pub(crate) fn flush(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.is_empty();
        drop(self.0.emptied.wait_timeout_while(self.state(), MAX_FLUSH, is_busy));
    }

    /// Writes the lines of the queue for as long as the process runs.
    fn write_to(&self, out: &File, max_write: usize) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state();
            state.is_writing = false;
            if state.is_empty() {
                self.0.emptied.notify_all();
            }
            let waited = self.0.filled.wait_while(state, |state| state.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_writing = true;
            lines.clear();
            std::mem::swap(&mut lines, &mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            if dropped > 0 {
                // The dropped lines are later than all lines of a full queue.
                let why = "standard error did not take them";
                let _ = writeln!(lines, "{:5} {dropped} log lines were dropped, because {why}", Level::Warn);
            }
            pieces(&lines, max_write).for_each(|piece| write_all(out, piece));
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

/// Writes `bytes`, and waits while `out` takes none. If `out` fails, the rest is lost.
fn write_all(mut out: &File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the pipe or the terminal non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                _ = is_writable(out.as_fd(), PollTimeout::NONE)
            }
            Err(_) => return,
        }
    }
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
        queue.start(OwnedFd::from(writer).into(), usize::MAX).expect("a thread");
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
