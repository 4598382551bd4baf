//! Deadlines, also of a process that did not run when they passed.

use super::*;

#[test]
fn the_wait_for_a_body_does_not_change_the_deadline_of_a_write() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.body_timeout, config.min_rate) = (seconds(20), seconds(15), 0);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [all(&[GET, POST]), Nothing, Text("a"), Nothing, Text("bc")]);
    rig.script().room = 100;
    let start = rig.clock.now();
    assert!(!rig.poll());
    assert_eq!(rig.script().deadline, Some(start + seconds(15)));
    rig.clock.advance(seconds(10));
    for _ in 0..2 {
        assert!(!rig.poll());
        assert_eq!(rig.script().deadline, Some(start + seconds(20)));
    }
    rig.clock.advance(seconds(10));
    assert!(rig.poll(), "the peer has received nothing before the deadline of the write");
}

#[test]
fn the_response_for_a_late_handler_has_the_deadline_of_a_write() {
    let mut rig = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
    rig.script().room = 20;
    assert!(!rig.poll());
    rig.clock.advance(seconds(5));
    assert!(!rig.poll(), "the peer has received only the beginning");
    rig.script().room = usize::MAX;
    rig.poll();
    let written = rig.written();
    assert!(written.starts_with("HTTP/1.1 503 ") && written.contains("\r\n\r\n"), "{written}");
}

#[test]
fn the_time_in_which_a_connection_waits_for_a_thread_does_not_count_as_the_peers() {
    for is_thread_idle in [false, true] {
        let set = |config: &mut Config| (config.write_timeout, config.min_rate) = (seconds(20), 1_000);
        let mut rig = Rig::new(BLOCKING, set, [Text(GET)]);
        rig.script().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(seconds(15));
        if is_thread_idle {
            rig.service.found_idle();
        }
        rig.script().room = 100;
        assert!(!rig.poll());
        // 100 bytes are below the minimum rate only if the peer needed all of the time for them.
        rig.clock.advance(seconds(10));
        assert_eq!(rig.poll(), is_thread_idle);
    }
}

#[test]
fn bytes_that_arrived_while_the_process_was_stopped_are_read_before_a_deadline_is_judged() {
    let stopped = seconds(600);
    let set = |config: &mut Config| config.min_rate = 256;
    // An idle connection, a head, a body.
    for (before, arrived) in [(GET, GET), ("GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"), (POST, "abc")] {
        let mut rig = Rig::new(EVENT_LOOP, set, [Text(before), Nothing]);
        assert!(!rig.poll());
        rig.script().written.clear();
        rig.clock.advance(stopped);
        rig.script().reads.push_back(Text(arrived));
        for _ in 0..3 {
            assert!(!rig.poll(), "{before:?}");
        }
        rig.assert_written("HTTP/1.1 200 OK");
    }
}

#[test]
fn a_handler_gets_the_time_again_for_which_the_process_was_stopped() {
    for (late_by, is_over) in
        [(Duration::ZERO, true), (Duration::from_millis(1), false), (seconds(60), false)]
    {
        let mut rig = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
        assert!(!rig.poll());
        rig.clock.advance(seconds(5) + late_by);
        rig.poll();
        assert_eq!(rig.written().starts_with("HTTP/1.1 503 "), is_over, "{late_by:?}");
        rig.clock.advance(late_by.min(seconds(5)));
        rig.poll();
        rig.assert_written("HTTP/1.1 503 ");
    }
}

#[test]
fn a_peer_that_missed_the_deadline_of_a_write_gets_no_more_while_its_handler_goes_on() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.on_disconnect) = (seconds(5), OnDisconnect::Ignore);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [all(&[GET, NEVER])]);
    rig.script().room = 10;
    assert!(!rig.poll());
    let sent = rig.written().len();
    rig.clock.advance(seconds(6));
    assert!(!rig.poll());
    rig.script().room = 1_000;
    assert!(!rig.poll());
    assert_eq!(rig.written().len(), sent);
}

#[test]
fn a_deadline_that_is_always_noticed_late_ends_the_second_wait() {
    let mut handler = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
    assert!(!handler.poll());
    for written in [false, true] {
        handler.clock.advance(seconds(60));
        handler.poll();
        assert_eq!(handler.written().starts_with("HTTP/1.1 503 "), written);
    }
    let mut stream = half_closed(PIECES, |_| {});
    for _ in 0..3 {
        stream.clock.advance(seconds(60));
        assert!(!stream.poll(), "each piece is excused once");
        stream.pieces.lock().unwrap().push_back("next ");
        assert!(!stream.poll());
    }
    for is_over in [false, true] {
        stream.clock.advance(seconds(60));
        assert_eq!(stream.poll(), is_over);
    }
}

#[test]
fn a_handler_that_has_given_up_its_body_has_a_deadline() {
    let give_up = head("POST /give-up", "Content-Length: 3\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.handler_timeout, config.min_rate) = (seconds(20), seconds(5), 0);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(give_up), Nothing]);
    assert!(!rig.poll());
    // The handler may still wait for its body.
    for _ in 0..4 {
        rig.clock.advance(Duration::from_millis(4_900));
        assert!(!rig.poll());
        assert_eq!(rig.written(), "");
    }
    for _ in 0..3 {
        rig.clock.advance(Duration::from_millis(2_700));
        rig.poll();
    }
    rig.assert_written("503 Service Unavailable");
}

#[test]
fn a_peer_that_dribbles_to_a_handler_is_slow_although_its_thread_is_never_idle() {
    let head = head("POST /", "Content-Length: 90\r\n");
    let set = |config: &mut Config| {
        (config.body_buffer, config.body_timeout, config.min_rate) = (0, seconds(20), 1_000);
    };
    let mut rig = Rig::new(BLOCKING, set, [Text(head), Nothing]);
    assert!(!rig.poll());
    for _ in 0..6 {
        rig.clock.advance(seconds(10));
        rig.poll();
        rig.script().reads.extend([Text("a"), Nothing]);
        rig.poll();
    }
    rig.assert_written("TimedOut");
}

#[test]
fn setting_the_clock_of_the_system_does_not_change_the_age_of_a_connection() {
    const HOUR: Duration = seconds(3600);
    for blocks in [EVENT_LOOP, BLOCKING] {
        let mut rig = Rig::new(blocks, |config| config.max_age = HOUR, []);
        let start = 1_700_000_000;
        for (wall, advance, closes) in [
            (start, Duration::ZERO, false),
            (start + 7200, HOUR / 2, false),
            (start - 7200, HOUR / 2 - seconds(1), false),
            (start - 7200, seconds(1), true),
        ] {
            rig.clock.set_unix_start(wall);
            rig.clock.advance(advance);
            rig.script().written.clear();
            rig.script().reads.push_back(all(&[GET]));
            assert_eq!(rig.poll(), closes, "{wall} {advance:?}");
            rig.assert_written("HTTP/1.1 200 OK");
            assert_eq!(rig.written().contains("Connection: close"), closes, "{wall} {advance:?}");
        }
    }
}
