//! The file of `--config`. Its keys are the names of the flags: the values of the file become the defaults of the flags
//! that have these names, before the command line is parsed. A flag therefore has precedence over its environment
//! variable, the variable over the file, and each value is read by the parser of its flag. This module names none of
//! the settings, so a new flag is a new key.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};
use toml_writer::{ToTomlValue, TomlStringBuilder};

use super::access_flags::truth;
use super::one_line;

/// The flags that the command line alone has.
const NO_KEYS: [&str; 4] = ["config", "check_config", "print_config", "list_backends"];

/// The maximum size of a file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Flags whose environment has a second variable: the file sets the flag of that variable, which has precedence then.
const SECOND_VARIABLES: [(&str, &str); 1] = [("workers", "web_concurrency")];

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

/// The command with the values of the file that `args` or the environment names, as the defaults of its flags. The error
/// is one line.
pub(super) fn with_file(command: Command, args: &[OsString]) -> Result<Command, String> {
    // The flags that the file has to set are missing. Other errors are found again when the result is parsed.
    match command.clone().ignore_errors(true).try_get_matches_from(args) {
        Ok(given) => filled(command, &given),
        Err(_) => Ok(command),
    }
}

/// The settings as the text of a file. `None` if they were not asked for.
pub(super) fn printed(command: &Command, given: &ArgMatches) -> Option<Result<String, String>> {
    match given.subcommand() {
        _ if has_file(command) => given.get_flag("print_config").then(|| {
            let settings = command.get_arguments().filter(|flag| is_setting(command, flag));
            settings.map(|flag| line(command, flag, given)).collect()
        }),
        Some((name, given)) => printed(command.find_subcommand(name)?, given),
        None => None,
    }
}

fn has_file(command: &Command) -> bool {
    command.get_arguments().any(|flag| flag.get_id() == "is_config_read")
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
        let second = SECOND_VARIABLES.iter().find(|(first, _)| *first == id).map(|(_, second)| *second);
        let id = second.unwrap_or(id).to_owned();
        command = command.mut_arg(id, |flag| flag.required(false).default_values(values));
    }
    Ok(command)
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

fn flag_of<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|flag| flag.get_long() == Some(key) && is_setting(command, flag))
}

