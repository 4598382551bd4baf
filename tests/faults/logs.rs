//! A log that nobody reads: standard error is a pipe that is full.

use std::io::{BufRead, BufReader};
use std::process::ChildStderr;

use gearshift::Backend;
use rustix::process::Signal;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "logs",
    &[
        ("a_log_that_nobody_reads_delays_no_request", requests),
        ("a_log_that_nobody_reads_delays_no_stop", stop),
    ],
);

/// The number of requests. Their lines are longer than what a pipe and the queue of the server hold.
const REQUESTS: usize = 600;
/// The length of the query of each request.
const QUERY: usize = 8000;

/// A server whose log is full, and its log. It has answered [`REQUESTS`] requests.
fn unread(backend: Backend) -> (Program, BufReader<ChildStderr>) {
    let (server, log) = Program::start_unread(backend, &["--access-log"]);
    let mut client = server.client();
    let path = format!("/plaintext?{}", "x".repeat(QUERY));
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&path).said(), (200, "Hello, World!".into()));
    }
    // The report of a panic takes the same way as the log.
    assert_eq!(server.client().get("/panic").status, 500);
    (server, log)
}

fn requests(backend: Backend) {
    let (server, log) = unread(backend);
    let mut lines = log.lines().map(|line| line.expect("the log is UTF-8"));
    let (mut written, mut dropped) = (0, 0);
    while dropped == 0 {
        let line = lines.next().expect("the server runs");
        match line.split_once(" log lines were dropped") {
            Some((start, _)) => {
                dropped = start.trim_start_matches("WARN").trim().parse().expect("the number of lines");
            }
            None => written += usize::from(line.contains("/plaintext?x")),
        }
    }
    assert!(written > 0 && dropped > 0, "{written} lines were written and {dropped} dropped");
    // The panic is a line of the hook and a line of the server.
    assert!((REQUESTS..=REQUESTS + 3).contains(&(written + dropped)), "{written} and {dropped}");
    assert_eq!(Client::connect(server.addr()).get("/json").status, 200);
    assert!(lines.any(|line| line.contains("/json")), "the log continues");
}

fn stop(backend: Backend) {
    let (mut server, _log) = unread(backend);
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}
