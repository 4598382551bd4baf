//! The logs of the process: they are set up once, and flushed at the end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::OnceLock;

use nix::poll::PollTimeout;

use super::log_output::{Output, is_writable};
use super::log_queue::LogQueue;

/// The largest number of bytes whose write to a pipe is not mixed with those of other processes (`PIPE_BUF`).
const ATOMIC_WRITE: usize = 4096;

/// The queue of the log, once it is set up.
pub(crate) static LOG: OnceLock<LogQueue> = OnceLock::new();
/// The queue of the access log, if it has a file.
pub(crate) static ACCESS_LOG: OnceLock<LogQueue> = OnceLock::new();
/// The number of the process in each line, if several processes share standard error; otherwise empty.
pub(crate) static OF_PROCESS: OnceLock<String> = OnceLock::new();

/// Opens the file of the access log again.
pub(crate) fn reopen() {
    match ACCESS_LOG.get() {
        Some(access_log) => access_log.reopen(),
        None => log::info!("the access log has no file that could be opened again"),
    }
}

/// The largest number of bytes of one write to a log. `has_siblings` is whether other processes write to it too.
pub(crate) fn max_write(has_siblings: bool) -> usize {
    if has_siblings { ATOMIC_WRITE } else { usize::MAX }
}

/// Sets up the log of the process, and prevents reports of panics from blocking. A logger that the program has set
/// stays. If several processes share standard error, each line begins with the level and the number of its process.
pub(crate) fn log_to_stderr(level: log::LevelFilter, has_siblings: bool) -> io::Result<()> {
    let queue = LogQueue::default();
    let of_process = if has_siblings { format!("[{}] ", std::process::id()) } else { String::new() };
    let _ = OF_PROCESS.set(of_process.clone());
    let plain = move |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        writeln!(out, "{:5} {of_process}{}", record.level(), record.args())
    };
    let target = env_logger::Target::Pipe(Box::new(queue.clone()));
    // Any peer can make rustls log errors, where another crate has enabled that.
    let of_rustls = if level < log::LevelFilter::Debug { log::LevelFilter::Off } else { level };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).filter_module("rustls", of_rustls).format(plain).target(target);
    if builder.try_init().is_err() {
        return Ok(());
    }
    // A duplicate of the descriptor, because a thread that waits in a write to `io::stderr` would hold its lock.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    queue.start("log", Output::of_log(out).with_max_write(max_write(has_siblings)))?;
    let report = panic::take_hook();
    let dropped = queue.clone();
    panic::set_hook(Box::new(move |panic| match is_writable(io::stderr().as_fd(), PollTimeout::ZERO) {
        true => report(panic),
        false => dropped.count_dropped(),
    }));
    let _ = LOG.set(queue);
    Ok(())
}

/// Writes the log lines that are still queued when it is dropped.
pub(crate) struct FlushedLog;

impl Drop for FlushedLog {
    fn drop(&mut self) {
        // A failure of the access log is a line of the log.
        ACCESS_LOG.get().into_iter().for_each(LogQueue::close);
        LOG.get().into_iter().for_each(LogQueue::flush);
    }
}
