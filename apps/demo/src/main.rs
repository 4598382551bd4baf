//! `cargo run --release -p demo -- --backend tokio`, then <http://127.0.0.1:8000>.

use std::process::ExitCode;

fn main() -> ExitCode {
    gearshift::cli::run(demo::app())
}
