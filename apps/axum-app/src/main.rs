//! The application of axum on the backend that the command line names.
//!
//! `cargo run -p axum-app -- --backend threadpool`, then <http://127.0.0.1:8000/>.

use std::process::ExitCode;

use gearshift::tower::service;

fn main() -> ExitCode {
    gearshift::cli::run(|_| service(axum_app::with_connect_info(axum_app::app())))
}
