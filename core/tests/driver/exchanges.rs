//! Exchanges: bodies, streams and their failures, probes, and what another task reads.

use super::*;

#[test]
fn a_peer_that_ends_its_sending_side_after_its_body_is_answered() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(POST), Nothing, Text("abc"), End]);
    assert!(!rig.poll());
    assert!(!rig.poll(), "the body is read, and the handler waits");
    assert!(rig.poll());
    rig.assert_written("abc");
}

#[test]
fn the_close_lingers_for_a_peer_that_sends_after_the_last_response() {
    // The read before the lingering close finds a request. The lingering close reads until the end.
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /last", "")), Text(GET), Nothing, End]);
    assert!(!rig.poll());
    assert!(rig.script().is_shut);
    assert!(rig.poll());
}

#[test]
fn a_stream_that_fails_does_not_discard_the_responses_before_it() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, head("GET /broken", "")])]);
    assert!(rig.poll());
    rig.assert_written(&"x".repeat(1000));
    assert!(!rig.written().ends_with("0\r\n\r\n"), "the broken response has no last chunk");
}

#[test]
fn a_stream_that_is_cut_is_not_reported_as_finished() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /stream", ""))]);
    assert!(!rig.poll());
    rig.service.shutdown().graceful();
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert!(rig.poll());
    let report = Report::of(&rig.service);
    assert_eq!((report.finished, report.cut), (0, 1));
}

#[test]
fn a_stream_that_is_pending_before_100_continue_is_flushed_and_can_be_cut() {
    let expects = head("POST /stream", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, expects])]);
    assert!(!rig.poll());
    // The earlier response is sent.
    rig.assert_written(&"x".repeat(1000));
    rig.service.shutdown().force();
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn responses_to_requests_with_bodies_do_not_exceed_the_output_limit() {
    let reads = [Text(POST), Nothing].into_iter().chain([all(&["abc", POST]), Nothing].repeat(50));
    let set = |config: &mut Config| (config.limits.output, config.limits.pipeline) = (2_000, 1000);
    let mut rig = Rig::new(EVENT_LOOP, set, reads);
    rig.script().room = 0;
    for _ in 0..200 {
        assert!(!rig.poll());
    }
    let max_queued = rig.script().max_queued;
    assert!((1_000..4_000).contains(&max_queued), "{max_queued}");
}

/// A request with a body of 6 bytes, of which 3 arrive with the head.
const PART_OF_SIX: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";

#[test]
fn a_body_up_to_the_buffer_is_awaited_before_its_request_holds_a_thread() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (rest, malformed) = ("3\r\ndef\r\n0\r\n\r\n", "x\r\n");
    let default = Config::default().body_buffer;
    for (begin, rest, body_buffer, is_buffered, said) in [
        (PART_OF_SIX, "def", default, true, "abcdef"),
        (PART_OF_SIX, "def", 5, false, "abcdef"),
        (chunked, rest, 0, false, "abcdef"),
        (chunked, rest, 4, true, "abcdef"),
        (chunked, rest, 100, true, "abcdef"),
        (chunked, malformed, 0, false, "Malformed(ChunkSize)"),
        (chunked, malformed, 4, true, "Malformed(ChunkSize)"),
        (chunked, malformed, 100, true, "Malformed(ChunkSize)"),
    ] {
        let reads = [Text(begin), Nothing, Text(rest)];
        let mut rig = Rig::new(BLOCKING, |config| config.body_buffer = body_buffer, reads);
        assert!(!rig.poll());
        assert_eq!(rig.driving.is_handling(), !is_buffered, "{begin:?}, {body_buffer}");
        assert!(!rig.poll(), "the body is complete, and the handler waits");
        assert!(rig.driving.is_handling(), "{begin:?}, {body_buffer}");
        assert!(!rig.poll());
        rig.assert_written(said);
    }
}

#[test]
fn a_handler_gets_the_error_of_an_incomplete_body_on_every_backend() {
    for threads_block in [false, true] {
        for (stop, error) in [(Some(End), "Incomplete"), (None, "TimedOut")] {
            let reads = [Text(PART_OF_SIX), Nothing].into_iter().chain(stop);
            let mut rig = Rig::new(threads_block, |config| config.body_timeout = seconds(5), reads);
            assert!(!rig.poll());
            rig.clock.advance(seconds(6));
            for _ in 0..4 {
                rig.poll();
            }
            rig.assert_written(error);
        }
    }
}

