//! The servers that are in this program, so that one crate builds all that is compared: `compare serve APP`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;
use std::{io, thread};

use gearshift::{App, Bind, cli};

/// How long the gateway waits for its service.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Which one
    app: Served,

    /// The service that the gateway calls
    #[arg(long)]
    upstream: Vec<String>,

    #[command(flatten)]
    settings: cli::Settings,
}

/// The applications that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Served {
    /// A route for each kind of work.
    Demo,
    /// Calls that are made at once.
    Gateway,
    /// Pictures made smaller.
    Thumbnails,
    /// None of gearshift; see [`yardstick`].
    Yardstick,
}

impl Served {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Served::Demo => "demo",
            Served::Gateway => "gateway",
            Served::Thumbnails => "thumbnails",
            Served::Yardstick => "yardstick",
        }
    }
}

/// Serves until it is killed.
pub(crate) fn run(serve: Serve) -> ExitCode {
    let app = match serve.app {
        Served::Demo => App::new(demo::app),
        Served::Gateway => gateway::app(serve.upstream, DEADLINE),
        Served::Thumbnails => App::new(thumbnails::app),
        Served::Yardstick => return yardstick(serve.settings.binds()),
    };
    cli::serve(&serve.settings, app)
}

/// A server that never changes: a thread for each connection, which answers each line that is empty. What a request
/// costs here is what the system and the machine take for it at that hour, and nothing of what is compared.
fn yardstick(binds: &[Bind]) -> ExitCode {
    let Some(Bind::Tcp(address)) = binds.first() else { return ExitCode::from(2) };
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("error: {address}: {error}");
            return ExitCode::from(3);
        }
    };
    for peer in listener.incoming().flatten() {
        thread::spawn(move || answer(&peer));
    }
    ExitCode::SUCCESS
}

fn answer(mut peer: &TcpStream) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let mut lines = BufReader::new(peer);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line == b"\r\n" {
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!")?;
        }
        line.clear();
    }
    Ok(())
}
