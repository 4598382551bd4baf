//! `cargo run --release -p compare`: every backend, every kind of work, in ten minutes; with `--quick` in two.

use std::process::ExitCode;

fn main() -> ExitCode {
    compare::cli::main()
}
