//! Parsing the command line, with the environment and the file of `--config`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
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
    let message = error.to_string();
    let line = one_line(&message);
    match variable_of(error, P::command(), args) {
        Some((variable, flag)) => {
            let line = line.replacen(&format!(" for '{flag}'"), "", 1);
            fail(USAGE, format_args!("the environment variable {variable}: {line}"))
        }
        None => fail(USAGE, &line),
    }
}

/// What is wrong in the message of an error, and a similar flag that exists.
pub(crate) fn one_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim);
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) => format!("{what}; {tip}"),
        None => what,
    }
}

/// The environment variable that has the value which `error` reports, and the flag that `error` names instead. `None`
/// if the flag is among `args`.
fn variable_of(error: &clap::Error, mut command: Command, args: &[OsString]) -> Option<(String, String)> {
    command.build();
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    // `--workers <N>`
    let (shown, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let flag = command.get_arguments().find(|flag| flag.to_string() == *shown)?;
    let is_given = |given: &str| {
        let long = flag.get_long().and_then(|name| given.strip_prefix("--")?.strip_prefix(name));
        let is_long = long.is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
        is_long || flag.get_short().is_some_and(|name| given.starts_with(&format!("-{name}")))
    };
    let variable = flag.get_env().filter(|name| {
        let values = env::var(name).unwrap_or_default();
        values == *value || values.split(',').any(|one| one == value)
    })?;
    let has_flag = args.iter().skip(1).any(|given| is_given(&given.to_string_lossy()));
    (!has_flag).then(|| (variable.to_string_lossy().into_owned(), shown.clone()))
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
