//! The formats of the access log, and the files that it goes to.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gearshift::{AccessFormat, AccessSink, Backend, Router, sync};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use test_support::backend::few_workers;
use test_support::program::{self, Program};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "access_log",
    &[
        ("each_format_has_its_fields_and_no_peer_forges_a_line", formats),
        ("a_file_that_was_moved_away_is_opened_again_at_the_signal", reopened),
        ("lines_are_appended_to_a_file_that_exists", appended),
        ("a_file_that_is_full_costs_lines_and_no_request", unread),
        ("lines_that_a_file_does_not_take_are_reported_at_the_end", lost_at_the_end),
        ("a_file_that_cannot_be_opened_prevents_the_start_and_the_check_finds_it", unusable),
        ("the_check_of_the_settings_creates_no_file", checked),
        ("a_pipe_without_its_reader_costs_lines_and_no_later_signal", without_reader),
        ("the_signal_changes_nothing_without_a_file", signalled),
    ],
);

/// Keeps the lines of one server.
#[derive(Debug, Default)]
struct Kept(Mutex<String>);

impl AccessSink for Kept {
    fn write(&self, line: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(std::str::from_utf8(line).expect("a line is ASCII"));
    }

    fn dropped(&self) -> u64 {
        7
    }
}

/// The line without the time, and with 0 as the duration, which has six digits behind its point.
fn masked(line: &str) -> String {
    let (open, close) = if line.starts_with('{') { ("{\"time\":\"", "Z\",") } else { ("[", "] ") };
    let (start, rest) = line.split_once(open).expect("a time");
    let (_, rest) = rest.split_once(close).expect("the end of the time");
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_point = |at: &usize| rest.get(at + 1..at + 7).is_some_and(is_digits);
    let point = rest.rmatch_indices('.').map(|(at, _)| at).find(is_point).expect("a duration");
    let before = rest[..point].trim_end_matches(|char: char| char.is_ascii_digit());
    format!("{start}{before}0{}", &rest[point + 7..])
}

fn formats(backend: Backend) {
    let ugly = b"GET /a?\\ HTTP/1.1\r\nHost: a\r\nReferer: http://a/\"\\\r\nUser-Agent: \"] 200 \t\xc3\xa9\xff\r\n\r\n";
    for (format, expected) in [
        (
            AccessFormat::Plain,
            ["127.0.0.1:PORT - - \"GET /a?\\x5c HTTP/1.1\" 200 2 0", "127.0.0.1:PORT - - \"-\" 400 29 0"],
        ),
        (
            AccessFormat::Common,
            ["127.0.0.1 - - \"GET /a?\\x5c HTTP/1.1\" 200 2 0", "127.0.0.1 - - \"-\" 400 29 0"],
        ),
        (
            AccessFormat::Combined,
            [
                r#"127.0.0.1 - - "GET /a?\x5c HTTP/1.1" 200 2 "http://a/\x22\x5c" "\x22] 200 \x09\xc3\xa9\xff" 0"#,
                r#"127.0.0.1 - - "-" 400 29 "-" "-" 0"#,
            ],
        ),
        (
            AccessFormat::Json,
            [
                r#""client":"127.0.0.1","port":PORT,"method":"GET","target":"/a?\\","protocol":"HTTP/1.1","status":200,"bytes":2,"duration":0,"complete":true,"referer":"http://a/\"\\","user_agent":"\"] 200 \u0009\u00e9\ufffd"}"#,
                r#""client":"127.0.0.1","port":PORT,"method":null,"target":null,"protocol":null,"status":400,"bytes":29,"duration":0,"complete":true,"referer":null,"user_agent":null}"#,
            ],
        ),
    ] {
        let kept = Arc::new(Kept::default());
        let mut config = few_workers(backend);
        (config.access_log, config.access_log_format) = (true, format);
        config.access_log_to = Some(kept.clone());
        let server = Running::start(backend, config, |_| Router::new().get("/a", sync(|_| "ok")));
        let mut client = server.client();
        let port = client.socket.local_addr().expect("a connected socket").port();
        client.send(ugly);
        assert_eq!(client.answer().said(), (200, "ok".into()));
        client.send("GET  / HTTP/1.1\r\n\r\n");
        assert_eq!(client.answer().status, 400);
        let text = || kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wait_until("both lines are written", || text().lines().count() >= 2);
        let text = text();
        let lines: Vec<_> = text.lines().map(masked).collect();
        let expected = expected.map(|line| line.replace("PORT", &port.to_string()));
        assert_eq!(lines, expected);
        assert!(text.ends_with('\n'));
    }
}

