//! Parsing the command line, with the environment and the file of `--config`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::{Status, USAGE, config_file, fail};

/// Parses the command line of a program that has more flags, with the environment and the file of `--config`. An
/// environment variable that is blank counts as not set.
///
/// # Errors
/// The status to exit with. The help or the settings are then on standard output, or one line with the error on
/// standard error.
///
/// [`Settings`](super::Settings) has an example.
pub fn parse<P: CommandFactory + FromArgMatches>() -> Result<P, ExitCode> {
    parse_from(env::args_os()).map_err(ExitCode::from)
}

/// As [`parse`], for a program whose arguments are not those of the process, for example because an interpreter runs
/// it. The first argument is the name of the program in the help and in the usage. The environment is that of the
/// process.
///
/// # Errors
/// As for [`parse`]; [`Status::code`] is the number to exit with.
///
/// ```
/// use clap::Parser;
/// use gearshift::cli::{self, Settings};
///
/// #[derive(Parser)]
/// struct Program {
///     #[command(flatten)]
///     settings: Settings,
/// }
///
/// let parsed = cli::parse_from::<Program>(["serve-script", "--processes", "4"]);
/// assert_eq!(parsed.map(|program| program.settings.processes()), Ok(Some(4)));
///
/// // This writes one line to standard error.
/// let status = cli::parse_from::<Program>(["serve-script", "--processes", "many"]).err();
/// assert_eq!(status.map(|status| status.code()), Some(2));
/// ```
pub fn parse_from<P: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<P, Status> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let command = without_blanks(P::command());
    let command = config_file::with_file(command, &args).map_err(|why| fail(USAGE, why))?;
    let given = command.try_get_matches_from(&args).map_err(|error| refused::<P>(&error, &args))?;
    let program = P::from_arg_matches(&given).map_err(|error| refused::<P>(&error, &args))?;
    match config_file::printed(&P::command(), &given) {
        None => Ok(program),
        Some(Ok(settings)) => {
            // The only possible error is a closed standard output, and there is no other place to report it.
            let _ = io::stdout().write_all(settings.as_bytes());
            Err(Status::SUCCESS)
        }
        Some(Err(why)) => Err(fail(USAGE, why)),
    }
}

/// Reports that the command line is not parsed: it asks for the help, or it is invalid.
fn refused<P: CommandFactory>(error: &clap::Error, args: &[OsString]) -> Status {
    if !error.use_stderr() {
        let _ = error.print();
        return Status::SUCCESS;
    }
    let line = one_line(error);
    let mut command = P::command();
    command.build();
    let Some(flag) = text(error, ContextKind::InvalidArg)
        .and_then(|shown| command.get_arguments().find(|flag| flag.to_string() == shown))
    else {
        return fail(USAGE, &line);
    };
    let given = args.iter().skip(1).find_map(|given| name_in(&given.to_string_lossy(), flag));
    match (given, variable_of(error, flag)) {
        (None, Some(variable)) => {
            let line = line.replacen(&format!(" for '{flag}'"), "", 1);
            fail(USAGE, format_args!("the environment variable {variable}: {line}"))
        }
        (Some(given), _) if flag.get_long() != given.strip_prefix("--") => {
            fail(USAGE, line.replacen(&format!("'{flag}'"), &format!("'{given}'"), 1))
        }
        _ => fail(USAGE, &line),
    }
}

/// What is wrong in an error, with the names that its message lists, and a similar flag or value that exists.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let message = error.to_string();
    let mut lines = message.lines();
    let mut what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if what.ends_with(':') {
        let names: Vec<_> = lines.by_ref().map(str::trim).take_while(|name| !name.is_empty()).collect();
        what = format!("{what} {}", names.join(", "));
    }
    // The other tip for a flag says how to pass it as a value, which is not what was meant.
    let is_wanted = error.kind() != ErrorKind::UnknownArgument
        || text(error, ContextKind::InvalidArg)
            .zip(text(error, ContextKind::SuggestedArg))
            .is_some_and(|(given, existing)| is_near(given, existing));
    match lines.find_map(|line| line.trim().strip_prefix("tip: ")).filter(|_| is_wanted) {
        Some(tip) => format!("{what}; {tip}"),
        None => what,
    }
}

