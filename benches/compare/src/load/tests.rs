use std::io::{Read, Write};
use std::net::TcpListener;

use gearshift::{Backend, TestServer};

use super::*;

const TIMES: Times = Times {
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(400),
    drain: Duration::from_millis(100),
};

/// Puts load on the demo with two generators.
fn outcome(traffics: &[Traffic]) -> Outcome {
    let backend: Backend = "tokio".parse().or_else(|_| "mio".parse()).expect("one of them is compiled in");
    let server = TestServer::start(backend, demo::app()).expect("the server starts");
    put(server.addr(), traffics, TIMES, Generators::new(2), Usage::default).expect("no system call fails")
}

fn p50(tally: &Tally) -> f64 {
    at(&tally.curve(), 50.0)
}

#[test]
fn an_open_loop_counts_from_when_a_request_was_due() {
    let closed = outcome(&[Traffic::new(1, Request::get("/sleep/50"), Pacing::Closed)]);
    // A request is due every 40 ms and takes 50, so the k-th one is sent k times 10 ms late.
    let open = outcome(&[Traffic::new(1, Request::get("/sleep/50"), Pacing::Open(25.0))]);
    let [closed, open] = [&closed.tallies[0], &open.tallies[0]];
    assert!(p50(closed) >= 50_000.0 && open.answered > 0);
    assert!(p50(open) > p50(closed) + 20_000.0, "{} to {}", p50(closed), p50(open));
}

#[test]
fn requests_that_could_not_be_sent_are_counted() {
    let made = outcome(&[Traffic::new(1, Request::get("/sleep/50"), Pacing::Open(200.0))]);
    // Of ten due requests nine cannot be sent. A closed loop would not have sent them.
    assert!(made.tallies[0].unanswered_share() > 0.5, "{}", made.tallies[0].unanswered_share());
    assert!(p50(&made.tallies[0]) > 150_000.0, "{}", p50(&made.tallies[0]));
}

#[test]
fn all_due_requests_are_sent_if_the_server_keeps_up() {
    let made = outcome(&[Traffic::new(16, Request::get("/plaintext"), Pacing::Open(500.0))]);
    let tally = &made.tallies[0];
    // On a busy machine the last responses may be late.
    let (answered, late) = (tally.answered, tally.unanswered);
    assert!((150..=250).contains(&(answered + late)) && late <= answered / 10, "{answered}, {late}");
    assert_eq!(tally.errors, 0);
}

#[test]
fn traffics_are_counted_separately() {
    let plain = Traffic::new(3, Request::get("/plaintext"), Pacing::Closed);
    let waits = Traffic::new(4, Request::get("/sleep/50"), Pacing::Closed);
    let made = outcome(&[plain, waits]);
    let [plain, waits] = [0, 1].map(|index: usize| made.tallies[index].answered);
    // Each waiting client can send eight requests within the window.
    assert!(plain > waits && (4..=36).contains(&waits), "{plain}, {waits}");
}

#[test]
fn bodies_streams_and_short_connections_succeed_and_refusals_are_errors() {
    let one = |ask| Traffic::new(2, ask, Pacing::Closed);
    for traffic in [
        one(Request::get("/stream/100")),
        one(Request::post("/echo", vec![7; 300_000])),
        Traffic { keep: false, ..one(Request::get("/plaintext")) },
    ] {
        let made = outcome(std::slice::from_ref(&traffic));
        let path = &traffic.mix[0].1.path;
        assert!(made.tallies[0].answered > 10, "{path}: {}", made.tallies[0].answered);
        assert_eq!(made.tallies[0].errors, 0, "{path}");
    }
    let made = outcome(&[one(Request::get("/nowhere"))]);
    assert_eq!(made.tallies[0].answered, 0);
    assert!(made.tallies[0].errors > 10);
}

#[test]
fn a_missing_server_causes_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nowhere = listener.local_addr().expect("a bound address");
    drop(listener);
    let traffic = Traffic::new(2, Request::get("/"), Pacing::Closed);
    let made =
        put(nowhere, &[traffic], TIMES, Generators::new(1), Usage::default).expect("no system call fails");
    // Each connection pauses for 10 ms after a failure.
    assert!((10..=200).contains(&made.tallies[0].errors), "{}", made.tallies[0].errors);
}

#[test]
fn a_server_that_exits_causes_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound address");
    // Sends one response and closes while the next request is on its way, or before.
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept()?;
        let _ = peer.read(&mut [0; 1024])?;
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let traffic = Traffic::new(1, Request::get("/"), Pacing::Closed);
    let made =
        put(addr, &[traffic], TIMES, Generators::new(1), Usage::default).expect("no system call fails");
    server.join().expect("no panic").expect("a request");
    assert!((5..=100).contains(&made.tallies[0].errors), "{}", made.tallies[0].errors);
}

#[test]
fn the_shares_add_up() {
    let traffic = Traffic::new(7, Request::get("/"), Pacing::Open(70.0));
    let parts: Vec<Traffic> = (0..3).map(|index| traffic.part(index, 3)).collect();
    assert_eq!(parts.iter().map(|part| part.connections).collect::<Vec<_>>(), [3, 2, 2]);
    let rate = |part: &Traffic| match part.pacing {
        Pacing::Open(rate) => rate,
        _ => 0.0,
    };
    assert!((parts.iter().map(rate).sum::<f64>() - 70.0).abs() < 1e-9);
}

#[test]
fn a_request_states_the_length_of_its_body() {
    let to = SocketAddr::from(([127, 0, 0, 1], 80));
    let get = Request::get("/a").bytes(to, false);
    assert_eq!(get, b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n");
    let post = Request::post("/b", *b"xyz").bytes(to, true);
    assert_eq!(post, b"POST /b HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 3\r\n\r\nxyz");
    let empty = Request::post("/b", *b"").bytes(to, true);
    assert_eq!(empty, b"POST /b HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 0\r\n\r\n");
}
