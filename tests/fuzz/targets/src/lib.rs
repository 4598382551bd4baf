//! What the fuzz targets check, as plain functions from bytes to a panic.
//!
//! The binaries under `tests/fuzz/fuzz_targets` pass the inputs of libFuzzer to one of [`TARGETS`]. This crate is a
//! member of the workspace, so `cargo test` on a stable toolchain replays the seeds and all regressions through the
//! same functions.

mod answers;
mod chopping;
mod chunked;
mod connection;
mod head;
mod input;
mod oracle;
mod pieces;
pub mod seeds;

pub use chopping::chopping;
pub use chunked::chunked;
pub use connection::connection;
pub use head::head;
pub use input::{Input, SCRIPT};

/// A fuzz target: it panics where an invariant does not hold.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 4] =
    [("connection", connection), ("head", head), ("chunked", chunked), ("chopping", chopping)];
