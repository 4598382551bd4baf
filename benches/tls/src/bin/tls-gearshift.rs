//! The measured routes on gearshift, with its command line.

use std::process::ExitCode;

use gearshift::{Router, cli, sync};

fn main() -> ExitCode {
    let large = tls::large();
    let app = Router::new()
        .get("/plaintext", sync(|_| "Hello, World!"))
        .get("/large", sync(move |_| large.clone()));
    cli::run(app)
}
