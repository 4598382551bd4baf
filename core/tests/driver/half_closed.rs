//! Streams whose peer has ended its sending side.

use super::*;

#[test]
fn a_stream_without_a_next_piece_ends_after_its_peer() {
    for request in [PIECES, "GET /pieces HTTP/1.0\r\n\r\n"] {
        let mut rig = half_closed(request, |_| {});
        assert_eq!(rig.ends_after(|_| {}), seconds(5), "{request:?}");
        let mut rig = half_closed(request, |config| config.half_closed_timeout = seconds(60));
        assert_eq!(rig.ends_after(|_| {}), seconds(60), "{request:?}");
        let mut rig = half_closed(request, |config| config.half_closed_timeout = Duration::MAX);
        assert_eq!(rig.ends_after(|_| {}), seconds(5_000), "{request:?}: all polls");
    }
}

#[test]
fn each_piece_of_a_half_closed_stream_has_its_own_time() {
    let mut rig = half_closed(PIECES, |_| {});
    for _ in 0..10 {
        rig.lives_for(seconds(4));
        rig.pieces.lock().unwrap().push_back("next ");
        assert!(!rig.poll());
    }
    // A piece without bytes is no progress.
    rig.lives_for(seconds(4));
    rig.pieces.lock().unwrap().push_back("");
    assert_eq!(rig.ends_after(|_| {}), seconds(1));
    assert_eq!(rig.written().matches("next ").count(), 10);
}

#[test]
fn a_piece_gets_the_time_again_for_which_the_process_was_stopped() {
    let half = Duration::from_millis(500);
    for (late_by, again) in [
        (Duration::ZERO, None),
        (half, Some(half)),
        (seconds(1), Some(seconds(1))),
        (seconds(60), Some(seconds(5))),
    ] {
        let mut rig = half_closed(PIECES, |_| {});
        rig.clock.advance(seconds(5) + late_by);
        assert_eq!(rig.poll(), again.is_none(), "{late_by:?}");
        assert!(again.is_none_or(|again| rig.ends_after(|_| {}) == again), "{late_by:?}");
    }
}

#[test]
fn the_bytes_that_were_written_without_a_wait_give_no_time() {
    let set = |config: &mut Config| config.write_timeout = seconds(20);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head("GET /large", ""))]);
    rig.script().room = 400_000;
    let took = rig.ends_after(|rig| rig.script().room += 1);
    assert!(took >= seconds(20) && took < seconds(22), "400,000 bytes would give half an hour: {took:?}");
}

#[test]
fn a_stream_that_an_async_handler_returns_has_no_deadline_of_a_handler() {
    let handler = |_: Request| {
        Answer::later(async {
            yield_now().await;
            Response::new(Body::from_stream(stream::pending::<Piece>()))
        })
    };
    for blocks in [EVENT_LOOP, BLOCKING] {
        let set = |config: &mut Config| config.handler_timeout = seconds(5);
        let mut rig = Rig::calling(handler, blocks, set, [Text(GET)]);
        rig.lives_for(seconds(20));
        rig.assert_written("HTTP/1.1 200");
    }
}

#[test]
fn a_large_piece_of_a_half_closed_stream_starts_its_time_again() {
    let mut rig = half_closed(PIECES, |_| {});
    rig.clock.advance(seconds(4));
    rig.pieces.lock().unwrap().push_back("x".repeat(40_000).leak());
    assert!(!rig.poll());
    assert_eq!(rig.ends_after(|_| {}), seconds(5));
}

#[test]
fn a_half_closed_peer_that_takes_no_bytes_has_the_time_of_a_write() {
    let mut rig = half_closed(PIECES, |config| config.write_timeout = seconds(20));
    rig.script().room = 3;
    rig.pieces.lock().unwrap().push_back("next ");
    assert_eq!(rig.ends_after(|_| {}), seconds(20));
}

#[test]
fn the_end_behind_unread_bytes_ends_a_stream_too() {
    let pipelined = all(&[PIECES, &GET.repeat(400)]);
    let unread = all(&[head("POST /pieces", "Content-Length: 10\r\n"), "abc"]);
    for (request, blocks) in
        [(pipelined, EVENT_LOOP), (unread, EVENT_LOOP), (pipelined, BLOCKING), (unread, BLOCKING)]
    {
        let mut rig = Rig::new(blocks, |config| config.body_buffer = 0, [request]);
        assert_eq!(rig.ends_after(|_| {}), seconds(5_000), "a peer that has not ended is there");
        rig.script().has_unread_end = true;
        let took = rig.ends_after(|_| {});
        assert!(took >= seconds(5) && took <= seconds(9), "the end is seen by a check: {took:?}");
    }
}

#[test]
fn a_half_closed_peer_whose_body_is_still_read_is_not_late() {
    let request = head("POST /keep-stream", "Content-Length: 100\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |config| config.body_timeout = seconds(60), [Text(request)]);
    assert!(!rig.poll());
    rig.script().has_unread_end = true;
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    let mut read = |rig: &mut Rig| {
        rig.script().reads.push_back(Text("x"));
        http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(Waker::noop()))
    };
    for _ in 0..10 {
        assert!(read(&mut rig).is_ready());
        rig.lives_for(seconds(4));
    }
    assert!(rig.ends_after(|_| {}) <= seconds(5));
}

#[test]
fn a_waiting_handler_asks_a_peer_whose_end_is_behind_unread_bytes() {
    for request in
        [all(&[NEVER, &GET.repeat(400)]), all(&[head("POST /never", "Content-Length: 10\r\n"), "abc"])]
    {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [request]);
        rig.script().has_unread_end = true;
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        assert!(!rig.poll());
        assert_eq!(rig.written(), CONTINUE);
    }
}
