//! The application of `docs/tokio-only.md` as a program, with its own upstream server.
//!
//! `cargo run -p tokio-only -- --backend mio`, then <http://127.0.0.1:8000/fetch>.

use std::process::ExitCode;

use gearshift::{Backend, Router, TestServer, cli, sync};

fn main() -> ExitCode {
    let backend = Backend::default().expect("backends are compiled in by default");
    let upstream = TestServer::start(backend, Router::new().get("/", sync(|_| "from upstream\n")));
    match upstream {
        Ok(upstream) => cli::run(tokio_only::app(upstream.url())),
        Err(error) => {
            eprintln!("the upstream did not start: {error}");
            ExitCode::FAILURE
        }
    }
}
