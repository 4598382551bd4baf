//! The command line: servers, scenarios, durations and the report directory. [`crate::failure`] lists the exit
//! statuses.

mod flags;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use gearshift::Backend;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::comparison::Comparison;
use crate::failure::{self, Failure};
use crate::load::wrk;
use crate::python::{self, Shared};
use crate::scenario::{self, Options, Scenario};
use crate::subject::Subject;
use crate::{baseline, guard, report, serve, table};

pub(crate) use flags::count;
use flags::{Flags, Generator};

/// Measures an application under load on each backend and reports which backend suits which work
#[derive(Debug, Parser)]
#[command(name = "compare", version, args_conflicts_with_subcommands = true, args_override_self = true)]
struct Program {
    #[command(subcommand)]
    internal: Option<Internal>,

    #[command(flatten)]
    flags: Flags,
}

/// Commands that this program starts itself with.
#[derive(Debug, Subcommand)]
enum Internal {
    #[command(hide = true)]
    Serve(Box<serve::ServeArgs>),
    #[command(hide = true)]
    Guard {
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// Runs the program and returns its exit status.
pub fn main() -> ExitCode {
    let Program { internal, flags } = match gearshift::cli::parse() {
        Ok(program) => program,
        Err(status) => return status,
    };
    match internal {
        Some(Internal::Serve(serve)) => return serve::run(*serve),
        Some(Internal::Guard { cores, command }) => return guard::run(&cores, &command),
        None => {}
    }
    match compare(&flags) {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

/// What to measure.
enum Chosen {
    Backends { subjects: Vec<Subject>, scenarios: Vec<Scenario>, options: Options },
    Python(python::comparison::Comparison),
}

fn compare(flags: &Flags) -> Result<ExitCode, Failure> {
    let begin = Instant::now();
    if flags.list_scenarios {
        return list_scenarios(flags);
    }
    let chosen = chosen(flags)?;
    let before = flags.baseline.as_deref().map(baseline::read).transpose()?;
    report::prepare(&flags.out)?;
    end_on_signals()?;

    let mut results = match &chosen {
        Chosen::Python(comparison) => comparison.measure()?,
        Chosen::Backends { subjects, scenarios, options } => {
            let comparison = Comparison {
                subjects,
                scenarios,
                claims: flags.claims,
                path: options.path.as_deref().unwrap_or("/plaintext"),
                preflight: options.path.is_some() || !flags.scenario.is_empty(),
                rounds: rounds(flags),
                window: flags.duration,
                limit: limit(flags),
                wrk: wrk_version(flags.generator)?,
                before: before.as_ref(),
            };
            comparison.measure()?
        }
    };
    results.command = command();
    if let Some(before) = before {
        if before.machine.cpu != results.machine.cpu || before.machine.cores != results.machine.cores {
            eprintln!("note: the baseline is from another machine: {}", before.machine.cpu);
        }
        results.changes = baseline::changes(&before, &results);
    }
    results.seconds = begin.elapsed().as_secs_f64();
    report::write(&results, &flags.out)?;
    println!("{}", table::render(&results));
    println!("{}", flags.out.join("index.html").display());
    let worse = results.changes.iter().any(|change| change.verdict == baseline::WORSE);
    // Claims about Python servers are expected to fail on some of them.
    let fails = !flags.python.python && results.claims.iter().any(|claim| !claim.holds);
    Ok(if worse || fails { ExitCode::from(failure::WORSE) } else { ExitCode::SUCCESS })
}

fn chosen(flags: &Flags) -> Result<Chosen, Failure> {
    if flags.python.python {
        let shared = Shared {
            scenarios: flags.scenario.clone(),
            connections: flags.connections.clone(),
            backends: backends(flags)?,
            quick: flags.quick,
            claims: flags.claims,
            rounds: rounds(flags),
            window: flags.duration,
            wrk: match flags.generator {
                Generator::Wrk => wrk_version(Generator::Wrk)?,
                Generator::Auto | Generator::BuiltIn => None,
            },
        };
        return Ok(Chosen::Python(flags.python.comparison(shared)?));
    }
    let options = options(flags);
    let mut scenarios = scenario::chosen(&options, &flags.scenario, has_other_servers(flags))?;
    if flags.claims && flags.scenario.is_empty() {
        scenarios.clear();
    }
    Ok(Chosen::Backends { subjects: subjects(flags)?, scenarios, options })
}

fn list_scenarios(flags: &Flags) -> Result<ExitCode, Failure> {
    let listed: Vec<(&str, &str)> = if flags.python.python {
        python::scenario::listed().collect()
    } else {
        let own = scenario::chosen(&options(flags), &flags.scenario, has_other_servers(flags))?;
        own.into_iter().map(|scenario| (scenario.id, scenario.question)).collect()
    };
    listed.into_iter().for_each(|(id, question)| println!("{id:12} {question}"));
    Ok(ExitCode::SUCCESS)
}

fn options(flags: &Flags) -> Options {
    let path = flags.path.clone().or(has_other_servers(flags).then(|| "/".into()));
    Options { path, connections: flags.connections.clone(), quick: flags.quick }
}

fn has_other_servers(flags: &Flags) -> bool {
    flags.app.is_some() || !flags.against.is_empty()
}

fn rounds(flags: &Flags) -> usize {
    flags.rounds.unwrap_or(if flags.quick { 2 } else { 3 })
}

/// The time limit of the comparison. It does not apply when `--duration` is given.
fn limit(flags: &Flags) -> Duration {
    Duration::from_secs(match (flags.quick, flags.claims && flags.scenario.is_empty()) {
        (true, _) => 105,
        (false, true) => 340,
        (false, false) => 560,
    })
}

/// The command line, for the report.
fn command() -> String {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args = shlex::try_join(args.iter().map(String::as_str)).unwrap_or_else(|_| args.join(" "));
    format!("compare {args}").trim_end().into()
}

fn backends(flags: &Flags) -> Result<Vec<Backend>, Failure> {
    let named = |name: &String| name.parse::<Backend>().map_err(Failure::Backend);
    let backends = flags.backend.iter().map(named).collect::<Result<Vec<Backend>, Failure>>()?;
    Ok(if backends.is_empty() { Backend::available().to_vec() } else { backends })
}

fn subjects(flags: &Flags) -> Result<Vec<Subject>, Failure> {
    let backends = backends(flags)?;
    let mut subjects = match &flags.app {
        Some(app) => {
            backends.into_iter().map(|backend| Subject::app(app, backend)).collect::<Result<_, _>>()?
        }
        None => backends.into_iter().map(Subject::own).collect::<Vec<_>>(),
    };
    for against in &flags.against {
        subjects.push(Subject::against(against)?);
    }
    let twice = subjects
        .iter()
        .enumerate()
        .find(|(at, one)| subjects[..*at].iter().any(|other| other.name == one.name));
    match twice {
        Some((_, one)) => Err(Failure::Usage(format!("two servers are named {}", one.name))),
        None if subjects.is_empty() => Err(Failure::Backend(gearshift::BackendError::None)),
        None => Ok(subjects),
    }
}

fn wrk_version(generator: Generator) -> Result<Option<String>, Failure> {
    match generator {
        Generator::BuiltIn => Ok(None),
        Generator::Auto => Ok(wrk::version()),
        Generator::Wrk => match wrk::version() {
            Some(version) => Ok(Some(version)),
            None => Err(Failure::Usage("wrk is not installed".into())),
        },
    }
}

/// Exits this process on SIGINT and SIGTERM. The guards notice and kill the servers.
fn end_on_signals() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            eprintln!("error: interrupted");
            std::process::exit(failure::INTERRUPTED);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.flags)
    }

    #[test]
    fn flags_are_consistent() {
        <Program as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas_or_repeated() {
        let flags =
            flags("compare --backend mio,tokio --backend smol --connections 1,16").expect("valid flags");
        assert_eq!(flags.backend, ["mio", "tokio", "smol"]);
        assert_eq!(flags.connections, [1, 16]);
    }

    #[test]
    fn refuses_bad_values() {
        for wrong in
            ["--connections 0", "--duration 0", "--duration 2x", "--rounds x", "--path x", "--path /\u{e4}"]
        {
            assert!(flags(&format!("compare {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_servers_of_the_same_name_are_refused() {
        let flags = flags("compare --backend mio --against mio={port}").expect("valid flags");
        assert_eq!(subjects(&flags).expect_err("duplicate name").status(), 2);
    }
}
