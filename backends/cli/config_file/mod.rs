//! The file of `--config`. Its keys are the names of the flags: the values of the file become the defaults of the flags
//! that have these names, before the command line is parsed. A flag therefore has precedence over its environment
//! variable, the variable over the file, and each value is read by the parser of its flag. This module names none of
//! the settings, so a new flag is a new key.

mod printing;
mod reading;

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

pub(super) use printing::printed;
pub(super) use reading::with_file;

/// The flags that the command line alone has.
const NO_KEYS: [&str; 4] = ["config", "check_config", "print_config", "list_backends"];

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FileFlags {
    /// File with settings in TOML; its keys are the names of the other flags, such as keep-alive = "5s"
    #[arg(long, value_name = "FILE", env = "GEARSHIFT_CONFIG")]
    config: Option<PathBuf>,

    /// Check the settings and the files that they name, and exit without listening
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Print the settings as a file for --config, and exit
    #[arg(long)]
    print_config: bool,

    /// Set by `with_file`.
    #[arg(long, hide = true)]
    is_config_read: bool,
}

impl FileFlags {
    /// Whether the program has parsed its flags without [`with_file`], although a flag needs it.
    pub(crate) fn were_ignored(&self) -> bool {
        (self.config.is_some() || self.print_config) && !self.is_config_read
    }
}

/// Whether the command has [`FileFlags`].
fn has_file(command: &Command) -> bool {
    command.get_arguments().any(|flag| flag.get_id() == "is_config_read")
}

/// Whether a key of the file sets this flag: not if it is hidden, ends the program at once, or is the opposite of
/// another flag, as `--no-color` is of `--color`.
fn is_setting(command: &Command, flag: &Arg) -> bool {
    use ArgAction::{Append, Count, Set, SetFalse, SetTrue};
    flag.get_long().is_some()
        && !flag.is_hide_set()
        && matches!(flag.get_action(), Set | Append | SetTrue | SetFalse | Count)
        && !NO_KEYS.contains(&flag.get_id().as_str())
        && opposed(command, flag).is_none()
}

/// The flag whose opposite `flag` is.
fn opposed<'a>(command: &'a Command, flag: &Arg) -> Option<&'a Arg> {
    let name = flag.get_long()?.strip_prefix("no-")?;
    command.get_arguments().find(|other| other.get_long() == Some(name))
}

/// The flag that has the second environment variable of the flag `id`. The file sets this flag, so that both variables
/// have precedence over the file.
fn second_flag(id: &str) -> Option<&'static str> {
    (id == "workers").then_some("web_concurrency")
}

fn takes_lists(flag: &Arg) -> bool {
    let takes_many = flag.get_num_args().is_some_and(|number| number.max_values() > 1);
    matches!(flag.get_action(), ArgAction::Append) || flag.get_value_delimiter().is_some() || takes_many
}

#[cfg(test)]
mod tests;
