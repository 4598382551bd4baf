//! Printing the settings as a file.

use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml_writer::{ToTomlValue, TomlStringBuilder};

use super::{has_file, is_setting, opposed, second_flag, takes_lists};
use crate::cli::access_flags::truth;

/// The settings as the text of a file. `None` if they were not asked for.
pub(crate) fn printed(command: &Command, given: &ArgMatches) -> Option<Result<String, String>> {
    match given.subcommand() {
        _ if has_file(command) => given.get_flag("print_config").then(|| {
            let settings = command.get_arguments().filter(|flag| is_setting(command, flag));
            settings.map(|flag| line(command, flag, given)).collect()
        }),
        Some((name, given)) => printed(command.find_subcommand(name)?, given),
        None => None,
    }
}

/// The line of a setting. It is a comment if the flag is not set and clap knows no default.
fn line(command: &Command, flag: &Arg, given: &ArgMatches) -> Result<String, String> {
    let name = flag.get_long().unwrap_or_default();
    match value_in_toml(command, flag, given)? {
        Some(value) => Ok(format!("{name} = {value}\n")),
        None => {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let default = help.rsplit_once("[default: ").and_then(|(_, rest)| rest.split(']').next());
            Ok(format!("# {name}: {}\n", default.unwrap_or("not set")))
        }
    }
}

fn value_in_toml(command: &Command, flag: &Arg, given: &ArgMatches) -> Result<Option<String>, String> {
    let id = flag.get_id().as_str();
    let is_set = |id| given.try_get_one::<bool>(id).ok().flatten().copied().unwrap_or_default();
    let opposite = command
        .get_arguments()
        .find(|other| opposed(command, other).is_some_and(|of| of.get_id() == flag.get_id()));
    let is_opposed = opposite
        .is_some_and(|other| given.value_source(other.get_id().as_str()) == Some(ValueSource::CommandLine));
    // A switch that may have a value: `true`, `false`, or text.
    let is_switch = opposite.is_some() && flag.get_num_args().is_some_and(|number| number.min_values() == 0);
    match flag.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => {
            let is_given = is_set(id) == matches!(flag.get_action(), ArgAction::SetTrue);
            Ok(Some((is_given && !is_opposed).to_string()))
        }
        ArgAction::Set if is_switch => {
            let raw = given.get_raw(id).and_then(|mut values| values.next()).filter(|_| !is_opposed);
            let Some(raw) = raw else { return Ok(Some("false".to_owned())) };
            let text = utf8(flag, raw)?;
            Ok(Some(truth(text).map_or_else(|| text_in_toml(text), |is_set| is_set.to_string())))
        }
        ArgAction::Count => Ok(given.try_get_one::<u8>(id).ok().flatten().map(u8::to_string)),
        _ => {
            let raw = given.get_raw(id).or_else(|| given.get_raw(second_flag(id)?));
            let Some(raw) = raw else { return Ok(None) };
            let values = raw.map(|raw| utf8(flag, raw).map(text_in_toml)).collect::<Result<Vec<_>, _>>()?;
            Ok(match takes_lists(flag) {
                true => Some(format!("[{}]", values.join(", "))),
                false => values.into_iter().next(),
            })
        }
    }
}

/// The value of a flag as text.
fn utf8<'a>(flag: &Arg, raw: &'a OsStr) -> Result<&'a str, String> {
    raw.to_str().ok_or_else(|| format!("the value of {} is not UTF-8", flag.get_long().unwrap_or_default()))
}

/// A decimal number is printed as a number, and other text in quotes.
fn text_in_toml(text: &str) -> String {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.to_string(),
        _ => TomlStringBuilder::new(text).as_default().to_toml_value(),
    }
}
