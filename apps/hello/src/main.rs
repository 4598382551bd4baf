//! `cargo run --release -p hello -- --backend tokio`, then <http://127.0.0.1:8000/hello/you>.

use std::process::ExitCode;

use gearshift::{ParamError, Request, Router, Runtime, cli, sync};

/// A sync handler and an async one; on every backend.
fn app(_runtime: Runtime) -> Router {
    Router::new().get("/", sync(|_| "Hello, World!")).get("/hello/{name}", hello)
}

async fn hello(request: Request) -> Result<String, ParamError> {
    let name: String = request.parse_param("name")?;
    Ok(format!("Hello, {name}!"))
}

fn main() -> ExitCode {
    cli::run(app)
}
