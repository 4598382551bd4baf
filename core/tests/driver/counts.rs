//! What a server counts: its connections, their requests and responses, and their places.

use gearshift_core::{Bind, Listener, Overload, Stats};

use super::*;

#[test]
fn a_request_has_the_address_of_its_peer() {
    let handler = |request: Request| Answer::Ready(Response::text(format!("{:?}", request.peer())));
    let rig = Rig::calling(handler, EVENT_LOOP, |_| {}, []);
    for (peer, seen) in [
        (None, "None"),
        (Some("192.0.2.1:5"), "Some(192.0.2.1:5)"),
        (Some("[::ffff:192.0.2.1]:5"), "Some(192.0.2.1:5)"),
        (Some("[2001:db8::1]:5"), "Some([2001:db8::1]:5)"),
    ] {
        let peer = peer.map(|peer| peer.parse().expect("an address"));
        let mut other = rig.another(peer, [Text(GET)]);
        assert!(!other.poll());
        other.assert_written(seen);
    }
}

#[test]
fn a_service_has_its_settings() {
    let rig = Rig::new(EVENT_LOOP, |config| config.max_connections = 7, []);
    assert_eq!(rig.service.config().max_connections, 7);
    assert_eq!(rig.service.connections(), 1);
}

#[test]
fn a_connection_beyond_the_limit_is_refused_or_served_as_the_settings_say() {
    for (overload, room) in [(Overload::Wait, 0), (Overload::Refuse, Overload::REFUSALS)] {
        let set = |config: &mut Config| (config.max_connections, config.overload) = (2, overload);
        let mut first = Rig::new(EVENT_LOOP, set, [Text(GET)]);
        assert!(first.service.has_room());
        let mut second = first.another(None, [Text(GET)]);
        let mut third = first.another(None, [Text(GET)]);
        for rig in [&mut first, &mut second] {
            assert!(!rig.poll());
            rig.assert_written("HTTP/1.1 200");
        }
        let ends = third.poll() || third.script().is_shut;
        let is_refused = overload == Overload::Refuse;
        third.assert_written(if is_refused { "HTTP/1.1 503" } else { "HTTP/1.1 200" });
        assert_eq!(ends, is_refused);
        assert_eq!(first.runtime.stats().connections_refused, u64::from(is_refused));
        assert_eq!(first.service.has_room(), room > 1);
        let refused: Vec<_> = (1..room).map(|_| first.another(None, [])).collect();
        assert!(!first.service.has_room(), "{overload:?}");
        drop((refused, third));
        let is_next_served = || {
            let mut next = first.another(None, [Text(GET)]);
            next.poll();
            next.written().starts_with("HTTP/1.1 200")
        };
        assert_eq!(is_next_served(), !is_refused, "a refused connection had no place");
        drop(second);
        assert!(is_next_served(), "the place of a connection is free after its end");
    }
}

/// The counts after a connection has received `reads`: of requests, of responses by class, and of bytes.
fn counted(blocks: bool, reads: &[Read]) -> (Rig, Stats) {
    let mut rig = Rig::new(blocks, |_| {}, reads.iter().copied());
    // The handler of a request with a body waits once.
    let _ = rig.poll() || rig.poll();
    let stats = rig.runtime.stats();
    (rig, stats)
}

