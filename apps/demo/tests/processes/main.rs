//! Several processes under a supervisor (`--processes`), on every backend.

mod folder;
mod haproxy;
mod load;
mod supervisor;

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use gearshift::Backend;
use rustix::process::Signal;
use test_support::client::Client;
use test_support::wait_until;

use folder::Folder;
use load::Load;
use supervisor::Supervisor;

/// The environment variable that sets another number of replacements under load than [`ROUNDS`], for each backend.
const MORE_ROUNDS: &str = "GEARSHIFT_HUP_ROUNDS";
const ROUNDS: usize = 3;
/// The environment variable that sets another number of restarts behind HAProxy than one, for each instance.
const MORE_RESTARTS: &str = "GEARSHIFT_RESTART_ROUNDS";

/// The number in an environment variable.
fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

fn each_backend(check: impl Fn(Backend)) {
    for backend in Backend::available() {
        eprintln!("on {backend}");
        check(*backend);
    }
}

/// Answers on so many new connections that each process has very likely accepted one.
fn answers(supervisor: &Supervisor) {
    for _ in 0..10 {
        assert_eq!(supervisor.client().get("/plaintext").said(), (200, "Hello, World!".into()));
    }
}

#[test]
fn the_supervisor_binds_once_and_the_processes_serve() {
    each_backend(|backend| {
        let mut supervisor = Supervisor::start(backend, &["--processes", "3"]);
        supervisor.expect_serving(3);
        answers(&supervisor);
        let log = supervisor.log();
        assert_eq!(log.matches("listening at").count(), 1, "{log}");
        assert!(log.contains("3 processes of "), "{log}");
        for id in supervisor.serving() {
            assert_eq!(supervisor.parent_of(id), Some(supervisor.id()), "{log}");
        }
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        let log = supervisor.log();
        let ids = log.lines().filter_map(|line| Some(line.split_once(" [")?.1.split_once("] ")?.0));
        let mut ids: Vec<_> = ids.collect();
        assert_eq!(ids.len(), log.lines().count(), "each line has the number of its process: {log}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4, "{log}");
    });
}

#[test]
fn a_process_that_dies_is_replaced() {
    each_backend(|backend| {
        let mut supervisor = Supervisor::start(backend, &["--processes", "2"]);
        supervisor.expect_serving(2);
        let ids = supervisor.serving();
        supervisor.kill(ids[0]);
        supervisor.expect_line(&format!("process {} has died", ids[0]), 1);
        supervisor.expect_serving(2);
        let after = supervisor.serving();
        assert!(after[0] == ids[1] && !ids.contains(&after[1]), "{after:?}");
        answers(&supervisor);
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
    });
}

#[test]
fn a_process_that_dies_again_and_again_is_replaced_after_longer_and_longer_pauses() {
    let supervisor = Supervisor::start(Backend::available()[0], &["--processes", "1"]);
    for pause in ["250ms", "500ms", "1s"] {
        supervisor.expect_serving(1);
        supervisor.kill(supervisor.serving()[0]);
        supervisor.expect_line(&format!("the next process is started in {pause}"), 1);
    }
    supervisor.expect_serving(1);
    answers(&supervisor);
}

#[test]
fn no_request_is_lost_while_the_processes_are_replaced() {
    let rounds = number(MORE_ROUNDS).unwrap_or(ROUNDS);
    each_backend(|backend| {
        let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--log-level", "info"]);
        supervisor.expect_serving(2);
        let load = Load::start(supervisor.addr());
        for round in 1..=rounds {
            supervisor.signal(Signal::HUP);
            supervisor.expect_line("the processes are replaced", round);
        }
        let (sent, failed) = load.stop();
        println!("{backend}: {rounds} replacements, {sent} requests, {} failed", failed.len());
        assert!(failed.is_empty(), "{backend}: {} of {sent} have failed: {failed:#?}", failed.len());
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        assert_eq!(supervisor.log().matches(" serves").count(), 2 + 2 * rounds);
        assert!(!supervisor.log().contains("died"), "{}", supervisor.log());
    });
}

#[test]
fn a_replacement_runs_the_program_as_it_is_on_disk() {
    each_backend(|backend| {
        let copy = Folder::with_program();
        let supervisor = Supervisor::start_program(&copy.program(), backend, &["--processes", "2"]);
        supervisor.expect_serving(2);
        let before = supervisor.serving();
        let has_date = || supervisor.client().get("/plaintext").field("Date").is_some();
        assert!(has_date());
        copy.replace_with_dateless();
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("the processes are replaced", 1);
        let after = supervisor.serving();
        assert!(after.len() == 2 && after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
        before.iter().for_each(|id| supervisor.expect_gone(*id));
        assert!((0..10).all(|_| !has_date()));
    });
}

#[test]
fn a_new_program_that_does_not_start_leaves_the_old_processes() {
    each_backend(|backend| {
        let copy = Folder::with_program();
        let supervisor = Supervisor::start_program(&copy.program(), backend, &["--processes", "2"]);
        supervisor.expect_serving(2);
        let before = supervisor.serving();
        for (round, script) in ["exit 3", "kill -KILL $$"].into_iter().enumerate() {
            copy.replace_with_script(script);
            supervisor.signal(Signal::HUP);
            supervisor.expect_line("before it served", round + 1);
            supervisor.expect_line("the processes that serve stay", round + 1);
        }
        fs::remove_file(copy.program()).expect("it is our file");
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("cannot be started", 1);
        assert_eq!(supervisor.serving(), before);
        answers(&supervisor);
        copy.replace_with_dateless();
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("the processes are replaced", 1);
        answers(&supervisor);
    });
}

#[test]
fn a_process_that_is_asked_to_stop_is_replaced_first() {
    each_backend(|backend| {
        let supervisor = Supervisor::start(backend, &["--processes", "2"]);
        supervisor.expect_serving(2);
        let before = supervisor.serving();
        supervisor.terminate(before[0]);
        supervisor.terminate(before[0]);
        supervisor.expect_line("the processes are replaced", 1);
        supervisor.expect_gone(before[0]);
        let after = supervisor.serving();
        assert!(after.len() == 2 && after[0] == before[1], "{before:?} {after:?}");
        answers(&supervisor);
    });
}

#[test]
fn signals_change_the_number_of_processes() {
    each_backend(|backend| {
        let supervisor = Supervisor::start(backend, &["--processes", "1"]);
        supervisor.expect_serving(1);
        supervisor.signal(Signal::TTIN);
        supervisor.expect_serving(2);
        supervisor.signal(Signal::TTOU);
        supervisor.expect_serving(1);
        supervisor.signal(Signal::TTOU);
        supervisor.expect_line("the number of processes stays 1", 1);
        answers(&supervisor);
    });
    let one = Backend::available()[0];
    let supervisor = Supervisor::start(one, &["--processes", "256", "--graceful-timeout", "0"]);
    supervisor.signal(Signal::TTIN);
    supervisor.expect_line("the number of processes stays 256", 1);
    supervisor.signal(Signal::QUIT);
}

/// A client with a request in flight, whose response has begun.
fn in_flight(supervisor: &Supervisor) -> Client {
    let mut client = supervisor.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n1");
    client.expect_head();
    client
}

/// Sends the rest of the request, and checks that it comes back.
fn finish(mut client: Client) {
    client.send(vec![b'x'; 999_999]);
    assert!(client.exactly(1_000_000).expect("the whole body").ends_with(b"xxx"));
}

#[test]
fn all_processes_finish_their_requests_and_the_queue() {
    each_backend(|backend| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut supervisor = Supervisor::start(
                backend,
                &["--processes", "2", "--body-buffer", "0", "--max-connections", "2"],
            );
            supervisor.expect_serving(2);
            let requests: Vec<_> = (0..2).map(|_| in_flight(&supervisor)).collect();
            // These are in the queue, or accepted by the process that has room.
            let mut queued: Vec<_> = (0..8).map(|_| supervisor.client()).collect();
            queued.iter_mut().for_each(|client| client.send_get("/plaintext"));
            supervisor.signal(signal);
            supervisor.expect_line("finishing the requests in flight", 3);
            requests.into_iter().for_each(finish);
            for client in &mut queued {
                let answer = client.answer();
                assert_eq!(answer.said(), (200, "Hello, World!".into()), "{backend}");
            }
            drop(queued);
            assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        }
    });
}

