//! `cargo run -p links -- --backend threadpool --token secret`, then <http://127.0.0.1:8000/static/>.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gearshift::cli;
use links::store::Settings;

/// Short links
#[derive(Parser)]
#[command(version)]
struct Program {
    /// Directory of the uploaded files and of the links
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,

    /// Token of the JSON API
    #[arg(long, env = "LINKS_TOKEN", value_name = "TOKEN")]
    token: String,

    /// Key of the sessions, at least 64 characters
    #[arg(long, env = "LINKS_KEY", value_name = "KEY", value_parser = key)]
    key: String,

    /// Service that knows the titles of pages
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001/")]
    titles: String,

    #[command(flatten)]
    server: cli::Settings,
}

fn main() -> ExitCode {
    let Program { data, token, key, titles, server } = match cli::parse() {
        Ok(program) => program,
        Err(status) => return status,
    };
    tracing_subscriber::fmt::init();
    let (files, links) = (data.join("files"), data.join("links.json"));
    if let Err(error) = fs::create_dir_all(&files) {
        eprintln!("error: {}: {error}", files.display());
        return ExitCode::from(3);
    }
    let (key, timeout) = (key.into_bytes(), Duration::from_secs(10));
    cli::serve(&server, links::app(Settings { files, links, token, titles, key, timeout }))
}

fn key(key: &str) -> Result<String, &'static str> {
    if key.len() < 64 { Err("shorter than 64 characters") } else { Ok(key.to_owned()) }
}