fn takes_values(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

fn takes_lists(flag: &Arg) -> bool {
    let takes_many = flag.get_num_args().is_some_and(|number| number.max_values() > 1);
    matches!(flag.get_action(), ArgAction::Append) || flag.get_value_delimiter().is_some() || takes_many
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
            let line = one_line(&error.to_string());
            Err(match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(flag)) => line.replacen(&format!(" for '{flag}'"), "", 1),
                _ => line,
            })
        }
        // Errors about other flags, which this trial does not have.
        _ => Ok(()),
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
    let opposite = command.get_arguments().find(|other| {
        let name = other.get_long().and_then(|name| name.strip_prefix("no-"));
        name.is_some() && name == flag.get_long()
    });
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
            let second = SECOND_VARIABLES.iter().find(|(first, _)| *first == id).map(|(_, second)| *second);
            let raw = given.get_raw(id).or_else(|| given.get_raw(second?));
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;
    use crate::cli::Settings;

    #[derive(Parser)]
    struct Server {
        #[command(flatten)]
        settings: Settings,
    }

    /// An application with flags of every kind.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
        #[arg(long)]
        database: String,
        #[arg(long)]
        color: bool,
        #[arg(long, overrides_with = "color")]
        no_color: bool,
        #[arg(long, action = ArgAction::SetFalse)]
        plain: bool,
        #[arg(short, long, action = ArgAction::Count)]
        verbose: u8,
        #[arg(long)]
        tag: Vec<String>,
        #[arg(long, value_parser = ["low", "high"], default_value = "low")]
        level: String,
        #[arg(long, default_value_t = 1.5)]
        ratio: f64,
        #[arg(long, conflicts_with = "database")]
        memory: bool,
        #[arg(long, hide = true)]
        hidden: bool,
        path: Option<String>,
    }

    /// The server of this program is a subcommand.
    #[derive(Parser)]
    enum Commands {
        Serve {
            #[command(flatten)]
            settings: Box<Settings>,
            #[arg(long)]
            name: String,
        },
        Other,
    }

    /// A file that is removed when this is dropped.
    struct File(PathBuf);

    impl File {
        fn new(text: &str) -> File {
            static FILES: AtomicUsize = AtomicUsize::new(0);
            let nth = FILES.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("gearshift-{}-config-{nth}.toml", std::process::id()));
            fs::write(&path, text).expect("a directory for temporary files");
            File(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Parses a command line, in which `%` stands for the path of a file.
    fn parse<P: CommandFactory + FromArgMatches>(
        text: &str,
        flags: &[&str],
    ) -> Result<(P, ArgMatches), String> {
        let file = File::new(text);
        let path = file.0.to_str().expect("UTF-8");
        let flags = flags.iter().map(|flag| flag.replace('%', path).into());
        let args: Vec<OsString> = std::iter::once("program".into()).chain(flags).collect();
        let command = with_file(P::command(), &args).map_err(|error| error.replace(path, "FILE"))?;
        let given = command.try_get_matches_from(args).map_err(|error| one_line(&error.to_string()))?;
        let program = P::from_arg_matches(&given).map_err(|error| error.to_string())?;
        Ok((program, given))
    }

    /// Parses the flags of [`Program`] after those that name the file.
    fn program(text: &str, flags: &str) -> Result<Program, String> {
        let flags: Vec<_> = ["--config", "%"].into_iter().chain(flags.split_whitespace()).collect();
        Ok(parse(text, &flags)?.0)
    }

    #[test]
    fn a_file_sets_each_kind_of_flag() {
        let text = "database = 'a, b'\ncolor = true\nplain = true\nverbose = 3\ntag = ['x', 7, true]\n\
                    level = 'high'\nratio = 2.25\nmemory = false\nworkers = 1_0\n";
        let program = program(text, "").expect("the settings are valid");
        assert_eq!(program.database, "a, b");
        assert!(program.color && !program.plain && !program.no_color && !program.memory && !program.hidden);
        assert_eq!((program.verbose, program.ratio, &*program.level), (3, 2.25, "high"));
        assert_eq!(program.tag, ["x", "7", "true"]);
        assert_eq!(program.settings.config().workers, Some(10));
        assert!(!program.settings.file.were_ignored());
    }

    #[test]
    fn a_flag_has_precedence_over_the_file() {
        let text =
            "database = 'file'\ncolor = true\nplain = false\ntag = ['x', 'y']\nverbose = 1\nworkers = 2\n";
        let flags = "--database flag --no-color --plain --tag z -vv -w 3 place";
        let program = program(text, flags).expect("the settings are valid");
        assert_eq!(program.database, "flag");
        assert!(program.no_color && !program.plain);
        assert_eq!((program.verbose, program.tag, program.path), (2, vec!["z".into()], Some("place".into())));
        assert_eq!(program.settings.config().workers, Some(3));
    }

    #[test]
    fn the_file_may_be_named_anywhere_in_the_command_line() {
        for flags in [&["-w", "2", "--config", "%"][..], &["--config=%", "-w2"], &["place", "--config", "%"]]
        {
            let (program, _) = parse::<Program>("database = 'file'", flags).expect("the settings are valid");
            assert_eq!(program.database, "file", "{flags:?}");
        }
        let refused = parse::<Program>("database = 'file'", &["-w", "2"]).err();
        assert!(refused.is_some_and(|why| why.contains("required")));
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        for (line, error) in [
            ("keep_alive = 5", "keep_alive: unknown key; did you mean keep-alive?"),
            ("databse = 'x'", "databse: unknown key; did you mean database?"),
            ("nothing = 5", "nothing: unknown key"),
            ("[server]", "server: unknown key; the file has no sections"),
            ("'' = 5", ": unknown key"),
            ("'=' = 5", "=: unknown key"),
            ("path = 'positional'", "path: unknown key"),
            ("hidden = true", "hidden: unknown key"),
            ("web-concurrency = 2", "web-concurrency: unknown key"),
            ("config = 'x'", "config: not a key, but a flag of the command line"),
            ("print-config = true", "print-config: not a key, but a flag of the command line"),
            ("list-backends = true", "list-backends: not a key, but a flag of the command line"),
            ("no-access-log = true", "no-access-log: not a key; write access-log = false"),
            ("no-color = true", "no-color: not a key; write color = false"),
            ("no-date-header = 'yes'", "no-date-header: wants true or false, not a string"),
            ("no-server-header = 1", "no-server-header: wants true or false, not a number"),
            ("plain = ['x']", "plain: wants true or false, not a list"),
            ("workers = [1]", "workers: wants one value, not a list"),
            ("workers = 2001-01-01", "workers: wants a string or a number, not a date"),
            ("workers = { n = 1 }", "workers: wants a string or a number, not a table"),
            ("tag = [['x']]", "tag: wants a string or a number, not a list"),
            ("[keep-alive]", "keep-alive: wants a string or a number, not a table"),
            ("unix-mode = 0o660", "unix-mode: wants a decimal number or a string, not 0o660"),
            ("workers = 0", "workers: invalid value '0': not a number of 1 or more"),
            ("workers = -1", "workers: invalid value '-1': not a number of 1 or more"),
            (
                "keep-alive = 1.5",
                "keep-alive: invalid value '1.5': '.5' is not a unit of time: ms, s, m or h",
            ),
            ("max-body = '1t'", "max-body: invalid value '1t': 't' is not a unit of size: k, m or g"),
            ("max-requests = 'x'", "max-requests: invalid value 'x': invalid digit found in string"),
            ("bind = ['[::1]:0', 'fd:3']", "bind: invalid value 'fd:3': 'fd:3' is written fd://3"),
            ("level = 'medium'", "level: invalid value 'medium'"),
            ("ratio = 'x'", "ratio: invalid value 'x': invalid float literal"),
            ("verbose = 300", "verbose: wants a number from 0 to 255"),
            ("verbose = true", "verbose: wants a number from 0 to 255"),
        ] {
            let text = format!("database = 'x'\n\n{line}\n");
            assert_eq!(program(&text, "").err(), Some(format!("FILE:3: {error}")), "{line}");
        }
    }

    #[test]
    fn errors_of_the_syntax_name_the_file_and_the_line() {
        for (text, line) in [("workers = 1\nworkers = 2\n", 2), ("workers 1\n", 1), ("\n\nbind = x\n", 3)] {
            let refused = program(text, "").expect_err("it is invalid");
            let why = refused.strip_prefix(&format!("FILE:{line}: ")).unwrap_or_default();
            assert!(!why.is_empty() && !why.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn a_file_beyond_the_maximum_size_is_not_read_to_its_end() {
        let largest = "#".repeat(1 << 20);
        let flags = ["--config", "%"];
        assert!(parse::<Server>(&largest, &flags).is_ok());
        let refused = parse::<Server>(&(largest + "#"), &flags).err();
        assert_eq!(refused.as_deref(), Some("FILE: larger than 1024 KiB"));
        let refused = parse::<Server>("", &["--config", "/dev/zero"]).err();
        assert_eq!(refused.as_deref(), Some("/dev/zero: larger than 1024 KiB"));
    }

    #[test]
    fn the_first_error_of_the_file_is_reported() {
        let refused = program("zzzz = 1\naaaa = 1\n", "").err();
        assert_eq!(refused.as_deref(), Some("FILE:1: zzzz: unknown key"));
    }

    #[test]
    fn the_flags_of_a_subcommand_are_keys() {
        let text = "name = 'file'\nworkers = 2\n";
        let flags = ["serve", "--config", "%", "--print-config"];
        let (served, given) = parse::<Commands>(text, &flags[..3]).expect("the settings are valid");
        let Commands::Serve { settings, name } = served else { panic!("it is the subcommand") };
        assert_eq!((settings.config().workers, &*name), (Some(2), "file"));
        assert!(printed(&Commands::command(), &given).is_none());
        let (_, given) = parse::<Commands>(text, &flags).expect("the settings are valid");
        let text = printed(&Commands::command(), &given).expect("it is asked for").expect("it is UTF-8");
        assert!(text.contains("\nname = \"file\"\n"), "{text}");
        let refused = parse::<Commands>("nam = 1", &flags).err();
        assert_eq!(refused.as_deref(), Some("FILE:1: nam: unknown key; did you mean name?"));
        assert!(parse::<Commands>("", &["other"]).is_ok_and(|(which, _)| matches!(which, Commands::Other)));
    }

    #[test]
    fn a_program_that_parses_its_flags_without_the_file_is_noticed() {
        for (flag, is_ignored) in [("--config=x", true), ("--print-config", true), ("--check-config", false)]
        {
            let server = Server::try_parse_from(["program", flag]).expect("the flags are valid");
            assert_eq!(server.settings.file.were_ignored(), is_ignored, "{flag}");
        }
    }

    fn print<P: CommandFactory + FromArgMatches>(text: &str, flags: &[&str]) -> String {
        let flags: Vec<_> = ["--config", "%", "--print-config"].iter().chain(flags).copied().collect();
        let (_, given) = parse::<P>(text, &flags).expect("the settings are valid");
        printed(&P::command(), &given).expect("it is asked for").expect("it is UTF-8")
    }

    #[test]
    fn printed_settings_are_a_file_with_the_same_settings() {
        let file = "access-log = true\ncolor = true\nmax-fields = 9";
        let mut flags = vec!["--database", "\u{e9}\"\u{7}'\n\\", "--tag", "7", "--tag", "07", "--tag", "-"];
        flags.extend(["--bind", "127.0.0.1:1,unix:/a b", "--no-color", "--plain", "-vv", "--ratio=-0.5"]);
        flags.extend(["-w3", "--keep-alive", "500ms", "--unix-mode", "060", "--level", "high"]);
        flags.extend(["--forwarded-allow-ips", "10.0.0.0/8,unix", "--no-date-header", "--threads", "4"]);
        let text = print::<Program>(file, &flags);
        for line in [
            "bind = [\"127.0.0.1:1\", \"unix:/a b\"]",
            "workers = 3",
            "keep-alive = \"500ms\"",
            "unix-mode = \"060\"",
            "forwarded-allow-ips = \"10.0.0.0/8,unix\"",
            "no-date-header = true",
            "access-log = true",
            "max-fields = 9",
            "# max-age: 1h",
            "color = false",
            "plain = true",
            "verbose = 2",
            "tag = [7, \"07\", \"-\"]",
            "ratio = \"-0.5\"",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line} in {text}");
        }
        assert_eq!(print::<Program>(&text, &[]), text);
        let settings = |text: &str, flags: &[&str]| {
            let flags: Vec<_> = ["--config", "%"].iter().chain(flags).copied().collect();
            let (program, _) = parse::<Program>(text, &flags).expect("the settings are valid");
            let shown = format!("{:?} {:?}", program.settings.config(), program.settings.binds());
            (shown, program.database, program.tag, program.verbose, program.plain, program.ratio)
        };
        assert_eq!(settings(&text, &[]), settings(file, &flags));
    }

    #[test]
    fn each_setting_is_printed_with_its_default() {
        let text = print::<Server>("", &[]);
        let command = Server::command();
        let settings: Vec<_> = command.get_arguments().filter(|flag| is_setting(&command, flag)).collect();
        let lines: Vec<_> = text.lines().map(|line| line.trim_start_matches("# ")).collect();
        assert!(lines.len() == settings.len() && lines.len() > 45, "{text}");
        for (line, flag) in lines.iter().zip(settings) {
            assert!(line.starts_with(flag.get_long().expect("it is a setting")), "{line}");
        }
        for line in
            ["# keep-alive: 5s", "# workers: one per core", "log-level = \"info\"", "access-log = false"]
        {
            assert!(text.lines().any(|printed| printed == line), "{line} in {text}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_valid() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let page = fs::read_to_string(page).expect("the document");
        let blocks: Vec<_> =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(blocks.len() > 1, "{blocks:?}");
        for block in blocks {
            // The lines that are commented out are valid too.
            for text in [block, &block.replace("\n#", "\n").replace("\n ", "\n# ")] {
                if let Err(error) = parse::<Server>(text, &["--config", "%"]) {
                    panic!("{error} in {text}");
                }
            }
        }
    }
}
