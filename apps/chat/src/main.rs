//! The chat on the backend that the command line names.
//!
//! `cargo run --release -p chat -- --backend mio`, then <http://127.0.0.1:8000/?room=lobby> in two windows.

use std::process::ExitCode;

fn main() -> ExitCode {
    gearshift::cli::run(|_| chat::app())
}
