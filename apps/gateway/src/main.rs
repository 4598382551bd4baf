//! `cargo run --release -p gateway -- --backend sequential`, then <http://127.0.0.1:8000/fan/10/50>,
//! `/chain/10/50` and `/aggregate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gearshift::{Backend, BackendError, BoxError, TestServer, cli, http};

/// Calls micro-services, with the concurrency model of your choice
#[derive(Parser)]
#[command(version)]
struct Program {
    /// Service to call, http://HOST:PORT; may be given more than once [default: one of its own]
    #[arg(long, value_name = "URL", value_parser = authority)]
    upstream: Vec<String>,

    /// Milliseconds that a service has to answer
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
    // Stopped when this goes out of scope, after the gateway.
    let own = match upstream.is_empty().then(start_service).transpose() {
        Ok(own) => own,
        Err(error) => {
            eprintln!("error: no service to call: {error}");
            return ExitCode::from(3);
        }
    };
    upstream.extend(own.as_ref().map(|service| service.addr().to_string()));
    cli::serve(&settings, gateway::app(upstream, Duration::from_millis(deadline.into())))
}

/// A service in this process, on a backend that can wait for many at once if there is one.
fn start_service() -> Result<TestServer, BoxError> {
    let mut backends = Backend::available().iter();
    let backend = backends.find(|backend| backend.name() != "sequential").copied().or(Backend::default());
    Ok(TestServer::start(backend.ok_or(BackendError::None)?, gateway::sample_service)?)
}

/// `HOST:PORT` of an `http` URL.
fn authority(url: &str) -> Result<String, &'static str> {
    let url: http::Uri = url.parse().map_err(|_| "not a URL")?;
    match (url.scheme_str(), url.host(), url.path()) {
        (Some("http"), Some(host), "/") => Ok(format!("{host}:{}", url.port_u16().unwrap_or(80))),
        _ => Err("not http://HOST:PORT"),
    }
}
