//! `cargo compare` measures every backend in every scenario in ten minutes, `cargo compare --quick` in two.
//! `cargo compare --claims` checks common claims about the backends in six.

use std::process::ExitCode;

fn main() -> ExitCode {
    compare::cli::main()
}
