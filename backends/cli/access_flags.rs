//! The flags of the access log.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use gearshift_core::{AccessFormat, Config};

use super::log_output::Output;
use super::log_queue::LogQueue;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AccessFlags {
    /// Log every response, and every request that was given up: to FILE, to standard output with -, or without a value
    /// to the log, which needs the log level info. SIGUSR1 opens FILE again
    #[arg(long, value_name = "FILE", env = "GEARSHIFT_ACCESS_LOG", value_parser = target)]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    access_log: Option<Target>,

    /// Do not log responses and requests, even if the environment asks for it
    #[arg(long, overrides_with = "access_log")]
    no_access_log: bool,

    /// Format of the access log: plain, common, combined or json [default: plain]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_ACCESS_LOG_FORMAT", value_parser = format)]
    access_log_format: Option<AccessFormat>,
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    None,
    Log,
    StandardOutput,
    File(PathBuf),
}

/// Reads a target.
fn target(text: &str) -> Result<Target, String> {
    match (text, truth(text)) {
        (_, Some(true)) => Ok(Target::Log),
        (_, Some(false)) => Ok(Target::None),
        ("-", _) => Ok(Target::StandardOutput),
        ("", _) => Err("the name of the file is empty".to_owned()),
        _ => Ok(Target::File(text.into())),
    }
}

/// Reads a word for true or false, as switches have them in the environment.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
        _ => None,
    }
}

fn format(text: &str) -> Result<AccessFormat, String> {
    match text {
        "plain" => Ok(AccessFormat::Plain),
        "common" => Ok(AccessFormat::Common),
        "combined" => Ok(AccessFormat::Combined),
        "json" => Ok(AccessFormat::Json),
        _ => Err("not plain, common, combined or json".to_owned()),
    }
}

impl AccessFlags {
    fn target(&self) -> &Target {
        match &self.access_log {
            Some(target) if !self.no_access_log => target,
            _ => &Target::None,
        }
    }

    /// Sets the settings, but for the place of the lines.
    pub(crate) fn set(&self, config: &mut Config) {
        config.access_log = *self.target() != Target::None;
        config.access_log_format = self.access_log_format.unwrap_or_default();
    }

    /// Opens the file, and starts the thread that writes to it, at most `max_write` bytes at once unless a line is
    /// longer. `None` if the lines go to the log or nowhere.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub(crate) fn open(&self, max_write: usize) -> Result<Option<LogQueue>, String> {
        let opened = match self.target() {
            Target::None | Target::Log => return Ok(None),
            Target::StandardOutput => {
                let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
                file.map(|file| Output::named("standard output", file))
            }
            Target::File(path) => Output::open(path.clone()),
        };
        let queue = LogQueue::default();
        match opened.and_then(|output| queue.start("access-log", output.with_max_write(max_write))) {
            Ok(()) => Ok(Some(queue)),
            Err(error) => Err(cannot_open(self.target(), &error)),
        }
    }

    /// Checks that [`AccessFlags::open`] would find a file that it can use, and creates none.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.target() {
            Target::File(path) => Output::check(path).map_err(|error| cannot_open(self.target(), &error)),
            Target::None | Target::Log | Target::StandardOutput => Ok(()),
        }
    }
}

fn cannot_open(target: &Target, error: &io::Error) -> String {
    match target {
        Target::File(path) => format!("the access log {} cannot be opened: {error}", path.display()),
        _ => format!("the access log cannot be opened: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_truth_is_no_file() {
        let file = |name: &str| Ok(Target::File(name.into()));
        for (text, expected) in [
            ("TRUE", Ok(Target::Log)),
            ("1", Ok(Target::Log)),
            ("off", Ok(Target::None)),
            ("-", Ok(Target::StandardOutput)),
            ("./true", file("./true")),
            ("/var/log/Access.log", file("/var/log/Access.log")),
        ] {
            assert_eq!(target(text), expected);
        }
    }
}