/// A text of the context of an error.
fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether the name of one flag is likely meant by another: one begins with the other, or they differ in one place, by
/// at most two characters.
fn is_near(given: &str, existing: &str) -> bool {
    let given = given.split_once('=').map_or(given, |(name, _)| name);
    if given.starts_with(existing) || existing.starts_with(given) {
        return true;
    }
    let same = |(a, b): &(char, char)| a == b;
    let front = given.chars().zip(existing.chars()).take_while(same).count();
    let back = given.chars().rev().zip(existing.chars().rev()).take_while(same).count();
    [given, existing].iter().all(|name| name.chars().count() <= front + back + 2)
}

/// The name by which an argument of the command line gives a flag: `--processes`, an alias of it, or `-w`.
fn name_in(given: &str, flag: &Arg) -> Option<String> {
    if let Some(long) = given.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        let is_alias = || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name));
        return (flag.get_long() == Some(name) || is_alias()).then(|| format!("--{name}"));
    }
    let name = given.strip_prefix('-')?.chars().next()?;
    let is_alias = || flag.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&name));
    (flag.get_short() == Some(name) || is_alias()).then(|| format!("-{name}"))
}

/// The environment variable of `flag` that has the value which `error` reports.
fn variable_of(error: &clap::Error, flag: &Arg) -> Option<String> {
    let value = text(error, ContextKind::InvalidValue)?;
    let variable = flag.get_env().filter(|name| {
        let values = env::var(name).unwrap_or_default();
        values == value || values.split(',').any(|one| one == value)
    })?;
    Some(variable.to_string_lossy().into_owned())
}

/// Takes the environment variables that are blank from the flags.
fn without_blanks(command: Command) -> Command {
    let is_blank =
        |name: &OsStr| env::var_os(name).is_some_and(|value| value.to_string_lossy().trim().is_empty());
    let unset = |flag: Arg| match flag.get_env().is_some_and(is_blank) {
        true => flag.env(Resettable::Reset),
        false => flag,
    };
    command.mut_args(unset).mut_subcommands(without_blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_near_to_another_one_that_was_likely_meant() {
        for (given, existing, expected) in [
            ("--thread", "--threads", true),
            ("--keep_alive=5", "--keep-alive", true),
            ("--wrokers", "--workers", true),
            ("--access", "--access-log", true),
            ("--max-requests", "--max-request-line", false),
            ("--user", "--tls-cert", false),
            ("--pid", "--bind", false),
            ("--proxy-headers", "--max-head", false),
            ("--limit-concurrency", "--web-concurrency", false),
        ] {
            assert_eq!(is_near(given, existing), expected, "{given}");
        }
    }

    #[test]
    fn an_error_is_one_line_with_what_it_is_about() {
        let command = Command::new("program")
            .arg(Arg::new("app").value_name("APP").required(true))
            .arg(Arg::new("threads").long("threads"))
            .arg(Arg::new("one").long("one").conflicts_with_all(["threads", "two"]))
            .arg(Arg::new("two").long("two"));
        for (args, expected) in [
            (&["program"][..], "the following required arguments were not provided: <APP>"),
            (&["program", "x", "-c"], "unexpected argument '-c' found"),
            (
                &["program", "x", "--thread", "2"],
                "unexpected argument '--thread' found; a similar argument exists: '--threads'",
            ),
            (
                &["program", "x", "--one=1", "--two=2", "--threads=3"],
                "the argument '--one <one>' cannot be used with: --two <two>, --threads <threads>",
            ),
        ] {
            let error = command.clone().try_get_matches_from(args).expect_err("an invalid command line");
            assert_eq!(one_line(&error), expected);
        }
    }

    #[test]
    fn a_flag_is_named_as_it_was_given() {
        let flag =
            Arg::new("processes").long("processes").visible_alias("workers").short('w').alias("hidden");
        for (given, expected) in [
            ("--processes", Some("--processes")),
            ("--workers=0", Some("--workers")),
            ("--hidden", Some("--hidden")),
            ("-w0", Some("-w")),
            ("--work", None),
            ("-x", None),
            ("w", None),
            ("-", None),
        ] {
            assert_eq!(name_in(given, &flag).as_deref(), expected, "{given}");
        }
    }
}
