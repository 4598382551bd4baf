//! The checks of the fuzz targets: plain functions that take bytes and panic if an invariant does not hold.
//!
//! The binaries under `tests/fuzz/fuzz_targets` pass the inputs of libFuzzer to one of [`TARGETS`]. This crate is a
//! member of the workspace, so that `cargo test` on a stable toolchain replays the seeds, and every input that once
//! found a fault, through the same functions.

mod answers;
mod chopping;
mod chunked;
mod connection;
mod head;
mod input;
mod oracle;
mod pieces;
mod proxies;
pub mod seeds;

pub use chopping::chopping;
pub use chunked::chunked;
pub use connection::connection;
pub use head::head;
pub use input::{Input, SCRIPT};
pub use proxies::proxies;

/// A fuzz target, which panics if an invariant does not hold.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("connection", connection),
    ("head", head),
    ("chunked", chunked),
    ("chopping", chopping),
    ("proxies", proxies),
];