#[test]
fn requests_and_responses_are_counted() {
    let failing = head("GET /broken", "");
    let upgrading = head("GET /upgrade", OFFER);
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (reads, in_flight, served, rejected, responses) in [
            (&[][..], 0, 0, 0, [0; 5]),
            (&[Text("GET / HT")], 0, 0, 0, [0; 5]),
            (&[Text(GET)], 0, 1, 0, [0, 1, 0, 0, 0]),
            (&[all(&[GET, GET, GET])], 0, 3, 0, [0, 3, 0, 0, 0]),
            (&[Text(head("GET /status/404", ""))], 0, 1, 0, [0, 0, 0, 1, 0]),
            (&[all(&[GET, head("GET /status/404", ""), GET])], 0, 3, 0, [0, 2, 0, 1, 0]),
            (
                &[all(&[GET, head("GET /status/301", ""), head("GET /status/500", "")])],
                0,
                3,
                0,
                [0, 1, 1, 0, 1],
            ),
            (&[Text(NEVER)], 1, 0, 0, [0; 5]),
            (&[all(&[GET, NEVER])], 1, 0, 0, [0; 5]),
            (&[all(&[POST, "abc", GET])], 0, 2, 0, [0, 2, 0, 0, 0]),
            (&[Text(PIECES)], 1, 0, 0, [0; 5]),
            (&[Text(failing)], 0, 1, 0, [0, 1, 0, 0, 0]),
            (&[all(&[failing, GET])], 0, 1, 0, [0, 1, 0, 0, 0]),
            (&[Text(upgrading)], 0, 1, 0, [1, 0, 0, 0, 0]),
            (&[Text("GET / HTTP/1.1\r\n\r\n")], 0, 0, 1, [0, 0, 0, 1, 0]),
        ] {
            let (rig, stats) = counted(blocks, reads);
            let case = format!("{:?}", reads.iter().map(|read| read.text()).collect::<Vec<_>>());
            assert_eq!(stats.requests_in_flight, in_flight, "{case}");
            assert_eq!((stats.requests_served, stats.requests_rejected), (served, rejected), "{case}");
            assert_eq!(stats.responses, responses, "{case}");
            assert_eq!(stats.connections_accepted, 1, "{case}");
            let received: usize = reads.iter().map(|read| read.text().len()).sum();
            assert_eq!(stats.bytes_received, received as u64, "{case}");
            assert_eq!(stats.bytes_sent, rig.script().written.len() as u64, "{case}");
            drop(rig.driving);
            let stats = rig.runtime.stats();
            assert_eq!(stats.requests_in_flight, 0, "{case}: the connection was dropped");
        }
    }
}

#[test]
fn a_forced_stop_counts_what_it_cuts() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (reads, cut, refused) in [
            (vec![], 0, 0),
            (vec![Text(GET)], 0, 0),
            (vec![Text("GET / HT")], 0, 1),
            (vec![Text(NEVER)], 1, 0),
            (vec![Text(POST)], 1, 0),
            (vec![Text(PIECES)], 1, 0),
        ] {
            let mut rig = Rig::new(blocks, |_| {}, reads);
            assert!(!rig.poll());
            rig.service.shutdown().graceful();
            rig.service.shutdown().force();
            assert!(rig.poll());
            let report = Report::of(&rig.service);
            assert_eq!((report.cut, report.refused), (cut, refused), "{}", rig.written());
        }
    }
}

#[test]
fn responses_during_a_stop_are_counted_as_finished() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        for reads in
            [vec![Text(NEVER)], vec![Text(PIECES)], vec![Text(POST), Nothing, Text("abc")], vec![Text(GET)]]
        {
            let is_answered = matches!(reads[0], Text(request) if request == POST || request == GET);
            let mut rig = Rig::new(blocks, |_| {}, reads);
            rig.service.shutdown().graceful();
            for _ in 0..3 {
                rig.poll();
            }
            assert_eq!(Report::of(&rig.service).finished, u64::from(is_answered), "{}", rig.written());
        }
    }
}

#[test]
fn connections_are_refused_while_the_process_has_no_file_descriptor() {
    use std::io::Read as _;

    keep_lines();
    let set = |config: &mut Config| (config.overload, config.access_log) = (Overload::Refuse, true);
    let rig = Rig::new(EVENT_LOOP, set, []);
    rig.clock.advance(seconds(784_111_777));
    let bind = "127.0.0.1:0".parse::<Bind>().expect("an address");
    let listener = Listener::bind(&[bind], rig.service.config()).expect("a free port").remove(0);
    let &Endpoint::Tcp(address) = listener.local() else { panic!("a TCP socket") };
    let mut peer = std::net::TcpStream::connect(address).expect("the listener has a queue");
    let mut pause = AcceptPause::new();
    // EMFILE.
    let error = io::Error::from_raw_os_error(24);
    let of_peer = peer.local_addr().expect("a connected socket").to_string();
    let lines_with = |text: &str| -> Vec<String> {
        LINES.lock().unwrap().extract_if(.., |line| line.contains(text)).collect()
    };
    for (n, pauses) in [(0, 1), (1, 0), (2, 1)] {
        assert!(pause.failed(&error, &listener, &rig.service).is_some());
        assert_eq!(lines_with("accepting pauses").len(), pauses, "failure {n}");
        if n > 0 {
            rig.clock.advance(seconds(1));
        }
    }
    let mut response = String::new();
    peer.read_to_string(&mut response).expect("the response is text");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nRetry-After: "), "{response}");
    assert_eq!(rig.runtime.stats().connections_refused, 1);
    let text = "there are too many connections";
    assert!(response.ends_with(text), "{response}");
    let line = format!("{of_peer} - - [06/Nov/1994:08:49:37 +0000] \"-\" 503 {} 0.000000", text.len());
    assert_eq!(lines_with(&of_peer), [line]);
}