#[test]
fn a_second_signal_cuts_and_the_status_is_the_highest() {
    each_backend(|backend| {
        for (first, second) in
            [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::QUIT)]
        {
            let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--body-buffer", "0"]);
            supervisor.expect_serving(2);
            let _request = in_flight(&supervisor);
            supervisor.signal(first);
            // Of the supervisor and of both processes.
            supervisor.expect_line("finishing the requests in flight", 3);
            supervisor.signal(second);
            assert_eq!(supervisor.status(), Some(1), "{}", supervisor.log());
        }
    });
}

#[test]
fn signals_to_a_whole_group_are_those_of_the_supervisor() {
    each_backend(|backend| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--body-buffer", "0"]);
            supervisor.expect_serving(2);
            let request = in_flight(&supervisor);
            // As a terminal, or systemd, sends them.
            supervisor.signal(signal);
            for id in supervisor.serving() {
                supervisor.signal_process(id, signal);
                supervisor.signal_process(id, signal);
            }
            supervisor.expect_line("finishing the requests in flight", 3);
            finish(request);
            assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        }
    });
}

#[test]
fn the_processes_do_not_outlive_the_supervisor() {
    each_backend(|backend| {
        let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--body-buffer", "0"]);
        supervisor.expect_serving(2);
        let ids = supervisor.serving();
        let request = in_flight(&supervisor);
        supervisor.signal(Signal::KILL);
        assert_eq!(supervisor.status(), None);
        supervisor.expect_line("the supervisor has ended", 2);
        finish(request);
        ids.iter().for_each(|id| supervisor.expect_gone(*id));
    });
}

