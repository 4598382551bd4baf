//! The minimum rate, and the bounds of each wait for a peer.

use super::*;

#[test]
fn the_rest_of_an_unread_body_obeys_the_minimum_rate() {
    let unread = head("POST /ignore", "Content-Length: 200000\r\n");
    let chunked = head("POST /ignore", "Transfer-Encoding: chunked\r\n");
    let drip = |byte| move |rig: &mut Rig| rig.script().reads.extend([Text(byte), Nothing]);
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (request, byte, min_rate) in [
            (unread, "x", 256),
            (unread, "x", 0),
            // A chunk size, an extension, a trailer.
            (chunked, "0", 256),
            (all(&[chunked, "1;a="]).text(), "b", 256),
            (all(&[chunked, "0\r\n"]).text(), "b", 256),
        ] {
            let set = |config: &mut Config| {
                (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(1), min_rate, 0);
            };
            let mut rig = Rig::new(blocks, set, [Text(request)]);
            assert!(!rig.poll());
            rig.assert_written("ignored");
            let took = rig.ends_after(drip(byte));
            // The lingering close follows.
            let limit = seconds(1) + Config::default().linger;
            assert!(took >= limit && took <= limit + seconds(1), "{request:?} {byte:?} {min_rate}: {took:?}");
            assert!(rig.script().is_shut, "the peer is told before the connection closes");
        }
    }
}

#[test]
fn a_small_body_is_awaited_for_its_own_time_after_the_rest_of_another() {
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(4), 0, 5);
    };
    let mut rig = Rig::new(BLOCKING, set, [Text(head("POST /ignore", "Content-Length: 10\r\n"))]);
    rig.lives_for(seconds(3));
    rig.assert_written("ignored");
    rig.service.found_idle();
    let next = all(&["0123456789", head("POST /count", "Content-Length: 3\r\n")]);
    rig.script().reads.extend([next, Nothing]);
    rig.lives_for(seconds(3));
    rig.service.found_idle();
    rig.script().reads.extend([Text("abc"), Nothing]);
    assert!(!rig.poll());
    rig.assert_written("3 bytes");
}

#[test]
fn the_rest_of_an_unread_body_that_keeps_to_the_rate_has_a_limit_in_all() {
    // Beyond the limit, a length would end the connection at once. The framing of chunks does not count as body.
    let chunked = head("POST /ignore", "Transfer-Encoding: chunked\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.limits.drain) = (seconds(1), 2, 20);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(chunked)]);
    assert!(!rig.poll());
    let mut coding = "0000000000000001\r\nx\r\n".bytes().cycle();
    let took = rig.ends_after(|rig| {
        let byte = char::from(coding.next().unwrap()).to_string().leak();
        rig.script().reads.extend([Text(byte), Nothing]);
    });
    // 20 bytes at 2 bytes per second take 10 s.
    let limit = seconds(11) + Config::default().linger;
    assert!(took >= limit && took <= limit + seconds(1), "{took:?}");
}

#[test]
fn each_flush_of_a_stream_has_its_own_time() {
    let set = |config: &mut Config| (config.write_timeout, config.min_rate) = (seconds(2), 1_000_000);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(PIECES)]);
    for _ in 0..5 {
        rig.script().room = 0;
        rig.pieces.lock().unwrap().push_back("piece ");
        rig.lives_for(Duration::from_millis(1500));
        rig.script().room = usize::MAX;
        assert!(!rig.poll());
    }
    assert_eq!(rig.written().matches("piece ").count(), 5);
}

#[test]
fn a_peer_that_moves_a_byte_at_each_deadline_is_slow() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.body_timeout, config.min_rate) = (seconds(2), seconds(2), 100);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head("GET /large", ""))]);
    (rig.script().is_timeless, rig.script().room) = (true, 0);
    let took = rig.ends_after(|rig| rig.script().room = 1);
    assert!(took >= seconds(2) && took <= seconds(3), "{took:?}");
    for request in ["POST /count", "POST /ignore"] {
        let mut rig = Rig::new(EVENT_LOOP, set, [Text(head(request, "Content-Length: 1000\r\n"))]);
        rig.script().is_timeless = true;
        let start = rig.clock.now();
        while !rig.script().is_shut {
            assert!(rig.clock.now() < start + seconds(10), "{request}: the peer is not late");
            rig.script().reads.extend([Text("x"), Nothing]);
            rig.poll();
            rig.clock.advance(Duration::from_millis(500));
        }
        assert!(rig.clock.now() >= start + seconds(2), "{request}");
    }
}

#[test]
fn a_peer_that_sends_the_rest_of_an_unread_body_in_time_keeps_its_connection() {
    let request = head("POST /ignore", "Content-Length: 3\r\n");
    let set = |config: &mut Config| (config.body_timeout, config.min_rate) = (seconds(2), 1);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(request)]);
    for byte in ["a", "b", "c"] {
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        rig.script().reads.extend([Text(byte), Nothing]);
    }
    rig.script().reads.extend([Text(GET), Nothing]);
    assert!(!rig.poll() && !rig.poll());
    rig.assert_written(&"x".repeat(1000));
    assert!(!rig.script().is_shut);
}

#[test]
fn the_bytes_that_a_handler_has_read_give_the_rest_of_the_body_no_time() {
    let head = head("POST /some", "Content-Length: 200000\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(1), 100, 0);
    };
    // 65,536 bytes at 100 bytes per second take ten minutes.
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head), Nothing, bulk()]);
    assert!(!rig.poll() && !rig.poll());
    rig.assert_written("some");
    let took = rig.ends_after(|rig| rig.script().reads.extend([Text("x"), Nothing]));
    assert!(took <= seconds(2) + Config::default().linger, "{took:?}");
}

#[test]
fn empty_lines_do_not_extend_the_time_of_an_idle_connection() {
    let set = |config: &mut Config| {
        (config.keep_alive, config.header_timeout) = (seconds(4), seconds(4));
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(GET)]);
    assert!(!rig.poll());
    let start = rig.clock.now();
    let took = rig.ends_after(|rig| {
        if [seconds(3), seconds(6)].contains(&(rig.clock.now() - start)) {
            rig.script().reads.push_back(Text("\r\n"));
        }
    });
    assert_eq!(took, seconds(7), "the first line begins the head");
}

#[test]
fn a_peer_that_sends_without_a_pause_does_not_extend_the_lingering_close() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /", "Transfer-Encoding: x\r\n"))]);
    let took = rig.ends_after(|rig| rig.script().reads.extend([bulk(); 20]));
    assert_eq!(took, Config::default().linger);
}
