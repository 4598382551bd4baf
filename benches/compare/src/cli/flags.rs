//! The flags of the comparison, and the values that they take.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::python::PythonFlags;

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Scenario to run; may be repeated [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) scenario: Vec<String>,

    /// Backend to measure; may be repeated [default: all that are compiled in]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) backend: Vec<String>,

    /// Number of connections, instead of the scenario's own; may be repeated
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = count)]
    pub(super) connections: Vec<usize>,

    /// Length of each measurement in seconds [default: as long as the time limit allows]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,

    /// Number of times each measurement is made [default: 3; 2 with --quick]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) rounds: Option<usize>,

    /// Finish within two minutes, with fewer and shorter measurements
    #[arg(long)]
    pub(super) quick: bool,

    /// Check common claims about the backends, within six minutes
    #[arg(long, conflicts_with_all = ["app", "against"])]
    pub(super) claims: bool,

    /// Your own application, started on each backend as 'CMD {backend} {port}'
    #[arg(long, value_name = "COMMAND")]
    pub(super) app: Option<String>,

    /// Another server to compare with, as 'NAME=CMD {port}'; may be repeated
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(super) against: Vec<String>,

    /// Path to request in scenarios that work with any path [default: /plaintext of the demo, / of other servers]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub(super) path: Option<String>,

    /// results.json of an earlier run; the report then lists the changes since that run
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,

    /// Load generator: wrk where it is installed and suitable, or the built-in one
    #[arg(long, value_name = "WORD", default_value = "auto")]
    pub(super) generator: Generator,

    /// Directory of the report
    #[arg(long, value_name = "DIR", default_value = "compare-report")]
    pub(super) out: PathBuf,

    /// List the scenarios and exit
    #[arg(long)]
    pub(super) list_scenarios: bool,

    #[command(flatten)]
    pub(super) python: PythonFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Generator {
    Auto,
    Wrk,
    BuiltIn,
}

pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a number above 0".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.01..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be a number of seconds from 0.01 to 3600".into())
}

fn path(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.starts_with('/') && printable {
        Ok(text.into())
    } else {
        Err("must be a path that begins with /".into())
    }
}