#[test]
fn a_unix_socket_is_served_until_the_end_and_its_file_removed() {
    each_backend(|backend| {
        let folder = Folder::new();
        let path = folder.path("socket");
        let bind = format!("unix:{}", path.display());
        let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--bind", &bind]);
        supervisor.expect_serving(2);
        let answers = || {
            let mut client = Client::new(UnixStream::connect(&path).expect("it listens"));
            assert_eq!(client.get("/plaintext").said(), (200, "Hello, World!".into()), "{backend}");
        };
        answers();
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("the processes are replaced", 1);
        answers();
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        assert!(!path.exists(), "{backend}");
    });
}

#[test]
fn a_server_that_cannot_start_is_one_line_and_its_status() {
    let refused = |flags: &[&str], expected: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        command.args(["--processes", "2", "--bind", "127.0.0.1:0"]).args(flags).env_remove("WEB_CONCURRENCY");
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: "), "{said}");
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    refused(&["--bind", &address], 3);
    refused(&["--backend", "twisted"], 4);
    refused(&["--processes", "0"], 2);
    refused(&["--processes", "257"], 2);
    refused(&["--drain-idle", "later"], 2);
    refused(&["--start-timeout", "0"], 2);
    refused(&["--metrics-bind", "127.0.0.1:0"], 2);
    refused(&["--metrics-bind", "127.0.0.1:0", "--check-config"], 2);
}

#[test]
fn a_first_process_that_does_not_serve_in_time_ends_the_supervisor() {
    let mut supervisor =
        Supervisor::start(Backend::available()[0], &["--processes", "2", "--start-timeout", "1ms"]);
    assert_eq!(supervisor.status(), Some(3), "{}", supervisor.log());
    supervisor.expect_line("is killed, because it did not serve in time", 1);
    supervisor.expect_line("has ended before it served", 1);
    assert_eq!(supervisor.log().matches("has ended before it served").count(), 1, "{}", supervisor.log());
}

