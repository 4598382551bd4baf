//! `cargo compare`: every backend, every kind of work, in ten minutes; with `--quick` in two.
//! With `--claims` what is said of them is checked, in six.

use std::process::ExitCode;

fn main() -> ExitCode {
    compare::cli::main()
}
