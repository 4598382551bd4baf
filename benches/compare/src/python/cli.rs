//! The flags of `cargo compare --python`.

use std::time::Duration;

use gearshift::Backend;

use super::app::App;
use super::comparison::Comparison;
use super::scenario;
use super::server::{Server, THREADS};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Python servers")]
pub(crate) struct PythonFlags {
    /// Measure Python servers instead: the same applications on each backend of Gearshift, on granian, uvicorn,
    /// hypercorn, gunicorn and waitress, within 90 minutes, or 10 with --quick. With --claims: common claims about
    /// Python servers, within 60 minutes, or 20. The flags above apply, except --app, --against and --path. The default
    /// generator is the built-in one
    #[arg(long, conflicts_with_all = ["app", "against", "path"])]
    pub(crate) python: bool,

    /// Python interpreter that has the servers and the frameworks
    #[arg(long, value_name = "PATH", env = "COMPARE_PYTHON", default_value = "python3")]
    python_bin: String,

    /// Application to measure; may be repeated [default: all but starlette]
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "python")]
    python_app: Vec<App>,

    /// Server to measure, such as granian, gunicorn, gunicorn-sync, gearshift or gearshift-mio; may be repeated
    /// [default: all that are installed]
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "python")]
    server: Vec<String>,

    /// Number of threads of servers that have threads
    #[arg(long, value_name = "N", requires = "python", default_value_t = THREADS, value_parser = crate::cli::count)]
    threads: usize,
}

/// The flags that `--python` shares with the comparison of backends.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Ids of the scenarios; all if it is empty.
    pub(crate) scenarios: Vec<String>,
    /// Numbers of connections, instead of those of the scenarios.
    pub(crate) connections: Vec<usize>,
    /// The backends of Gearshift.
    pub(crate) backends: Vec<Backend>,
    /// Whether to measure less, in less time.
    pub(crate) quick: bool,
    /// Whether to check the claims.
    pub(crate) claims: bool,
    /// Number of rounds.
    pub(crate) rounds: usize,
    /// Length of each measurement, if the user chose it.
    pub(crate) window: Option<Duration>,
    /// Name and version of wrk, if it is asked for.
    pub(crate) wrk: Option<String>,
}

impl PythonFlags {
    /// The comparison that the flags ask for.
    ///
    /// # Errors
    /// [`Failure::Usage`] for an unknown server, [`Failure::Scenario`] for an unknown scenario.
    pub(crate) fn comparison(&self, shared: Shared) -> Result<Comparison, Failure> {
        let mut servers = Server::all(&shared.backends);
        if let Some(name) =
            self.server.iter().find(|name| !servers.iter().any(|server| server.is_named(name)))
        {
            let known: Vec<String> = servers.iter().map(|server| server.name()).collect();
            return Err(Failure::Usage(format!(
                "unknown server '{name}'; known servers: {}",
                known.join(", ")
            )));
        }
        servers
            .retain(|server| self.server.is_empty() || self.server.iter().any(|name| server.is_named(name)));
        let mut scenarios = scenario::chosen(&shared.scenarios, &shared.connections, shared.quick)?;
        if shared.claims && shared.scenarios.is_empty() {
            scenarios.clear();
        }
        Ok(Comparison {
            python: self.python_bin.clone(),
            apps: if self.python_app.is_empty() { App::DEFAULT.to_vec() } else { self.python_app.clone() },
            servers,
            scenarios,
            threads: self.threads,
            claims: shared.claims,
            rounds: shared.rounds,
            window: shared.window,
            limit: limit(&shared),
            wrk: shared.wrk,
        })
    }
}

/// The time limit, which does not apply when `--duration` is given.
fn limit(shared: &Shared) -> Duration {
    let minutes = match (shared.claims, shared.quick) {
        (false, false) => 90,
        (false, true) => 10,
        (true, false) => 60,
        (true, true) => 20,
    };
    Duration::from_secs(minutes * 60)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[arg(long)]
        app: bool,
        #[arg(long)]
        against: bool,
        #[arg(long)]
        path: bool,
        #[command(flatten)]
        flags: PythonFlags,
    }

    fn comparison(line: &str, claims: bool) -> Result<Comparison, Failure> {
        let words = ["compare", "--python"].into_iter().chain(line.split_whitespace());
        let program = Program::try_parse_from(words).expect("valid flags");
        program.flags.comparison(Shared {
            scenarios: Vec::new(),
            connections: Vec::new(),
            backends: Backend::available().to_vec(),
            quick: false,
            claims,
            rounds: 3,
            window: None,
            wrk: None,
        })
    }

    #[test]
    fn everything_but_starlette_is_the_default() {
        let all = comparison("", false).expect("valid");
        assert_eq!((all.apps.as_slice(), all.scenarios.len()), (App::DEFAULT.as_slice(), 5));
        assert_eq!(all.servers.len(), Server::all(Backend::available()).len());
    }

    #[test]
    fn applications_and_servers_can_be_chosen() {
        let some =
            comparison("--python-app starlette,flask --server granian,gunicorn", false).expect("valid");
        assert_eq!(some.apps, [App::Starlette, App::Flask]);
        let names: Vec<String> = some.servers.iter().map(|server| server.name()).collect();
        assert_eq!(names, ["granian", "gunicorn-sync", "gunicorn-gthread"]);
    }

    #[test]
    fn an_unknown_server_is_refused_with_the_known_ones() {
        let failure = comparison("--server apache", false).expect_err("apache");
        assert_eq!(failure.status(), 2);
        assert!(failure.to_string().contains("gearshift-mio") && failure.to_string().contains("waitress"));
    }

    #[test]
    fn claims_alone_run_no_scenario() {
        assert!(comparison("", true).expect("valid").scenarios.is_empty());
    }
}
