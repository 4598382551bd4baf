//! The queue between a log and the file to which it goes: standard error for the log, and the file of the access log.
//!
//! A write to standard error blocks while its reader does not read, for example a full pipe. An event loop therefore
//! only queues its lines, and one thread writes them. Lines beyond the limit of the queue are dropped and counted. The
//! thread reports their number once it can write again.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use gearshift_core::AccessSink;

use super::log_output::Output;

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
