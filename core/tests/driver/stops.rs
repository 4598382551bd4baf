//! What a stop does with a connection.

use super::*;

#[test]
fn a_forced_stop_wakes_a_connection_whose_handler_is_pending() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [Text(NEVER)]);
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
    assert!(rig.poll());
}

#[test]
fn a_request_counts_as_cut_if_a_forced_stop_ends_a_write_before_its_response() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [all(&[GET, NEVER])]);
    rig.script().room = 10;
    rig.script().force = Some(rig.service.shutdown().clone());
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn a_stop_waits_for_the_first_head_of_a_connection() {
    let (begin, rest) = GET.split_at(5);
    let set = |config: &mut Config| config.header_timeout = seconds(10);
    for reads in [vec![Text(GET)], vec![Text(begin), Nothing, Text(rest)]] {
        let mut rig = Rig::new(EVENT_LOOP, set, []);
        assert!(!rig.poll());
        rig.service.shutdown().graceful();
        assert!(!rig.poll(), "the peer is silent");
        rig.clock.advance(seconds(9));
        rig.script().reads.extend(reads);
        while !rig.poll() {}
        rig.assert_written("HTTP/1.1 200 OK");
        rig.assert_written("Connection: close");
    }
}

#[test]
fn a_stop_waits_for_a_first_head_until_its_deadline() {
    for (read, status, refused) in [(Nothing, "", 0), (Text(&GET[..5]), "HTTP/1.1 408 ", 1)] {
        let mut rig = Rig::new(EVENT_LOOP, |config| config.header_timeout = seconds(10), [read]);
        assert!(!rig.poll());
        rig.service.shutdown().graceful();
        rig.clock.advance(seconds(9));
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        rig.poll();
        let written = rig.written();
        assert!(written.starts_with(status) && written.is_empty() == status.is_empty(), "{written}");
        assert_eq!(Report::of(&rig.service).refused, refused);
    }
}

#[test]
fn a_stop_ends_an_idle_connection_and_waits_for_a_head_that_has_begun() {
    for (rest, is_idle) in [(None, true), (Some("\r\nHost: a\r\n\r\n"), false)] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(GET)]);
        assert!(!rig.poll());
        if !is_idle {
            rig.script().reads.push_back(Text("GET / HTTP/1.1"));
            assert!(!rig.poll());
        }
        rig.service.shutdown().graceful();
        assert_eq!(rig.poll(), is_idle);
        rig.script().reads.extend(rest.map(Text));
        while !rig.poll() {}
        assert_eq!(rig.written().matches("HTTP/1.1 200 OK").count(), if is_idle { 1 } else { 2 });
        assert_eq!(rig.written().contains("Connection: close"), !is_idle);
    }
}

#[test]
fn a_stop_lingers_behind_a_body_that_its_handler_did_not_read() {
    let head = head("POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, []);
    rig.script().reads.extend([Text(head.replace("POST /", "POST /ignore").leak())]);
    assert!(!rig.poll());
    rig.assert_written("HTTP/1.1 200 OK");
    rig.service.shutdown().graceful();
    assert!(!rig.poll(), "the peer may be sending");
    assert!(rig.script().is_shut);
    rig.script().reads.extend([Text("abc"), End]);
    assert!(rig.poll());
}

#[test]
fn the_deadline_of_a_head_that_arrives_during_a_stop_does_not_end_the_response() {
    let (begin, rest) = GET.split_at(5);
    let mut rig =
        Rig::new(EVENT_LOOP, |config| config.header_timeout = seconds(10), [Text(begin), Nothing, Nothing]);
    assert!(!rig.poll());
    rig.script().reads = [Text(rest)].into();
    rig.script().room = 100;
    rig.service.shutdown().graceful();
    rig.clock.advance(seconds(11));
    assert!(!rig.poll(), "the peer has received only the beginning of the response");
    rig.script().room = usize::MAX;
    assert!(rig.poll());
    assert!(rig.written().ends_with(&"x".repeat(1000)), "{}", rig.written());
}
