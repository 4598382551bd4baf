//! Responses whose body holds the thread of the request ([`Body::holding_thread`]).

use gearshift_core::CancelToken;

use super::*;

/// What the body of the response shares with the test.
#[derive(Default)]
struct Shared {
    /// The pieces that are ready. `None` is the end of the body.
    pieces: VecDeque<Option<&'static str>>,
    /// The number of pieces that were returned.
    returned: usize,
    is_dropped: bool,
    token: Option<CancelToken>,
}

/// A body that returns the pieces of the test.
struct Held(Arc<Mutex<Shared>>);

impl stream::Stream for Held {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        let mut shared = self.0.lock().unwrap();
        match shared.pieces.pop_front() {
            Some(piece) => {
                shared.returned += 1;
                Poll::Ready(piece.map(|piece| Ok(piece.into())))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().unwrap().is_dropped = true;
    }
}

/// A connection whose requests are answered with a body that holds its thread.
fn held(blocks: bool, request: &'static str) -> (Rig, Arc<Mutex<Shared>>) {
    let shared = Arc::<Mutex<Shared>>::default();
    let given = shared.clone();
    let handler = move |request: Request| {
        given.lock().unwrap().token = Some(request.cancel_token());
        Answer::Ready(Response::new(Body::from_stream(Held(given.clone())).holding_thread()))
    };
    let set = |config: &mut Config| config.body_buffer = 0;
    (Rig::calling(handler, blocks, set, [Text(request)]), shared)
}

#[test]
fn it_holds_its_thread_on_a_blocking_backend_until_it_has_ended() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let (mut rig, shared) = held(blocks, GET);
        for piece in ["first", "second"] {
            shared.lock().unwrap().pieces.push_back(Some(piece));
            assert!(!rig.poll());
            assert_eq!(rig.driving.is_handling(), blocks);
            rig.assert_written(piece);
        }
        shared.lock().unwrap().pieces.push_back(None);
        assert!(!rig.poll());
        assert!(!rig.driving.is_handling());
        assert!(shared.lock().unwrap().is_dropped);
        assert!(rig.written().ends_with("0\r\n\r\n"));
        // The next request of the connection.
        rig.script().reads.push_back(Text(GET));
        shared.lock().unwrap().pieces.push_back(Some("third"));
        assert!(!rig.poll());
        assert_eq!(rig.driving.is_handling(), blocks);
        rig.assert_written("third");
    }
}

#[test]
fn a_piece_is_not_asked_for_while_the_peer_receives_nothing() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let (mut rig, shared) = held(blocks, GET);
        let room = |rig: &Rig, room| rig.script().room = room;
        shared.lock().unwrap().pieces.extend([Some("first"), Some("second"), Some("third"), None]);
        room(&rig, 10);
        for _ in 0..3 {
            assert!(!rig.poll());
            assert_eq!(shared.lock().unwrap().returned, 1, "the first one leaves with the head");
        }
        // All but the last byte of the first piece.
        let left = rig.script().max_queued - 10;
        room(&rig, left - 1);
        assert!(!rig.poll());
        assert_eq!(shared.lock().unwrap().returned, 1);
        room(&rig, 1);
        assert!(!rig.poll());
        assert_eq!(shared.lock().unwrap().returned, 2);
        room(&rig, usize::MAX);
        assert!(!rig.poll());
        assert_eq!(shared.lock().unwrap().returned, 4);
        assert!(rig.written().ends_with("5\r\nfirst\r\n6\r\nsecond\r\n5\r\nthird\r\n0\r\n\r\n"));
    }
}

#[test]
fn a_head_is_sent_when_the_first_piece_is_pending() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let (mut rig, _) = held(blocks, GET);
        assert!(!rig.poll());
        rig.assert_written("HTTP/1.1 200 OK");
    }
}

#[test]
fn many_pieces_do_not_hold_up_other_connections() {
    let (mut rig, shared) = held(EVENT_LOOP, GET);
    shared.lock().unwrap().pieces = vec![Some("x"); 150].into();
    for expected in [64, 128] {
        let (_, is_woken) = rig.turn();
        assert!(is_woken);
        assert_eq!(shared.lock().unwrap().returned, expected);
    }
    let (_, is_woken) = rig.turn();
    assert!(!is_woken);
    assert_eq!(shared.lock().unwrap().returned, 150);
}

#[test]
fn a_token_sees_that_the_peer_has_left_while_the_body_holds_the_thread() {
    // The body of the second request is on the wire, and dropped unread.
    for request in [GET, POST] {
        let (mut rig, shared) = held(BLOCKING, request);
        rig.script().reads.push_back(Nothing);
        shared.lock().unwrap().pieces.push_back(Some("first"));
        assert!(!rig.poll());
        let token = shared.lock().unwrap().token.take().expect("the handler was called");
        assert!(!token.is_cancelled());
        rig.script().has_error = true;
        assert!(token.is_cancelled(), "{request}");
        assert!(rig.poll(), "{request}");
        assert!(shared.lock().unwrap().is_dropped);
    }
}

