//! The log lines of the servers in the process of the test.

use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

/// The target of the access log.
pub const ACCESS: &str = "gearshift::access";
/// The target of the stall detector.
pub const STALL: &str = "gearshift::stall";

/// The kept lines, each with its target, in the order in which they were logged.
static LINES: Mutex<Vec<(&'static str, String)>> = Mutex::new(Vec::new());

/// A logger that keeps the lines with the targets [`ACCESS`] and [`STALL`], and drops all others.
struct Kept;

fn kept_target(metadata: &Metadata<'_>) -> Option<&'static str> {
    [ACCESS, STALL].into_iter().find(|target| *target == metadata.target())
}

impl Log for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        kept_target(metadata).is_some()
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(target) = kept_target(record.metadata()) {
            let line = record.args().to_string();
            LINES.lock().unwrap_or_else(PoisonError::into_inner).push((target, line));
        }
    }

    fn flush(&self) {}
}

/// Keeps the lines that the servers of this process log from now on.
///
/// # Panics
/// If the process has a logger already.
pub fn keep() {
    static LOG: Kept = Kept;
    log::set_logger(&LOG).expect("the process has no other logger");
    log::set_max_level(LevelFilter::Info);
}

/// The kept lines with this target that contain `what`, in their order. All servers of the process share the log.
pub fn lines(target: &str, what: &str) -> Vec<String> {
    let all = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .filter(|(of, line)| *of == target && line.contains(what))
        .map(|(_, line)| line.clone())
        .collect()
}