#[test]
fn the_body_of_a_request_that_expects_100_continue_is_not_buffered() {
    let head = head("POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(BLOCKING, |_| {}, [Text(head), Nothing, Text("abc")]);
    assert!(!rig.poll());
    assert!(rig.driving.is_handling());
    assert!(rig.written().starts_with(CONTINUE), "{}", rig.written());
}

#[test]
fn a_peer_that_has_ended_its_sending_side_is_probed_if_its_request_waited_long_for_a_thread() {
    for (waited, is_probed) in [(0, false), (50, false), (100, true), (5_000, true)] {
        let mut rig = Rig::new(BLOCKING, |_| {}, [Text(NEVER), End]);
        rig.script().has_unread_end = true;
        rig.service.found_idle();
        rig.clock.advance(Duration::from_millis(waited));
        assert!(!rig.poll());
        assert_eq!(rig.driving.is_handling(), !is_probed, "{waited} ms");
        assert_eq!(rig.written().starts_with(CONTINUE), is_probed, "{waited} ms");
    }
}

#[test]
fn a_write_wakes_the_driver_while_another_task_reads_the_body() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, keep]), Text("abc")]);
    rig.script().room = 100;
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    assert!(poll_body(&mut body, Waker::noop()).is_ready());
    let before = rig.wakes();
    let writer = rig.script().writer.take().unwrap();
    writer.wake();
    assert_eq!(rig.wakes(), before + 1);
}

#[test]
fn the_driver_watches_the_peer_again_when_another_task_has_read_the_body() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(keep), Nothing]);
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    assert!(poll_body(&mut body, Waker::noop()).is_pending());
    assert_eq!(rig.wakes(), 0);
    rig.script().reads.push_back(Text("abc"));
    assert!(poll_body(&mut body, Waker::noop()).is_ready());
    assert_eq!(rig.wakes(), 1);
    assert!(!rig.poll());
    let reader = rig.script().reader.take().unwrap();
    reader.wake();
    assert_eq!(rig.wakes(), 2, "the transport would wake another task");
}

#[test]
fn a_failure_that_another_task_reads_ends_the_connection() {
    for line in ["POST /keep", "POST /keep-stream"] {
        let head = head(line, "Content-Length: 3\r\n");
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head), Nothing, Nothing]);
        assert!(!rig.poll());
        let mut body = rig.kept.lock().unwrap().pop().unwrap();
        rig.script().reads = [Reset].into();
        assert!(matches!(poll_body(&mut body, Waker::noop()), Poll::Ready(Some(Err(BodyError::Io(_))))));
        assert_eq!(rig.wakes(), 1, "{line}");
        assert!(rig.poll(), "{line}");
    }
}

#[test]
fn a_body_that_another_task_reads_ends_with_its_connection() {
    for line in ["POST /keep", "POST /keep-stream"] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head(line, "Content-Length: 3\r\n")), Nothing]);
        assert!(!rig.poll());
        let mut body = rig.kept.lock().unwrap().pop().unwrap();
        let reader = Arc::new(WakeCount::default());
        let waker = Waker::from(reader.clone());
        assert!(poll_body(&mut body, &waker).is_pending());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert_eq!(Arc::strong_count(&rig.script), 1, "{line}: the transport was dropped");
        assert_eq!(reader.0.load(Ordering::SeqCst), 1, "{line}");
        assert!(matches!(poll_body(&mut body, &waker), Poll::Ready(Some(Err(BodyError::Gone)))), "{line}");
    }
}

#[test]
fn a_question_does_not_read_beyond_what_is_read_ahead() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [all(&[NEVER, &GET.repeat(200)]), Text(GET)]);
    rig.script().has_unread_end = true;
    rig.clock.advance(seconds(1));
    assert!(!rig.poll());
    assert!(rig.driving.is_handling());
    assert_eq!(rig.script().reads.len(), 1);
}

#[test]
fn a_pause_of_accepting_ends_when_a_connection_closes() {
    let rig = Rig::new(false, |_| {}, []);
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let open = rig.service.connections();
    let mut pause = pin!(AcceptPause::over(&rig.service, open, pending()));
    assert!(pause.as_mut().poll(&mut cx).is_pending());
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    drop(rig.driving);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(pause.as_mut().poll(&mut cx).is_ready());
    // A connection that has closed between the attempt and the pause ends the pause at once.
    assert!(pin!(AcceptPause::over(&rig.service, open, pending())).poll(&mut cx).is_ready());
}

#[test]
fn without_keep_alive_the_last_response_says_that_it_is_the_last() {
    const CLOSE: &str = "Connection: close";
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (reads, responses) in [
            (vec![Text(GET)], 1),
            (vec![Text(POST), Nothing, Text("abc")], 1),
            // The last read finds an empty line.
            (vec![Text(GET), Text("\r\n")], 1),
            (vec![all(&[GET, POST, "abc", GET])], 3),
            // The second request is in the socket when the first one is answered.
            (vec![Text(GET), Text(GET)], 2),
            (vec![all(&[GET, "GET"]), Nothing, Text(" / HTTP/1.1\r\nHost: a\r\n\r\n")], 2),
        ] {
            let mut rig = Rig::new(blocks, |config| config.keep_alive = Duration::ZERO, reads);
            let has_ended = (0..10).any(|_| rig.poll());
            let written = rig.written();
            assert!(has_ended || rig.script().is_shut, "{written}");
            assert_eq!(written.matches("HTTP/1.1 200").count(), responses, "{written}");
            assert_eq!(written.matches(CLOSE).count(), 1, "{written}");
            let (before, last) = written.rsplit_once("HTTP/1.1 200").unwrap();
            assert!(last.contains(CLOSE) && !before.contains(CLOSE), "{written}");
        }
    }
}