#[test]
fn the_supervisor_sends_the_messages_to_systemd_for_all_processes() {
    each_backend(|backend| {
        let folder = Folder::new();
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        socket.set_read_timeout(Some(test_support::PATIENCE)).expect("a socket has a read timeout");
        let next = || {
            let mut message = [0; 100];
            let len = socket.recv(&mut message).expect("a message");
            String::from_utf8_lossy(&message[..len]).trim_end().to_owned()
        };
        let other_than_watchdog = || std::iter::repeat_with(next).find(|message| message != "WATCHDOG=1");
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        let mut supervisor = Supervisor::spawn(command, backend, &["--processes", "2"]);
        assert_eq!(next(), "READY=1", "{backend}");
        supervisor.expect_serving(2);
        assert_eq!(next(), "WATCHDOG=1", "{backend}");
        assert_eq!(next(), "WATCHDOG=1", "{backend}");
        supervisor.signal(Signal::HUP);
        let reloading = other_than_watchdog().expect("messages do not end");
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(usec.parse::<u64>().is_ok_and(|usec| usec > 0), "{reloading}");
        assert_eq!(other_than_watchdog().as_deref(), Some("READY=1"), "{backend}");
        supervisor.expect_line("the processes are replaced", 1);
        supervisor.signal(Signal::TERM);
        assert_eq!(other_than_watchdog().as_deref(), Some("STOPPING=1"), "{backend}");
        assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
        socket.set_nonblocking(true).expect("it is a socket");
        assert!(socket.recv(&mut [0; 1]).is_err(), "{backend}: the processes send no messages");
    });
}

#[test]
fn idle_connections_are_not_cut_off_from_their_next_request() {
    each_backend(|backend| {
        let supervisor = Supervisor::start(backend, &["--processes", "2", "--keep-alive", "60"]);
        supervisor.expect_serving(2);
        let before = supervisor.serving();
        let mut idle: Vec<_> = (0..8).map(|_| supervisor.client()).collect();
        for client in &mut idle {
            assert!(!client.get("/plaintext").closes());
        }
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("the processes are replaced", 1);
        wait_until("both old processes drain", || supervisor.log().matches("finishing").count() == 2);
        for client in &mut idle {
            let answer = client.get("/plaintext");
            assert!(answer.status == 200 && answer.closes(), "{backend}: {answer:?}");
            client.expect_end();
        }
        before.iter().for_each(|id| supervisor.expect_gone(*id));
    });
}

#[test]
fn no_request_is_lost_while_instances_behind_haproxy_are_restarted() {
    let rounds = number(MORE_RESTARTS).unwrap_or(1);
    each_backend(|backend| haproxy::restarts(backend, rounds));
}

#[test]
fn all_processes_are_ready_until_the_drain_delay_begins_and_serve_until_it_is_over() {
    each_backend(|backend| {
        let mut supervisor = Supervisor::start(backend, &["--processes", "2", "--drain-delay", "600s"]);
        supervisor.expect_serving(2);
        let readiness = |client: &mut Client| client.get("/readyz").status;
        assert!((0..10).all(|_| readiness(&mut supervisor.client()) == 200), "{backend}");
        // A process that is replaced stops without the delay, and is not seen to leave.
        let before = supervisor.serving();
        supervisor.signal(Signal::HUP);
        supervisor.expect_line("the processes are replaced", 1);
        before.iter().for_each(|id| supervisor.expect_gone(*id));
        assert!((0..10).all(|_| readiness(&mut supervisor.client()) == 200), "{backend}");
        supervisor.signal(Signal::TERM);
        supervisor.expect_line("the server is not ready any more", 2);
        assert!((0..10).all(|_| readiness(&mut supervisor.client()) == 503), "{backend}");
        answers(&supervisor);
        supervisor.signal(Signal::TERM);
        assert!(supervisor.status().is_some(), "{}", supervisor.log());
    });
    let mut supervisor =
        Supervisor::start(Backend::available()[0], &["--processes", "2", "--drain-delay", "100ms"]);
    supervisor.expect_serving(2);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.status(), Some(0), "{}", supervisor.log());
    supervisor.expect_line("finishing the requests in flight;", 1);
    let log = supervisor.log();
    let position = |what: &str| log.find(what).unwrap_or_else(|| panic!("'{what}' is not in {log}"));
    assert!(position("the processes are not ready any more") < position("finishing the requests in flight;"));
}
