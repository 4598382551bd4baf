//! The servers that are in this program, so that one crate builds all that is compared: `compare serve APP`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use gearshift::{App, Bind, cli};

use crate::yardstick;

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
    /// None of gearshift, and the same for ever.
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

fn yardstick(binds: &[Bind]) -> ExitCode {
    let address = match binds.first() {
        Some(Bind::Tcp(address)) => address.parse(),
        _ => "".parse(),
    };
    let served = address.map_err(io::Error::other).and_then(yardstick::serve);
    served.map_or_else(
        |error| {
            eprintln!("error: {error}");
            ExitCode::from(3)
        },
        |()| ExitCode::SUCCESS,
    )
}
