//! `compare serve APP`: the servers that are part of this program, so that one build produces everything compared.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use gearshift::{App, Bind, cli};

use crate::yardstick;

/// Deadline of the gateway for the service it calls.
const DEADLINE: Duration = Duration::from_secs(10);

/// Arguments of `compare serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Application to serve
    app: Application,

    /// Address of the service that the gateway calls
    #[arg(long)]
    upstream: Vec<String>,

    #[command(flatten)]
    settings: cli::Settings,
}

/// The applications under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Application {
    /// The demo: one route per kind of work.
    Demo,
    /// The gateway, which calls a service several times at once.
    Gateway,
    /// Resizes images.
    Thumbnails,
    /// The reference server, which contains no Gearshift code and never changes.
    Yardstick,
}

impl Application {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Application::Demo => "demo",
            Application::Gateway => "gateway",
            Application::Thumbnails => "thumbnails",
            Application::Yardstick => "yardstick",
        }
    }
}

/// Serves until the process is killed.
pub(crate) fn run(serve: ServeArgs) -> ExitCode {
    let app = match serve.app {
        Application::Demo => App::from(demo::app()),
        Application::Gateway => gateway::app(serve.upstream, DEADLINE),
        Application::Thumbnails => App::from(thumbnails::app()),
        Application::Yardstick => return yardstick(&serve.settings.binds()),
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
