//! A process that is stopped by `SIGSTOP`, and continued when its deadlines have passed: what has arrived by then is
//! read, and room to write is used, before a deadline is judged.

use std::io::Read;
use std::thread;
use std::time::Duration;

use gearshift::Backend;
use rustix::process::Signal;
use test_support::client::Client;
use test_support::program::Program;
use test_support::routes::BEGUN;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "paused",
    &[("what_has_arrived_is_answered", arrived), ("a_handler_that_could_not_run_is_not_late", handler)],
);

/// The deadlines of the server. The process is stopped well before they pass.
const DEADLINE: &str = "4s";
/// The time for which the process is stopped: longer than the deadlines.
const PAUSE: Duration = Duration::from_millis(5500);
/// What the peer of a large response receives before the process is stopped.
const RECEIVED: usize = 1000;
const LARGE: usize = 16 << 20;

/// Stops the process, calls `meanwhile`, and continues the process when its deadlines have passed.
fn paused(program: &Program, meanwhile: impl FnOnce()) {
    program.signal(Signal::STOP);
    wait_until("the process is stopped", || program.stats().is_stopped());
    meanwhile();
    thread::sleep(PAUSE);
    program.signal(Signal::CONT);
}

fn arrived(backend: Backend) {
    let flags = ["--keep-alive", "--header-timeout", "--body-timeout", "--write-timeout"];
    let flags: Vec<_> = flags.into_iter().flat_map(|flag| [flag, DEADLINE]).collect();
    let program = Program::start(backend, &flags);
    let mut large = program.client();
    large.send_get("/test/large");
    let mut body = large.exactly(RECEIVED).expect("the response begins");
    let [mut silent, mut idle, mut head, mut upload] = [(); 4].map(|()| program.client());
    assert_eq!(idle.get("/plaintext").status, 200);
    head.send("GET /plaintext HTTP/1.1\r\nHo");
    upload.send("POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345");
    // The bytes before it were read when a later connection is answered.
    assert_eq!(program.client().get("/plaintext").status, 200);
    paused(&program, || {
        silent.send_get("/plaintext");
        idle.send_get("/plaintext");
        head.send("st: test\r\n\r\n");
        upload.send("67890");
        body.extend(received(&mut large));
    });
    for (what, client) in
        [("a first request", &mut silent), ("a next request", &mut idle), ("a head", &mut head)]
    {
        let answer = client.try_answer(false);
        assert_eq!(answer.map(|answer| answer.status), Ok(200), "{what}: {}", program.log());
    }
    let answer = upload.try_answer(false);
    assert_eq!(answer.map(|answer| answer.said()), Ok((200, "1234567890".into())), "a body");
    let end = body.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    large.exactly(end + LARGE - body.len()).expect("a response is received completely");
}

/// Receives what the system has buffered for a client, so that the server has room to write.
fn received(client: &mut Client) -> Vec<u8> {
    let mut received = client.buffered();
    client.socket.set_nonblocking(true).expect("a socket can be nonblocking");
    // The end is an error: there is no more for the time being.
    let _ = client.socket.read_to_end(&mut received);
    client.socket.set_nonblocking(false).expect("a socket can be blocking");
    received
}

fn handler(backend: Backend) {
    let program = Program::start(backend, &["--timeout", "2s"]);
    let mut client = program.client();
    // The handler waits twice. The second wait begins when the process is continued, after the deadline.
    client.send_get("/test/log/waits/500");
    wait_until("the handler has begun", || program.log().contains(BEGUN));
    paused(&program, || {});
    assert_eq!(client.answer().said(), (200, "waited twice".into()));
}