#[test]
fn a_token_takes_a_peer_that_has_ended_its_side_for_gone_after_a_time() {
    let (mut rig, shared) = held(BLOCKING, GET);
    shared.lock().unwrap().pieces.push_back(Some("first"));
    assert!(!rig.poll());
    let token = shared.lock().unwrap().token.take().expect("the handler was called");
    rig.clock.advance(seconds(60));
    assert!(!token.is_cancelled(), "the peer has not ended its side");
    rig.script().reads.push_back(End);
    assert!(!token.is_cancelled());
    rig.clock.advance(Duration::from_millis(4_999));
    assert!(!token.is_cancelled());
    rig.clock.advance(Duration::from_millis(1));
    assert!(token.is_cancelled());
    assert!(!rig.written().contains(CONTINUE), "a peer is not asked within a response");
}

#[test]
fn a_forced_stop_and_a_peer_that_leaves_drop_the_body() {
    let ends: [fn(&Rig); 3] = [
        |rig| rig.service.shutdown().force(),
        |rig| rig.script().reads.push_back(Reset),
        |rig| rig.script().write_fails = true,
    ];
    for blocks in [EVENT_LOOP, BLOCKING] {
        for end in ends {
            let (mut rig, shared) = held(blocks, GET);
            shared.lock().unwrap().pieces.push_back(Some("first"));
            assert!(!rig.poll());
            assert!(!shared.lock().unwrap().is_dropped);
            end(&rig);
            shared.lock().unwrap().pieces.push_back(Some("second"));
            assert!(rig.poll());
            assert!(shared.lock().unwrap().is_dropped && !rig.driving.is_handling());
        }
    }
}

#[test]
fn trailers_and_the_body_of_a_request_leave_the_thread_with_the_response() {
    let handler = |request: Request| {
        let body = request.into_body().holding_thread().with_trailers(async { None });
        Answer::Ready(Response::new(body))
    };
    let set = |config: &mut Config| config.body_buffer = 0;
    let mut rig = Rig::calling(handler, BLOCKING, set, [Text(POST), Nothing]);
    assert!(!rig.poll());
    assert!(rig.driving.is_handling());
    rig.script().reads.push_back(Text("abc"));
    assert!(!rig.poll());
    assert!(!rig.driving.is_handling());
    assert!(rig.written().ends_with("3\r\nabc\r\n0\r\n\r\n"), "{}", rig.written());
}

#[test]
fn a_body_in_memory_holds_no_thread() {
    for body in [Body::empty(), Body::from("abc")] {
        let body = Mutex::new(Some(body));
        let handler = move |_: Request| {
            let body = body.lock().unwrap().take().expect("one request");
            Answer::Ready(Response::new(body.holding_thread()))
        };
        let mut rig = Rig::calling(handler, BLOCKING, |_| {}, [Text(GET)]);
        assert!(!rig.poll());
        assert!(!rig.driving.is_handling());
        rig.assert_written("200 OK");
    }
}

#[test]
fn a_slow_peer_does_not_hold_the_thread_for_long() {
    const LEN: usize = 64 << 10;
    let (mut rig, shared) = held(BLOCKING, GET);
    shared.lock().unwrap().pieces.push_back(Some("x".repeat(LEN).leak()));
    rig.script().room = 0;
    let (start, config) = (rig.clock.now(), Config::default());
    // No thread is idle in all this time. A byte is taken in each second.
    let has_ended = (0..100_000).any(|_| {
        rig.script().room = 1;
        rig.clock.advance(seconds(1));
        rig.poll()
    });
    assert!(has_ended && shared.lock().unwrap().is_dropped);
    let at_most = config.write_timeout + seconds(LEN as u64 / u64::from(config.min_rate)) + seconds(2);
    assert!(rig.clock.now() - start <= at_most, "{:?}", rig.clock.now() - start);
}

#[test]
fn a_response_that_is_sent_by_a_poll_during_which_the_stop_is_forced_is_not_cut() {
    for is_whole in [true, false] {
        let shutdown = Arc::new(Mutex::new(None::<Shutdown>));
        let stops = shutdown.clone();
        let handler = move |_: Request| {
            let stops = stops.clone();
            let pieces = stream::poll_fn(move |_| {
                stops.lock().unwrap().take().expect("one poll").force();
                Poll::Ready(Some(Piece::Ok("abc".into())))
            });
            let length = if is_whole { "3" } else { "4" };
            let body = Body::from_stream(pieces).holding_thread();
            Answer::Ready(Response::new(body).with_header("Content-Length", length))
        };
        let mut rig = Rig::calling(handler, BLOCKING, |_| {}, [Text(GET)]);
        *shutdown.lock().unwrap() = Some(rig.service.shutdown().clone());
        rig.service.shutdown().graceful();
        assert!((0..3).any(|_| rig.poll()));
        rig.assert_written("abc");
        let report = Report::of(&rig.service);
        assert_eq!((report.finished, report.cut), if is_whole { (1, 0) } else { (0, 1) });
    }
}
