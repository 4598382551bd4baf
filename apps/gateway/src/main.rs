//! `cargo run --release -p gateway -- --backend sequential`, then <http://127.0.0.1:8000/fan/10/50>,
//! `/chain/10/50` and `/aggregate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gearshift::{Backend, BackendError, BoxError, TestServer, cli, http};

/// Calls micro-services on the concurrency model of your choice
#[derive(Parser)]
#[command(version)]
struct Program {
    /// Service to call, http://HOST:PORT; can be repeated [default: a sample service in this process]
    #[arg(long, value_name = "URL", value_parser = authority)]
    upstream: Vec<String>,

    /// Milliseconds until a call to a service fails
    #[arg(long, value_name = "MS", default_value = "1000")]
    deadline: u32,

    #[command(flatten)]
    settings: cli::Settings,
}

fn main() -> ExitCode {
    let Program { mut upstream, deadline, settings } = match cli::parse() {
        Ok(program) => program,
        Err(status) => return status,
    };
    // The sample service stops when it goes out of scope, after the gateway.
    let sample = match upstream.is_empty().then(start_sample).transpose() {
        Ok(sample) => sample,
        Err(error) => {
            eprintln!("error: the sample service did not start: {error}");
            return ExitCode::from(3);
        }
    };
    upstream.extend(sample.as_ref().map(|service| service.addr().to_string()));
    cli::serve(&settings, gateway::app(upstream, Duration::from_millis(deadline.into())))
}

/// Starts a service in this process, if possible on a backend that runs several handlers at once.
fn start_sample() -> Result<TestServer, BoxError> {
    let mut backends = Backend::available().iter();
    let backend = backends.find(|backend| !backend.threads_block()).copied().or(Backend::default());
    Ok(TestServer::start(backend.ok_or(BackendError::None)?, gateway::service())?)
}

/// Reads `http://HOST:PORT` and returns `HOST:PORT`.
fn authority(url: &str) -> Result<String, &'static str> {
    let url: http::Uri = url.parse().map_err(|_| "not a URL")?;
    match (url.scheme_str(), url.host(), url.path()) {
        (Some("http"), Some(host), "/") => Ok(format!("{host}:{}", url.port_u16().unwrap_or(80))),
        _ => Err("not http://HOST:PORT"),
    }
}
