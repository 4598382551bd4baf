//! Reading the file: its values become the defaults of the flags.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use super::{NO_KEYS, has_file, is_setting, opposed, second_flag, takes_lists};
use crate::cli::parse::one_line;

/// The maximum size of a file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The command with the values of the file that `args` or the environment names, as the defaults of its flags. The
/// error is one line.
pub(crate) fn with_file(command: Command, args: &[OsString]) -> Result<Command, String> {
    // The flags that the file has to set are missing. Other errors are found again when the result is parsed.
    match command.clone().ignore_errors(true).try_get_matches_from(args) {
        Ok(given) => filled(command, &given),
        Err(_) => Ok(command),
    }
}

fn filled(command: Command, given: &ArgMatches) -> Result<Command, String> {
    if has_file(&command) {
        let path = given.get_one::<PathBuf>("config");
        let command = command.mut_arg("is_config_read", |flag| flag.default_value("true"));
        return path.map_or(Ok(command.clone()), |path| filled_from(command, path));
    }
    let Some((name, given)) = given.subcommand() else { return Ok(command) };
    match command.find_subcommand(name).cloned() {
        Some(inner) => {
            let inner = filled(inner, given)?;
            Ok(command.mut_subcommand(name, |_| inner))
        }
        None => Ok(command),
    }
}

/// Reads a file of at most [`MAX_FILE`] bytes, which may be a pipe.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!("larger than {} KiB", MAX_FILE / 1024))),
        false => Ok(text),
    }
}

fn filled_from(mut command: Command, path: &Path) -> Result<Command, String> {
    let shown = path.display();
    let text = read(path).map_err(|error| format!("{shown}: {error}"))?;
    let line_of =
        |span: Range<usize>| 1 + text.as_bytes()[..span.start].iter().filter(|b| **b == b'\n').count();
    let table = DeTable::parse(&text).map_err(|error| {
        format!("{shown}:{}: {}", line_of(error.span().unwrap_or_default()), error.message())
    })?;
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    // A value is tried alone, so that an error is about this value.
    let trial = command.clone().mut_args(|flag| flag.env(Resettable::Reset));
    for (key, value) in entries {
        let line = line_of(key.span());
        let in_line = |why: String| format!("{shown}:{line}: {}: {why}", key.get_ref());
        let Some(flag) = flag_of(&command, key.get_ref()) else {
            return Err(in_line(match value.get_ref() {
                DeValue::Table(_) => "unknown key; the file has no sections".to_owned(),
                _ => no_key(&trial, key.get_ref()),
            }));
        };
        let values = values_of(flag, value.get_ref()).map_err(in_line)?;
        if takes_values(flag) {
            values.iter().try_for_each(|value| try_value(&trial, flag, value)).map_err(in_line)?;
        }
        let id = flag.get_id().as_str();
        let id = second_flag(id).unwrap_or(id).to_owned();
        command = command.mut_arg(id, |flag| flag.required(false).default_values(values));
    }
    Ok(command)
}

fn flag_of<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|flag| flag.get_long() == Some(key) && is_setting(command, flag))
}

fn takes_values(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Why there is no such key, with a similar one.
fn no_key(trial: &Command, key: &str) -> String {
    let flag = trial.get_arguments().find(|flag| flag.get_long() == Some(key));
    if let Some(other) = flag.and_then(|flag| opposed(trial, flag)).and_then(Arg::get_long) {
        return format!("not a key; write {other} = false");
    }
    if flag.is_some_and(|flag| NO_KEYS.contains(&flag.get_id().as_str())) {
        return "not a key, but a flag of the command line".to_owned();
    }
    let has_alias = |flag: &&Arg| flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&key));
    if let Some(flag) = trial.get_arguments().find(has_alias).and_then(Arg::get_long) {
        return format!("unknown key; did you mean {flag}?");
    }
    let error = trial.clone().try_get_matches_from(["program".to_owned(), format!("--{key}")]).err();
    let similar = match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(similar)) => similar.strip_prefix("--"),
        _ => None,
    };
    match similar.filter(|similar| flag_of(trial, similar).is_some()) {
        Some(similar) => format!("unknown key; did you mean {similar}?"),
        None => "unknown key".to_owned(),
    }
}

/// The values as the command line would have them.
fn values_of(flag: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match (flag.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(is_set)) => Ok(vec![is_set.to_string()]),
        (ArgAction::SetFalse, DeValue::Boolean(is_set)) => Ok(vec![(!is_set).to_string()]),
        (ArgAction::SetTrue | ArgAction::SetFalse, other) => {
            Err(format!("wants true or false, not {}", kind(other)))
        }
        (ArgAction::Count, value) => match value_of(value).ok().filter(|count| count.parse::<u8>().is_ok()) {
            Some(count) => Ok(vec![count]),
            None => Err("wants a number from 0 to 255".to_owned()),
        },
        (_, DeValue::Array(values)) if takes_lists(flag) => {
            values.iter().map(|value| value_of(value.get_ref())).collect()
        }
        (_, DeValue::Array(_)) => Err("wants one value, not a list".to_owned()),
        (_, value) => Ok(vec![value_of(value)?]),
    }
}

fn value_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) => Err(format!("wants a decimal number or a string, not {number}")),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        other => Err(format!("wants a string or a number, not {}", kind(other))),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Passes a value to the parser of the flag.
fn try_value(trial: &Command, flag: &Arg, value: &str) -> Result<(), String> {
    let given = format!("--{}={value}", flag.get_long().unwrap_or_default());
    match trial.clone().try_get_matches_from(["program".to_owned(), given]) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) => {
            let line = one_line(&error);
            Err(match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(flag)) => line.replacen(&format!(" for '{flag}'"), "", 1),
                _ => line,
            })
        }
        // Errors about other flags, which this trial does not have.
        _ => Ok(()),
    }
}
