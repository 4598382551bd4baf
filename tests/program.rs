//! A program whose arguments are not those of its process, as under an interpreter, and which ends with the number of a
//! status: every test on every backend that is compiled in.
//!
//! The process of the program runs the executable of this test. A variable of the environment has the arguments.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{self, Child, ChildStderr, Command, ExitCode, Stdio};

use clap::Parser;
use gearshift::cli::{self, Settings, Status};
use gearshift::{Backend, Router, sync};
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use test_support::client::Client;
use test_support::suite::{self, Area};

/// The variable with the arguments of the program, separated by spaces.
const ARGS: &str = "GEARSHIFT_TEST_ARGS";
/// An argument of the process that is none of the program.
const OF_THE_PROCESS: &str = "--threads=4";

const AREA: Area = (
    "program",
    &[
        ("the_first_argument_is_its_name", help),
        ("an_error_in_a_variable_names_the_variable", variable),
        ("a_status_has_a_number", status),
        ("a_change_of_the_configuration_is_checked", checked),
        ("it_changes_the_configuration", changed),
        ("it_has_other_defaults_than_the_flags", defaults),
        ("it_knows_that_it_is_supervised", supervised),
    ],
);

#[derive(Parser)]
#[command(mut_arg("keep_alive", |flag| flag.default_value("75s")))]
struct Program {
    #[command(flatten)]
    settings: Settings,
    /// The value of a setting
    #[arg(long)]
    jobs: Option<usize>,
}

/// Runs the program.
fn run(args: &str) -> Result<Status, Status> {
    let program: Program = cli::parse_from(args.split(' '))?;
    let processes = program.settings.processes();
    // The second answer is that of a process which has taken the descriptor over.
    let is_supervised = cli::is_supervised();
    let app = Router::new()
        .get("/", sync(move |_| format!("{is_supervised} {} {processes:?}", cli::is_supervised())));
    Ok(cli::serve_with(&program.settings, app, |config| {
        config.server_header = false;
        config.compute_threads = program.jobs;
    }))
}

fn command(backend: Backend, args: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the path of this executable is known"));
    command.arg(OF_THE_PROCESS).env_remove("WEB_CONCURRENCY");
    command.env(ARGS, format!("a-script --backend {backend} --bind 127.0.0.1:0 {args}").trim_end());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end. Returns its exit status and what it has written.
fn ended(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("the executable of the test can be started");
    let written = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(written).expect("the program writes UTF-8"))
}

fn help(backend: Backend) {
    let (status, written) = ended(&mut command(backend, "--help"));
    assert_eq!(status, Some(0), "{written}");
    assert!(written.contains("Usage: a-script "), "{written}");
}

fn variable(backend: Backend) {
    for (args, expected) in
        [("", "the environment variable GEARSHIFT_THREADS"), ("--threads none", "--threads")]
    {
        let (status, written) = ended(command(backend, args).env("GEARSHIFT_THREADS", "none"));
        assert_eq!(status, Some(2), "{written}");
        assert!(written.contains(expected), "{written}");
        assert_eq!(written.contains("variable"), args.is_empty(), "{written}");
    }
}

fn status(backend: Backend) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a socket has an address");
    for (args, expected) in
        [("--no-such-flag".to_owned(), 2), (format!("--bind {address}"), 3), ("--backend none".to_owned(), 2)]
    {
        let (status, written) = ended(&mut command(backend, &args));
        assert_eq!(status, Some(expected), "{args}: {written}");
    }
}

fn checked(backend: Backend) {
    for (jobs, expected) in [(10, 0), (100_000, 3)] {
        let (status, written) = ended(&mut command(backend, &format!("--check-config --jobs {jobs}")));
        assert_eq!(status, Some(expected), "{written}");
    }
}

/// A running server. It is killed when this is dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    addr: String,
}

impl Running {
    /// Starts a server. Returns it once its log has `line`.
    fn start(backend: Backend, args: &str, line: &str) -> Running {
        let mut child = command(backend, args).spawn().expect("the executable of the test can be started");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut running = Running { child, log, addr: String::new() };
        let listening = running.line_with("listening at http://");
        let (_, rest) = listening.split_once("http://").expect("the line has an address");
        running.addr = rest.split(' ').next().expect("a split has a first part").to_owned();
        if !listening.contains(line) {
            running.line_with(line);
        }
        running
    }

    /// Reads the log up to a line.
    fn line_with(&mut self, what: &str) -> String {
        let mut read = String::new();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).expect("the log is UTF-8");
            assert_ne!(length, 0, "'{what}' is not in the log: {read}");
            if line.contains(what) {
                return line;
            }
            read.push_str(&line);
        }
    }

    fn says(&self, expected: &str) {
        let answer = Client::connect(self.addr.parse().expect("an address")).get("/");
        assert_eq!(answer.said(), (200, expected.to_owned()));
        assert_eq!(answer.field("server"), None, "the program changes the setting");
    }

    fn stops(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is a child of this process");
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("the log is UTF-8");
        assert_eq!(self.child.wait().expect("it is a child of this process").code(), Some(0), "{log}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn changed(backend: Backend) {
    let running = Running::start(backend, "", "listening");
    running.says("false false None");
    running.stops();
}

fn defaults(backend: Backend) {
    for (args, expected) in [("", "75s"), ("--keep-alive 2s", "2s")] {
        let (status, written) = ended(&mut command(backend, &format!("--print-config {args}")));
        assert_eq!(status, Some(0), "{written}");
        assert!(written.contains(&format!("keep-alive = \"{expected}\"\n")), "{written}");
    }
}

fn supervised(backend: Backend) {
    let running = Running::start(backend, "--processes 1", " serves");
    running.says("true true Some(1)");
    running.stops();
}

fn main() -> ExitCode {
    if let Ok(args) = env::var(ARGS) {
        let (Ok(status) | Err(status)) = run(&args);
        process::exit(status.code().into());
    }
    let trials = suite::cases(&[AREA], &[]).into_iter().map(|case| {
        Trial::test(case.full_name(), move || {
            case.run();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
