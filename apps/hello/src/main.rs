//! The smallest application: one sync route and one async route.
//!
//! `cargo run --release -p hello -- --backend tokio`, then <http://127.0.0.1:8000/later/you>.

use std::process::ExitCode;
use std::time::Duration;

use gearshift::{Request, Router, cli, sync};

async fn later(request: Request) -> String {
    request.runtime().sleep(Duration::from_millis(100)).await;
    format!("Hello, {}!\n", request.param("name").unwrap_or_default())
}

fn main() -> ExitCode {
    cli::run(Router::new().get("/", sync(|_| "Hello, World!\n")).get("/later/{name}", later))
}