/// A directory of a test, which is removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(backend: Backend, test: &str) -> Scratch {
        let name = format!("gearshift-access-{}-{backend}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory for temporary files");
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(backend: Backend, file: &Path) -> Program {
    let file = file.to_str().expect("a path of ASCII");
    Program::start(backend, &["--access-log", file, "--access-log-format", "common"])
}

fn has_line(file: &Path, path: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("\"GET {path} HTTP/1.1\" 200 ")))
}

fn get(program: &Program, path: &str) {
    assert_eq!(program.client().get(path).status, 200, "{}", program.log());
}

fn reopened(backend: Backend) {
    let scratch = Scratch::new(backend, "reopened");
    let (file, old) = (scratch.path("access.log"), scratch.path("access.log.1"));
    let mut program = start(backend, &file);
    get(&program, "/plaintext?first");
    wait_until("the first line is written", || has_line(&file, "/plaintext?first"));
    fs::rename(&file, &old).expect("the file exists");
    get(&program, "/plaintext?second");
    wait_until("the moved file is written", || has_line(&old, "/plaintext?second"));
    assert!(!file.exists());
    program.signal(Signal::USR1);
    wait_until("the file is opened again", || file.exists());
    get(&program, "/plaintext?third");
    wait_until("the new file is written", || has_line(&file, "/plaintext?third"));
    assert!(!has_line(&old, "/plaintext?third") && !has_line(&file, "/plaintext?second"));
    // The lines of the last requests are written before the end of the process.
    get(&program, "/plaintext?last");
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(0), "{}", program.log());
    assert!(has_line(&file, "/plaintext?last"));
    assert!(
        !program.log().contains("/plaintext"),
        "the log has no lines of the access log: {}",
        program.log()
    );
}

fn appended(backend: Backend) {
    let scratch = Scratch::new(backend, "appended");
    let file = scratch.path("access.log");
    fs::write(&file, "a line of an earlier start\n").expect("a directory");
    let program = start(backend, &file);
    get(&program, "/plaintext");
    wait_until("the line is written", || has_line(&file, "/plaintext"));
    let text = fs::read_to_string(&file).expect("the file exists");
    assert!(text.starts_with("a line of an earlier start\n127.0.0.1 - - ["), "{text}");
}

/// The path of a new FIFO.
fn fifo(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    path
}

/// A FIFO without a reader takes as many lines as a pipe holds.
fn unread(backend: Backend) {
    const REQUESTS: usize = 600;
    let scratch = Scratch::new(backend, "unread");
    let path = fifo(&scratch);
    let fifo = File::options().read(true).write(true).open(&path).expect("a FIFO opens");
    let program = start(backend, &path);
    let mut client = program.client();
    let long = format!("/plaintext?{}", "x".repeat(8000));
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&long).said(), (200, "Hello, World!".into()));
    }
    let metrics = client.get("/metrics").text();
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("gearshift_access_log_dropped_total "));
    let dropped: usize = dropped.expect("the metric exists").parse().expect("a number");
    assert!(dropped > 0 && dropped < REQUESTS, "{dropped} lines were dropped");
    let mut lines = BufReader::new(fifo).lines().map(|line| line.expect("a line is ASCII"));
    for _ in dropped..REQUESTS {
        let line = lines.next().expect("the FIFO is open");
        assert!(line.contains("/plaintext?x") && line.len() > 8000, "{line}");
    }
    // The next lines are not cut either, and the log reports those that are missing.
    wait_until("the dropped lines are reported", || {
        program.log().contains(" lines of the access log were dropped, because ")
    });
    get(&program, "/plaintext?after");
    assert!(lines.any(|line| line.contains("\"GET /plaintext?after HTTP/1.1\" 200 13 ")));
}

