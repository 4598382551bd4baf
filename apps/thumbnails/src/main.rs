//! `cargo run --release -p thumbnails -- --backend tokio`, then <http://127.0.0.1:8000> describes the routes.

use std::process::ExitCode;

fn main() -> ExitCode {
    gearshift::cli::run(thumbnails::app())
}
