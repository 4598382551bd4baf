//! Upgrades: the switch, the place of the connection, a stop, and the body of the request.

use super::*;

/// Creates a connection that was upgraded by the route `path`, and that has received `early` bytes of the new protocol.
fn upgraded(path: &str, early: &str) -> Rig {
    let upgrade = head(&format!("GET {path}"), OFFER);
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[upgrade, early])]);
    assert!(rig.poll(), "the driver has ended");
    assert!(rig.written().starts_with(SWITCHING), "{}", rig.written());
    rig
}

#[test]
fn an_upgraded_connection_is_open_until_its_stream_is_dropped() {
    let rig = upgraded("/upgrade", "");
    assert!(!rig.poll_task());
    let stats = rig.runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded, stats.tasks_running), (1, 1, 0));
    assert_eq!(stats.requests_in_flight, 0);
    rig.tasks.lock().unwrap().clear();
    assert_eq!(Arc::strong_count(&rig.script), 1, "the transport was dropped");
    let stats = rig.runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded, stats.tasks_running), (0, 0, 0));
    assert_eq!(Report::of(&rig.service).cut, 0);
}

#[test]
fn a_forced_stop_wakes_and_cuts_an_upgraded_connection() {
    for path in ["/upgrade", "/upgrade-and-hold"] {
        let rig = upgraded(path, "");
        rig.service.shutdown().graceful();
        assert_eq!(rig.wakes(), 0, "the driver has ended");
        assert!(!rig.poll_task(), "{path}");
        assert_eq!(Report::of(&rig.service).cut, 1, "an open connection counts as cut");
        rig.service.shutdown().force();
        assert!(rig.wakes() > 0, "{path}");
        assert!(rig.poll_task(), "{path}");
        assert_eq!((rig.service.connections(), Report::of(&rig.service).cut), (0, 1), "{path}");
        assert_eq!(rig.runtime.tasks(), 0, "{path}");
    }
}

#[test]
fn the_stream_of_an_upgrade_fails_after_a_forced_stop() {
    for (early, is_polled) in [("", true), ("", false), ("early", false)] {
        let rig = upgraded("/upgrade", early);
        assert!(!is_polled || !rig.poll_task());
        rig.service.shutdown().force();
        assert!(rig.poll_task());
        let ends = rig.ends.lock().unwrap();
        let [(Err(error), tasks)] = &ends[..] else { panic!("{ends:?}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(*tasks, 0, "a task of a connection that was cut is no background task");
    }
}

#[test]
fn the_stream_of_an_upgrade_begins_with_the_bytes_after_the_request() {
    let rig = upgraded("/upgrade", "early");
    assert!(rig.poll_task());
    assert!(matches!(rig.ends.lock().unwrap()[..], [(Ok(5), 1)]));
}

#[test]
fn the_rest_of_an_upgrade_without_its_stream_is_a_background_task() {
    let rig = upgraded("/upgrade-and-drop", "");
    assert_eq!((rig.service.connections(), rig.runtime.tasks()), (1, 0));
    assert!(!rig.poll_task());
    assert_eq!((rig.service.connections(), rig.runtime.tasks()), (0, 1));
    rig.tasks.lock().unwrap().clear();
    assert_eq!(rig.runtime.tasks(), 0);
}

/// Creates a connection with an upgrade whose body has three bytes.
fn upgrade_with_body(set: impl FnOnce(&mut Config), fields: &str, reads: &[Read]) -> Rig {
    let begin = Text(head("POST /upgrade", &format!("{OFFER}Content-Length: 3\r\n{fields}")));
    let set = |config: &mut Config| {
        config.body_buffer = 0;
        set(config);
    };
    Rig::new(EVENT_LOOP, set, [begin, Nothing].into_iter().chain(reads.iter().copied()))
}

#[test]
fn an_upgrade_waits_for_the_body_of_its_request() {
    for (fields, interim) in [("", ""), ("Expect: 100-continue\r\n", CONTINUE)] {
        let mut rig = upgrade_with_body(|_| {}, fields, &[Text("ab"), Nothing, Text("c")]);
        for _ in 0..2 {
            assert!(!rig.poll());
            assert_eq!(rig.written(), interim);
        }
        assert!(rig.poll());
        assert!(rig.written().starts_with(&format!("{interim}{SWITCHING}")), "{}", rig.written());
        assert_eq!(rig.script().deadline, None, "the new protocol has no deadline");
    }
}

#[test]
fn an_upgrade_waits_for_a_body_as_long_as_a_reader_does() {
    let set = |config: &mut Config| (config.body_timeout, config.min_rate) = (seconds(20), 1_000);
    let mut rig = upgrade_with_body(set, "", &[Text("a")]);
    assert!(!rig.poll());
    for wait in [19, 2] {
        assert_eq!(rig.written(), "");
        rig.clock.advance(seconds(wait));
        rig.script().reads.push_back(Nothing);
        rig.poll();
    }
    rig.assert_written("HTTP/1.1 408 ");
    assert_eq!(rig.service.connections(), 1, "the connection lingers");
}

#[test]
fn an_upgrade_drops_no_more_than_the_drain_limit() {
    for (drain, is_refused) in [(3, false), (2, true), (0, true)] {
        for fields in ["", "Expect: 100-continue\r\n"] {
            let mut rig = upgrade_with_body(|config| config.limits.drain = drain, fields, &[Text("abc")]);
            rig.poll();
            let status = if is_refused { "HTTP/1.1 413 " } else { SWITCHING };
            let interim = if is_refused || fields.is_empty() { "" } else { CONTINUE };
            rig.poll();
            assert!(rig.written().starts_with(&format!("{interim}{status}")), "{drain} {}", rig.written());
        }
        let chunked = format!("{OFFER}Transfer-Encoding: chunked\r\n");
        let chunks = ["2\r\nab\r\n", "1\r\nc\r\n0\r\n\r\n"].map(Text);
        let reads = [Text(head("POST /upgrade", &chunked)), Nothing].into_iter().chain(chunks);
        let mut rig = Rig::new(EVENT_LOOP, |config| config.limits.drain = drain, reads);
        rig.poll();
        rig.poll();
        assert_eq!(rig.written().starts_with("HTTP/1.1 413 "), is_refused, "{drain} {}", rig.written());
    }
}

#[test]
fn a_forced_stop_cuts_an_upgrade_that_waits_for_its_body_or_its_peer() {
    for (reads, room) in [(&[][..], usize::MAX), (&[Text("abc")], 10)] {
        let mut rig = upgrade_with_body(|_| {}, "", reads);
        rig.script().room = room;
        assert!(!rig.poll());
        assert!(!rig.poll());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert_eq!((rig.service.connections(), Report::of(&rig.service).cut), (0, 1));
        assert!(rig.tasks.lock().unwrap().is_empty(), "the function is not called");
    }
}
