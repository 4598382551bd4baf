//! The program as a shell starts it: its output and its exit status.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use gearshift::{Backend, Config};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(args).env_remove("WEB_CONCURRENCY").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn output(args: &[&str]) -> Output {
    demo(args).output().expect("the program starts")
}

/// Checks the exit status, and that standard error is one line that contains `what`.
fn refuses(command: &mut Command, status: i32, what: &str) {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains(what), "{said}");
}

#[test]
fn lists_the_compiled_in_backends() {
    let output = output(&["--list-backends"]);
    let listed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(listed.lines().count(), Backend::available().len());
    for backend in Backend::available() {
        assert!(listed.contains(backend.name()) && listed.contains(backend.model()), "{listed}");
    }
}

#[test]
fn tells_its_version() {
    let output = output(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn refuses_bad_values() {
    for args in [
        ["--workers", "0"],
        ["--workers", "many"],
        ["--keep-alive", "5x"],
        ["--max-head", "64k"],
        ["--max-fields", "257"],
        ["--max-body", "1t"],
        ["--backlog", "65536"],
        ["--bind", "nowhere"],
        ["--log-level", "loud"],
        ["--forwarded-allow-ips", "10.0.0.1/8"],
        ["--forwarded-allow-ips", "localhost"],
        ["--proxy-protocol-from", "10.0.0.0/33"],
        ["--access-log-format", "xml"],
        ["--no-such-flag", "1"],
    ] {
        refuses(&mut demo(&args), 2, args[0]);
    }
}

#[test]
fn names_the_flag_that_was_meant() {
    refuses(
        &mut demo(&["--thread", "2"]),
        2,
        "unexpected argument '--thread' found; a similar argument exists: '--threads'",
    );
    refuses(&mut demo(&["--log-level", "loud"]), 2, "--log-level");
    let output = demo(&["--max-request", "2"]).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "error: unexpected argument '--max-request' found; a similar argument exists: '--max-requests'\n"
    );
    let output = demo(&["--limit-concurrency", "2"]).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "error: unexpected argument '--limit-concurrency' found\n");
}

#[test]
fn names_a_flag_as_it_was_given() {
    refuses(&mut demo(&["-w", "0"]), 2, "invalid value '0' for '-w': not a number of 1 or more");
    refuses(
        &mut demo(&["--workers", "0"]),
        2,
        "invalid value '0' for '--workers <N>': not a number of 1 or more",
    );
}

#[test]
fn refuses_bad_values_in_the_environment() {
    refuses(
        demo(&[]).env("GEARSHIFT_KEEP_ALIVE", "soon"),
        2,
        "the environment variable GEARSHIFT_KEEP_ALIVE: ",
    );
    refuses(
        demo(&[]).env("WEB_CONCURRENCY", "many"),
        2,
        "the environment variable WEB_CONCURRENCY: invalid value 'many': not a number of 1 or more",
    );
    refuses(demo(&[]).env("GEARSHIFT_BIND", "[::1]:0,here"), 2, "the environment variable GEARSHIFT_BIND: ");
    // The flag has precedence.
    for args in [["--keep-alive", "late"], ["--keep-alive", "soon"]] {
        let what = format!("error: invalid value '{}'", args[1]);
        refuses(demo(&args).env("GEARSHIFT_KEEP_ALIVE", "soon"), 2, &what);
    }
}

