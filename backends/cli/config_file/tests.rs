use std::env;
use std::ffi::OsString;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use super::*;
use crate::cli::Settings;
use crate::cli::parse::one_line;

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
    #[arg(long, alias = "colour")]
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
fn parse<P: CommandFactory + FromArgMatches>(text: &str, flags: &[&str]) -> Result<(P, ArgMatches), String> {
    let file = File::new(text);
    let path = file.0.to_str().expect("UTF-8");
    let flags = flags.iter().map(|flag| flag.replace('%', path).into());
    let args: Vec<OsString> = std::iter::once("program".into()).chain(flags).collect();
    let command = with_file(P::command(), &args).map_err(|error| error.replace(path, "FILE"))?;
    let given = command.try_get_matches_from(args).map_err(|error| one_line(&error))?;
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
    let text = "database = 'file'\ncolor = true\nplain = false\ntag = ['x', 'y']\nverbose = 1\nworkers = 2\n";
    let flags = "--database flag --no-color --plain --tag z -vv -w 3 place";
    let program = program(text, flags).expect("the settings are valid");
    assert_eq!(program.database, "flag");
    assert!(program.no_color && !program.plain);
    assert_eq!((program.verbose, program.tag, program.path), (2, vec!["z".into()], Some("place".into())));
    assert_eq!(program.settings.config().workers, Some(3));
}

#[test]
fn the_file_may_be_named_anywhere_in_the_command_line() {
    for flags in [&["-w", "2", "--config", "%"][..], &["--config=%", "-w2"], &["place", "--config", "%"]] {
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
        ("colour = true", "colour: unknown key; did you mean color?"),
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
        ("keep-alive = 1.5", "keep-alive: invalid value '1.5': '.5' is not a unit of time: ms, s, m or h"),
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
    for (flag, is_ignored) in [("--config=x", true), ("--print-config", true), ("--check-config", false)] {
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
    for line in ["# keep-alive: 5s", "# workers: one per core", "log-level = \"info\"", "access-log = false"]
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