fn lost_at_the_end(backend: Backend) {
    let scratch = Scratch::new(backend, "lost_at_the_end");
    let pipe = fifo(&scratch);
    let _reader = File::options().read(true).write(true).open(&pipe).expect("a FIFO opens");
    let long = "x".repeat(8000);
    for (file, requests, reported) in [
        (Path::new("/dev/full"), 3, "the last 3 lines of the access log were dropped, because "),
        // A pipe holds 64 KiB.
        (&pipe, 20, "the last lines of the access log are lost, because "),
    ] {
        let mut program = start(backend, file);
        (0..requests).for_each(|_| get(&program, &format!("/plaintext?{long}")));
        program.signal(Signal::TERM);
        assert_eq!(program.status(), Some(0), "{}", program.log());
        wait_until("the loss is reported", || program.log().contains(reported));
    }
}

fn unusable(backend: Backend) {
    let scratch = Scratch::new(backend, "unusable");
    let (pipe, directory) = (fifo(&scratch), scratch.path(""));
    for (file, why) in [
        (Path::new("/nowhere/access.log"), "No such file or directory"),
        (Path::new("/dev/null/access.log"), "Not a directory"),
        (&directory, "Is a directory"),
        (&pipe, "it is a pipe that no program reads, or no file"),
    ] {
        let file = file.to_str().expect("a path of ASCII");
        for flags in [&["--access-log", file][..], &["--access-log", file, "--check-config"]] {
            let (status, log) = program::run(backend, flags);
            assert_eq!(status, Some(3), "{file}: {log}");
            let expected = format!("error: the access log {file} cannot be opened: {why}");
            assert!(log.lines().any(|line| line.starts_with(&expected)), "{file}: {log}");
        }
    }
}

fn checked(backend: Backend) {
    let scratch = Scratch::new(backend, "checked");
    let (file, old) = (scratch.path("access.log"), scratch.path("access.log.1"));
    fs::write(&old, "a line\n").expect("a directory");
    for path in [&file, &old] {
        let path = path.to_str().expect("a path of ASCII");
        let (status, log) = program::run(backend, &["--access-log", path, "--check-config"]);
        assert_eq!((status, log.as_str()), (Some(0), ""), "{path}");
    }
    assert!(!file.exists());
    assert_eq!(fs::read_to_string(&old).expect("the file exists"), "a line\n");
}

fn without_reader(backend: Backend) {
    let scratch = Scratch::new(backend, "without_reader");
    let pipe = fifo(&scratch);
    let open = || File::options().read(true).write(true).open(&pipe).expect("a FIFO opens");
    let (reader, moved) = (open(), scratch.path("moved"));
    let program = start(backend, &pipe);
    drop(reader);
    program.signal(Signal::USR1);
    wait_until("the signal was handled", || program.log().contains("the access log stays as it is"));
    let mut lines = BufReader::new(open()).lines().map(|line| line.expect("a line is ASCII"));
    get(&program, "/plaintext?after");
    assert!(lines.any(|line| line.contains("\"GET /plaintext?after HTTP/1.1\" 200 13 ")));
    fs::rename(&pipe, &moved).expect("the FIFO exists");
    program.signal(Signal::USR1);
    wait_until("the file is opened again", || pipe.exists());
    get(&program, "/plaintext?file");
    wait_until("the new file is written", || has_line(&pipe, "/plaintext?file"));
}

fn signalled(backend: Backend) {
    let mut program = Program::start(backend, &[]);
    program.signal(Signal::USR1);
    wait_until("the signal was handled", || program.log().contains("the access log has no file"));
    program.expect_alive();
}
