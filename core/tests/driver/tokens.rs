//! Cancel tokens: code that works on a request learns that nobody waits for its response.

use gearshift_core::CancelToken;

use super::*;

/// Creates a connection whose request `request` has a handler that waits, and the token of the request.
fn waiting(blocks: bool, request: &'static str) -> (Rig, CancelToken) {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let given = tokens.clone();
    let handler = move |request: Request| {
        given.lock().unwrap().push(request.cancel_token());
        Answer::later(async move {
            let _request = request;
            pending().await
        })
    };
    let set = |config: &mut Config| config.body_buffer = 0;
    let mut rig = Rig::calling(handler, blocks, set, [Text(request)]);
    assert!(!rig.poll());
    let token = tokens.lock().unwrap().pop().expect("the handler was called");
    (rig, token)
}

#[test]
fn a_token_is_set_when_nobody_waits_for_the_response() {
    let ends: &[(&str, fn(Rig))] = &[
        ("the peer has left", |mut rig| {
            rig.script().reads.push_back(Reset);
            assert!(rig.poll());
        }),
        ("the handler is late", |mut rig| {
            rig.clock.advance(seconds(30));
            assert!(rig.poll());
            rig.assert_written("HTTP/1.1 503");
        }),
        ("the server was stopped", |mut rig| {
            rig.service.shutdown().force();
            assert!(rig.poll());
        }),
        ("the connection was dropped", |rig| drop(rig.driving)),
    ];
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (end, act) in ends {
            let (rig, token) = waiting(blocks, GET);
            let [(wakes, waker), (no_wakes, given_up_waker)] = [(), ()].map(|()| {
                let wakes = Arc::new(WakeCount::default());
                (wakes.clone(), Waker::from(wakes))
            });
            let mut cancelled = pin!(token.cancelled());
            let mut given_up = Box::pin(token.cancelled());
            assert!(given_up.as_mut().poll(&mut Context::from_waker(&given_up_waker)).is_pending());
            drop(given_up);
            for _ in 0..2 {
                assert!(cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            assert!(!token.is_cancelled(), "before {end}");
            assert_eq!(format!("{token:?}"), "CancelToken(false)");
            act(rig);
            assert!(wakes.0.load(Ordering::SeqCst) > 0, "{end}");
            assert_eq!(no_wakes.0.load(Ordering::SeqCst), 0, "{end}");
            assert!(cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_ready(), "{end}");
            assert!(token.is_cancelled(), "{end}");
            assert_eq!(format!("{token:?}"), "CancelToken(true)");
        }
    }
}

#[test]
fn a_forced_stop_sets_a_token_before_the_driver_runs() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let (rig, token) = waiting(blocks, GET);
        rig.service.shutdown().graceful();
        assert!(!token.is_cancelled());
        rig.service.shutdown().force();
        assert!(token.is_cancelled());
    }
}

#[test]
fn the_token_of_a_request_made_by_hand_is_never_set() {
    let request = Request::new(gearshift_core::Method::GET, "/", "");
    assert!(!request.cancel_token().is_cancelled());
    let (rig, _) = waiting(EVENT_LOOP, GET);
    rig.service.shutdown().force();
    let token = request.with_runtime(&rig.runtime).cancel_token();
    assert!(!token.is_cancelled());
    assert!(pin!(token.cancelled()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// The requests of a waiting handler, without and with a body on the wire.
const WAITING: [&str; 2] = [GET, POST];

#[test]
fn a_token_sees_that_the_peer_has_left_while_the_handler_holds_the_thread() {
    for request in WAITING {
        for blocks in [EVENT_LOOP, BLOCKING] {
            let (rig, token) = waiting(blocks, request);
            rig.script().has_error = true;
            assert_eq!(token.is_cancelled(), blocks, "{request}: an event loop sees the error itself");
            // The system reports an error once.
            assert_eq!(token.is_cancelled(), blocks, "{request}");
        }
    }
    // A read that fails. The bytes of a body are read by its reader alone.
    for (request, sees) in [(GET, true), (POST, false)] {
        let (rig, token) = waiting(BLOCKING, request);
        rig.script().reads.push_back(Reset);
        assert_eq!(token.is_cancelled(), sees, "{request}");
    }
}

#[test]
fn a_token_asks_a_peer_that_has_ended_its_sending_side() {
    for request in WAITING {
        let (rig, token) = waiting(BLOCKING, request);
        rig.clock.advance(seconds(1));
        assert!(!token.is_cancelled());
        assert_eq!(rig.written(), "", "{request}: a peer that has not ended is not asked");
        if request == GET {
            rig.script().reads.push_back(End);
        } else {
            rig.script().has_unread_end = true;
        }
        for (pause, asked) in [(0, 0), (249, 0), (1, 1), (249, 1), (1, 2)] {
            rig.clock.advance(Duration::from_millis(pause));
            assert!(!token.is_cancelled(), "{request}: the peer has not reset the connection");
            assert_eq!(rig.written(), CONTINUE.repeat(asked), "{request}, after {pause} ms");
        }
        rig.script().has_error = true;
        assert!(token.is_cancelled(), "{request}: the reset answers the question");
    }
}

#[test]
fn a_token_asks_no_peer_that_would_take_the_question_for_a_response() {
    let old = "GET / HTTP/1.0\r\n\r\n";
    let expects = head("POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    for request in [old, expects] {
        let (rig, token) = waiting(BLOCKING, request);
        rig.script().has_unread_end = true;
        for _ in 0..3 {
            assert!(!token.is_cancelled());
            rig.clock.advance(seconds(1));
        }
        assert_eq!(rig.written(), "", "{request}");
    }
}

#[test]
fn a_token_reads_no_more_than_what_is_read_ahead() {
    for (size, all_left) in [(3000, [3, 2, 2]), (4095, [3, 2, 2]), (4096, [3, 3, 3])] {
        let (rig, token) = waiting(BLOCKING, GET);
        let large = Text("x".repeat(size).leak());
        rig.script().reads.extend([large; 4]);
        for left in all_left {
            assert!(!token.is_cancelled());
            assert_eq!(rig.script().reads.len(), left, "{size} bytes");
        }
    }
}