#[test]
fn the_help_ends_with_the_formats_of_values_the_signals_and_the_exit_statuses() {
    let output = output(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    for what in ["TIME is a number of seconds", "SIZE is a number of bytes", "Signals:", "Exit status:"] {
        assert!(help.contains(what), "{help}");
    }
}

#[test]
fn a_blank_variable_in_the_environment_counts_as_not_set() {
    let help = output(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    let names: Vec<_> = help
        .split("[env: ")
        .skip(1)
        .filter_map(|rest| rest.split('=').next())
        .chain(["WEB_CONCURRENCY"])
        .collect();
    assert!(names.len() > 40 && names.contains(&"GEARSHIFT_BIND"), "{names:?}");
    for blank in ["", " "] {
        for name in &names {
            let output = demo(&["--list-backends"]).env(name, blank).output().expect("the program starts");
            assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn refuses_an_unknown_backend() {
    refuses(&mut demo(&["--backend", "twisted"]), 4, "twisted");
}

#[test]
fn refuses_an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound address").to_string();
    refuses(&mut demo(&["--bind", &address]), 3, &address);
}

#[test]
fn refuses_a_setting_that_the_backend_does_not_support() {
    let mut config = Config::default();
    config.threads = Some(2);
    for backend in Backend::available().iter().filter(|backend| backend.check(&config).is_err()) {
        refuses(&mut demo(&["--backend", backend.name(), "--threads", "2"]), 3, backend.name());
    }
}

#[test]
fn a_number_of_workers_that_is_refused_is_named_by_its_flag() {
    let mut config = Config::default();
    config.workers = Some(2);
    let refusing = |backend: &&Backend| backend.threads_block() && backend.check(&config).is_err();
    for backend in Backend::available().iter().filter(refusing) {
        let mut command = demo(&["--backend", backend.name()]);
        refuses(command.env("WEB_CONCURRENCY", "2"), 3, "not 2 (--workers, WEB_CONCURRENCY)");
    }
}

#[test]
fn a_server_to_which_the_system_refuses_file_descriptors_cannot_start() {
    for backend in Backend::available() {
        // The numbers that suffice to start differ between the backends.
        let statuses: Vec<_> = (6..=11).map(|limit| status_with_few_descriptors(*backend, limit)).collect();
        assert!(statuses.contains(&Some(3)), "{backend}: {statuses:?}");
        assert!(statuses.iter().all(|status| [Some(0), Some(3)].contains(status)), "{backend}: {statuses:?}");
    }
}

/// The exit status of a server that may open `limit` file descriptors, and is stopped when it has bound its address.
fn status_with_few_descriptors(backend: Backend, limit: u32) -> Option<i32> {
    let mut program = Command::new("sh")
        .args(["-c", &format!(r#"ulimit -n {limit} && exec "$@""#), "sh", env!("CARGO_BIN_EXE_demo")])
        .args(["--backend", backend.name(), "--bind", "127.0.0.1:0"])
        .env_remove("WEB_CONCURRENCY")
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut log = BufReader::new(program.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("listening at") && log.read_line(&mut line).expect("a log in UTF-8") > 0 {}
    kill(&program, "-TERM");
    program.wait().expect("it was started").code()
}

#[test]
fn addresses_are_separated_by_commas_and_spaces() {
    let program = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--bind", "127.0.0.1:0, 127.0.0.2:0"])
        .env_remove("WEB_CONCURRENCY")
        .stderr(Stdio::piped())
        .spawn();
    let mut program = program.expect("the program starts");
    let mut log = BufReader::new(program.stderr.take().expect("it is piped"));
    line_with(&mut log, "listening at http://127.0.0.1:");
    line_with(&mut log, "listening at http://127.0.0.2:");
    kill(&program, "-TERM");
    assert_eq!(program.wait().expect("it was started").code(), Some(0));
}

#[test]
fn the_access_log_goes_to_standard_output() {
    for backend in Backend::available() {
        let (mut program, _log, url) =
            running(&["--backend", backend.name(), "--access-log", "-", "--access-log-format", "json"]);
        let mut peer = TcpStream::connect(&url["http://".len()..]).expect("the program listens");
        peer.write_all(b"GET /plaintext HTTP/1.0\r\nUser-Agent: a test\r\n\r\n").expect("it reads");
        let mut out = BufReader::new(program.stdout.take().expect("it is piped"));
        let line = line_with(&mut out, "/plaintext");
        assert!(
            line.starts_with("{\"time\":\"20") && line.ends_with("\"user_agent\":\"a test\"}\n"),
            "{line}"
        );
        kill(&program, "-TERM");
        assert_eq!(program.wait().expect("it was started").code(), Some(0), "{backend}");
    }
}

#[test]
fn stops_cleanly_on_either_signal() {
    for backend in Backend::available() {
        for signal in ["-INT", "-TERM"] {
            let (mut program, mut log, url) = running(&["--backend", backend.name()]);
            assert!(url.starts_with("http://127.0.0.1:"), "{url}");
            kill(&program, signal);
            assert_eq!(program.wait().expect("it was started").code(), Some(0), "{backend} {signal}");
            let mut rest = String::new();
            log.read_to_string(&mut rest).expect("a log in UTF-8");
            assert!(rest.contains("stopped"), "{rest}");
        }
    }
}

#[test]
fn the_log_tells_each_step_of_a_stop_with_a_drain_delay() {
    for backend in Backend::available() {
        let (mut program, mut log, url) = running(&["--backend", backend.name(), "--drain-delay", "50ms"]);
        // A stop before the end of the start has no delay.
        let mut peer = TcpStream::connect(&url["http://".len()..]).expect("the program listens");
        peer.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").expect("it reads");
        peer.read_exact(&mut [0; 12]).expect("it answers");
        kill(&program, "-TERM");
        let steps = ["a stop is requested;", "is not ready any more", "finishing the requests", "stopped;"];
        assert_eq!(program.wait().expect("it was started").code(), Some(0), "{backend}");
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("a log in UTF-8");
        let lines = steps.map(|step| rest.lines().position(|line| line.contains(step)));
        assert!(lines.iter().all(Option::is_some) && lines.is_sorted(), "{backend}: {rest}");
        assert_eq!(rest.matches("finishing the requests").count(), 1, "{backend}: {rest}");
    }
}

#[test]
fn a_second_signal_ends_a_request_that_takes_too_long() {
    for backend in Backend::available() {
        let (mut program, mut log, url) = running(&["--backend", backend.name(), "--body-buffer", "0"]);
        let mut peer = TcpStream::connect(&url["http://".len()..]).expect("the program listens");
        // The body is larger than what is buffered before a handler begins. Its second byte is never sent.
        let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n1";
        peer.write_all(head.as_bytes()).expect("it reads");
        // The response has begun, so the request is in flight.
        peer.read_exact(&mut [0; 12]).expect("it answers");
        kill(&program, "-TERM");
        line_with(&mut log, "finishing");
        kill(&program, "-TERM");
        assert_eq!(program.wait().expect("it was started").code(), Some(1), "{backend}");
    }
}

/// Starts the program on a free port. Returns its log after the line with the address, and its URL.
fn running(args: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut program = demo(args).args(["--bind", "127.0.0.1:0"]).spawn().expect("the program starts");
    let mut log = BufReader::new(program.stderr.take().expect("it is piped"));
    let line = line_with(&mut log, "listening at");
    let url =
        line.split(' ').find(|word| word.starts_with("http://")).expect("the line has a URL").to_owned();
    (program, log, url)
}

fn line_with(log: &mut impl BufRead, what: &str) -> String {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "the log has no line with '{what}'");
    }
    line
}

fn kill(program: &Child, signal: &str) {
    let killed = Command::new("kill").args([signal, &program.id().to_string()]).status();
    assert!(killed.expect("there is a kill command").success());
}
