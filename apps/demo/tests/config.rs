//! The file of `--config`, as a shell starts the program with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use gearshift::Backend;
use tempfile::NamedTempFile;

/// A file that is removed when this is dropped.
struct File(NamedTempFile);

impl File {
    fn new(text: &str) -> File {
        let file = NamedTempFile::new().expect("a directory for temporary files");
        fs::write(&file, text).expect("the file is ours");
        File(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }

    /// The program with this file and these flags.
    fn demo(&self, flags: &[&str]) -> Command {
        demo(&[&["--config", self.path()], flags].concat())
    }
}

fn demo(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(flags).env_remove("WEB_CONCURRENCY").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Checks the exit status, and that standard error is this line.
#[track_caller]
fn refuses(command: &mut Command, status: i32, line: &str) {
    let output = output(command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("error: {line}\n"));
    assert_eq!(output.status.code(), Some(status));
    assert!(output.stdout.is_empty());
}

/// The lines of `--print-config`.
#[track_caller]
fn printed(command: &mut Command) -> Vec<String> {
    let output = output(command.arg("--print-config"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[track_caller]
fn prints(command: &mut Command, line: &str) {
    let lines = printed(command);
    assert!(lines.iter().any(|printed| printed == line), "{line} in {lines:?}");
}

#[test]
fn a_flag_comes_before_the_environment_the_file_and_the_default() {
    let file = File::new("keep-alive = \"7s\"\nbind = \"127.0.0.1:0\"\n");
    prints(&mut demo(&[]), "# keep-alive: 5s");
    prints(&mut file.demo(&[]), "keep-alive = \"7s\"");
    prints(file.demo(&[]).env("GEARSHIFT_KEEP_ALIVE", "8s"), "keep-alive = \"8s\"");
    prints(file.demo(&["--keep-alive", "9s"]).env("GEARSHIFT_KEEP_ALIVE", "8s"), "keep-alive = \"9s\"");
    // A blank variable counts as not set, and a list is replaced as a whole.
    prints(file.demo(&[]).env("GEARSHIFT_KEEP_ALIVE", " "), "keep-alive = \"7s\"");
    prints(&mut file.demo(&["--bind", "unix:/x"]), "bind = [\"unix:/x\"]");
}

#[test]
fn the_environment_names_the_file() {
    let (file, other) = (File::new("workers = 3"), File::new("workers = 4"));
    prints(demo(&[]).env("GEARSHIFT_CONFIG", file.path()), "workers = 3");
    prints(other.demo(&[]).env("GEARSHIFT_CONFIG", file.path()), "workers = 4");
    prints(demo(&[]).env("GEARSHIFT_CONFIG", ""), "# workers: one per core");
}

#[test]
fn both_variables_of_the_number_of_workers_come_before_the_file() {
    let file = File::new("workers = 3");
    prints(file.demo(&[]).env("WEB_CONCURRENCY", "4"), "workers = 4");
    prints(file.demo(&[]).env("WEB_CONCURRENCY", "4").env("GEARSHIFT_WORKERS", "5"), "workers = 5");
    prints(file.demo(&["--workers", "6"]).env("WEB_CONCURRENCY", "4"), "workers = 6");
}

#[test]
fn a_switch_of_the_file_is_overridden_both_ways() {
    let (on, off) = (File::new("access-log = true"), File::new("access-log = false"));
    prints(&mut on.demo(&[]), "access-log = true");
    prints(&mut on.demo(&["--no-access-log"]), "access-log = false");
    prints(on.demo(&[]).env("GEARSHIFT_ACCESS_LOG", "off"), "access-log = false");
    prints(&mut off.demo(&["--access-log"]), "access-log = true");
    prints(off.demo(&[]).env("GEARSHIFT_ACCESS_LOG", "1"), "access-log = true");
    // This one may also name a file.
    let file = File::new("access-log = \"/x/access.log\"");
    prints(&mut file.demo(&[]), "access-log = \"/x/access.log\"");
    prints(&mut file.demo(&["--no-access-log"]), "access-log = false");
    prints(&mut file.demo(&["--access-log", "-"]), "access-log = \"-\"");
    prints(&mut file.demo(&["--access-log"]), "access-log = true");
}

#[test]
fn printed_settings_are_a_file() {
    let file = File::new("workers = 2\naccess-log = true\nbind = [\"127.0.0.1:0\", \"unix:/x\"]\n");
    let lines = printed(file.demo(&["--max-body", "10m", "--no-date-header"]).env("GEARSHIFT_TIMEOUT", "7"));
    let again = File::new(&lines.join("\n"));
    assert_eq!(printed(&mut again.demo(&[])), lines);
    for line in ["workers = 2", "max-body = \"10m\"", "no-date-header = true", "timeout = 7"] {
        assert!(lines.iter().any(|printed| printed == line), "{lines:?}");
    }
}

#[test]
fn errors_are_one_line_with_the_file_the_line_and_the_key() {
    for (text, error) in [
        ("workers = 2\nkeep_alive = 5", "2: keep_alive: unknown key; did you mean keep-alive?"),
        ("\nworkers = 0", "2: workers: invalid value '0': not a number of 1 or more"),
        ("no-date-header = \"yes\"", "1: no-date-header: wants true or false, not a string"),
        (
            "access-log-format = \"xml\"",
            "1: access-log-format: invalid value 'xml': not plain, common, combined or json",
        ),
        ("workers = [1]", "1: workers: wants one value, not a list"),
        ("workers = 1\nworkers = 2", "2: duplicate key"),
    ] {
        let file = File::new(text);
        // Also if the flag has a value that is valid.
        for flags in [&[][..], &["--check-config"], &["--print-config"], &["--workers", "2"]] {
            refuses(&mut file.demo(flags), 2, &format!("{}:{error}", file.path()));
        }
    }
    let gone = "/nonexistent/app.toml";
    refuses(
        &mut demo(&["--config", gone]),
        2,
        "/nonexistent/app.toml: No such file or directory (os error 2)",
    );
}

#[test]
fn an_error_of_the_command_line_is_reported_beside_a_file() {
    let file = File::new("workers = 2");
    refuses(
        &mut file.demo(&["--workers", "0"]),
        2,
        "invalid value '0' for '--workers <N>': not a number of 1 or more",
    );
    refuses(
        file.demo(&[]).env("GEARSHIFT_WORKERS", "0"),
        2,
        "the environment variable GEARSHIFT_WORKERS: invalid value '0': not a number of 1 or more",
    );
}

#[test]
fn a_check_does_not_listen() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound");
    let file = File::new(&format!("bind = \"{addr}\""));
    for backend in Backend::available() {
        let output = output(&mut file.demo(&["--check-config", "--backend", backend.name()]));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty() && output.stdout.is_empty());
    }
    assert_eq!(output(&mut file.demo(&[])).status.code(), Some(3), "the address is in use");
}

#[test]
fn a_check_has_the_exit_status_of_the_start() {
    for (text, status) in [
        ("backend = \"twisted\"", 4),
        ("backend = \"mio\"\nthreads = 2", 3),
        ("workers = 1000000", 3),
        ("keep-alive = \"x\"", 2),
    ] {
        let file = File::new(text);
        let checked = output(&mut file.demo(&["--check-config"]));
        assert_eq!(checked.status.code(), Some(status), "{text}");
        let started = output(&mut file.demo(&["--bind", "127.0.0.1:0"]));
        assert_eq!((checked.status, checked.stderr), (started.status, started.stderr), "{text}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_check_reads_the_certificates() {
    let file = File::new("tls-cert = \"/nonexistent.pem\"\ntls-key = \"/nonexistent.key\"\n");
    let checked = output(&mut file.demo(&["--check-config"]));
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(3), "{said}");
    assert!(said.starts_with("error: ") && said.contains("/nonexistent"), "{said}");
    let file = File::new("tls-cert = [\"a.pem\", \"b.pem\"]\ntls-key = \"a.key\"\n");
    refuses(&mut file.demo(&["--check-config"]), 2, "each --tls-cert needs a --tls-key, in the same order");
}

#[test]
fn a_server_runs_with_the_settings_of_a_file() {
    let file = File::new("bind = \"127.0.0.1:0\"\nworkers = 1\nbackend = \"tokio\"\nlog-level = \"debug\"\n");
    let mut server = file.demo(&[]).spawn().expect("the program starts");
    let log = BufReader::new(server.stderr.take().expect("it is piped"));
    let mut lines = log.lines().map(|line| line.expect("UTF-8"));
    assert!(lines.any(|line| line.contains(" on tokio, 1 worker")));
    assert!(lines.any(|line| line.contains("listening at")));
    server.kill().expect("it runs");
    server.wait().expect("it was started");
}
