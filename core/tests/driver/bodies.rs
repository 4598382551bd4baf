//! Request bodies that are read while their response is sent, and responses whose bodies fail.

use gearshift_core::StatusCode;
use gearshift_core::park::{self, Park};

use super::*;

/// Answers with the body of the request. The request itself is dropped before.
fn echo(request: Request) -> Answer {
    Answer::Ready(Response::new(request.into_body()))
}

/// Polls the connection until it has ended, and at most ten times. Returns what it has written.
fn finish(rig: &mut Rig) -> String {
    let _ = (0..10).any(|_| rig.poll());
    rig.written()
}

fn expects() -> &'static str {
    head("POST /", "Content-Length: 6\r\nExpect: 100-continue\r\n")
}

#[test]
fn the_body_of_a_request_as_a_response_has_its_length_and_its_errors() {
    let length = head("POST /", "Content-Length: 6\r\n");
    let chunked = head("POST /", "Transfer-Encoding: chunked\r\n");
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (request, pieces, status, contains) in [
            (length, &["abc", "def"][..], 200, "Content-Length: 6\r\n\r\nabcdef"),
            (expects(), &["abc", "def"], 200, "Content-Length: 6\r\n\r\nabcdef"),
            (length, &["abcdef"], 200, "Content-Length: 6\r\n\r\nabcdef"),
            (chunked, &["3\r\nabc\r\n0\r\n\r\n"], 200, "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            (chunked, &["0\r\n", "\r\n"], 200, "Content-Length: 0\r\n\r\n"),
            (chunked, &["x\r\n"], 400, "a chunk size is not valid"),
        ] {
            let reads = pieces.iter().flat_map(|piece| [Nothing, Text(piece)]);
            let set = |config: &mut Config| config.body_buffer = 0;
            let mut rig = Rig::calling(echo, blocks, set, [Text(request)].into_iter().chain(reads));
            let written = finish(&mut rig).replace(CONTINUE, "");
            let case = format!("{request}, {pieces:?}: {written}");
            assert!(written.starts_with(&format!("HTTP/1.1 {status} ")), "{case}");
            assert!(written.contains(contains), "{case}");
            assert_eq!(rig.written().contains(CONTINUE), request == expects(), "{case}");
        }
    }
}

#[test]
fn a_response_body_that_fails_before_its_head_was_sent_is_answered_with_its_error() {
    // The head waits for the first piece, because the peer waits for 100 Continue.
    for (handler, status) in [
        (failing as fn(Request) -> Answer, StatusCode::INTERNAL_SERVER_ERROR),
        (panicking, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(expects())]);
        let written = finish(&mut rig);
        assert!(written.starts_with(&format!("HTTP/1.1 {} ", status.as_str())), "{written}");
    }

    fn failing(_: Request) -> Answer {
        Answer::Ready(Response::new(Body::from_stream(stream::once(Piece::Err("broken")))))
    }

    fn panicking(_: Request) -> Answer {
        Answer::Ready(Response::new(Body::from_stream(stream::poll_fn(|_| -> Poll<Option<Piece>> {
            panic!("in the body")
        }))))
    }
}

#[test]
fn the_length_of_a_response_is_known_after_its_first_piece_was_read() {
    for pieces in [&["abc", "def"][..], &["abcdef"], &[]] {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let handler = move |_: Request| {
            let pieces = stream::iter(pieces.iter().map(|piece| Piece::Ok(Bytes::from(*piece))));
            Answer::Ready(Response::new(Body::from_http(Sized { left: len as u64, pieces })))
        };
        let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(expects())]);
        let written = finish(&mut rig);
        let expected = format!("Content-Length: {len}\r\nConnection: close\r\n\r\n{}", pieces.concat());
        assert!(written.contains(&expected), "{written}");
    }
}

/// A response body that knows its length.
struct Sized<S> {
    left: u64,
    pieces: S,
}

impl<S: futures_lite::Stream<Item = Piece> + Unpin> http_body::Body for Sized<S> {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let piece = Pin::new(&mut self.pieces).poll_next(cx);
        if let Poll::Ready(Some(Ok(piece))) = &piece {
            self.left -= piece.len() as u64;
        }
        piece.map_ok(http_body::Frame::data)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[test]
fn a_stream_is_the_last_response_if_the_unread_rest_of_the_body_is_too_large() {
    let request = head("POST /", "Content-Length: 1000000\r\n");
    let unread =
        |_: Request| Answer::Ready(Response::new(Body::from_stream(stream::once(Piece::Ok("a".into())))));
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (handler, is_last) in [(unread as fn(Request) -> Answer, true), (echo, false)] {
            let set = |config: &mut Config| config.body_buffer = 0;
            let mut rig = Rig::calling(handler, blocks, set, [all(&[request, "abc"])]);
            rig.poll();
            rig.assert_written("HTTP/1.1 200");
            assert_eq!(rig.written().contains("Connection: close"), is_last, "{}", rig.written());
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_finished_and_lingers_behind_an_unread_body() {
    let request = head("POST /broken", "Content-Length: 1000\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(request)]);
    rig.service.shutdown().graceful();
    assert!(!rig.poll());
    assert!(rig.script().is_shut, "the peer may be sending the body");
    assert_eq!(Report::of(&rig.service).finished, 0);
}

#[test]
fn a_stream_is_polled_until_the_output_limit_is_queued_although_the_peer_takes_nothing() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /endless", ""))]);
    rig.script().room = 0;
    assert!(!rig.poll());
    let limit = Config::default().limits.output;
    let queued = rig.script().max_queued;
    assert!((limit..limit + 20_000).contains(&queued), "{queued} bytes are queued");
}

#[test]
fn a_body_tells_how_much_of_it_is_left() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(keep), Nothing, Text("a")]);
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    assert_eq!(body.remaining(), Some(3));
    let _ = poll_body(&mut body, Waker::noop());
    assert!(poll_body(&mut body, Waker::noop()).is_ready());
    assert_eq!(body.remaining(), Some(2));
    drop(rig.driving);
    assert_eq!(body.remaining(), None, "nobody knows");
}

#[test]
fn a_body_that_the_application_has_kept_does_not_read_the_next_one() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeps = kept.clone();
    let handler = move |request: Request| {
        keeps.lock().unwrap().push(request.into_body());
        Answer::later(async {
            yield_now().await;
            Response::text("kept")
        })
    };
    for blocks in [EVENT_LOOP, BLOCKING] {
        kept.lock().unwrap().clear();
        let set = |config: &mut Config| config.body_buffer = 0;
        let mut rig = Rig::calling(handler.clone(), blocks, set, [Text(POST), Nothing]);
        for _ in 0..3 {
            assert!(!rig.poll());
        }
        rig.assert_written("kept");
        rig.script().reads.extend([Text("abc"), Text(POST), Nothing]);
        assert!(!rig.poll());
        let [first, second] = &mut kept.lock().unwrap()[..] else { panic!("two requests") };
        rig.script().reads.push_back(Text("def"));
        assert!(matches!(poll_body(first, Waker::noop()), Poll::Ready(Some(Err(BodyError::Gone)))));
        let _ = poll_body(second, Waker::noop());
        assert!(matches!(poll_body(second, Waker::noop()), Poll::Ready(None | Some(Ok(_)))));
    }
}

#[test]
fn a_write_that_fails_for_a_reader_ends_the_connection() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, keep])]);
    rig.script().room = 0;
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    rig.script().write_fails = true;
    let read = poll_body(&mut body, Waker::noop());
    assert!(matches!(read, Poll::Ready(Some(Err(BodyError::Io(_))))), "{read:?}");
    assert!(rig.poll(), "the system reports an error once");
}

#[test]
fn a_small_body_that_fails_before_the_call_ends_the_connection() {
    for (read, is_called) in [(Text("abc"), 1), (Reset, 0)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counts = calls.clone();
        let handler = move |request| {
            counts.fetch_add(1, Ordering::SeqCst);
            echo(request)
        };
        let mut rig = Rig::calling(handler, BLOCKING, |_| {}, [Text(POST), Nothing, read]);
        let written = finish(&mut rig);
        assert_eq!(calls.load(Ordering::SeqCst), is_called);
        assert_eq!(written.ends_with("abc"), is_called == 1, "{written}");
    }
}

#[test]
fn a_peer_that_resets_is_not_waited_for() {
    // During the rest of an unread body, and when the request has waited for a thread.
    let unread = [Text(head("POST /ignore", "Content-Length: 3\r\n")), Nothing, Reset];
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, unread);
    assert!((0..3).any(|_| rig.poll()));
    assert!(!rig.script().is_shut, "the close does not linger");
    let mut rig = Rig::new(BLOCKING, |_| {}, [Text(GET), Reset]);
    rig.script().has_unread_end = true;
    assert!(rig.poll());
    assert_eq!(rig.written(), "", "the handler is not called");
}

#[test]
fn a_stop_ends_a_connection_that_reads_an_unread_body_by_a_lingering_close() {
    for (body, is_shut) in [("Content-Length: 3\r\n", true), ("", false)] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("POST /ignore", body))]);
        assert!(!rig.poll());
        rig.service.shutdown().graceful();
        assert_eq!(rig.poll(), !is_shut);
        assert_eq!(rig.script().is_shut, is_shut, "{body}");
    }
}

#[test]
fn a_lingering_close_reads_a_limited_number_of_bytes() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /", "Transfer-Encoding: x\r\n")), bulk()]);
    let piece = bulk();
    let mut received = 0;
    while !rig.poll() {
        rig.script().reads.extend([piece; 8]);
        received += 8 * piece.text().len();
        assert!(received <= 65 << 20, "the close still reads");
    }
    assert!(received >= 64 << 20, "the close has read {received} bytes");
}

#[test]
fn a_wake_up_without_a_cause_does_not_extend_the_time_of_an_idle_connection() {
    let set = |config: &mut Config| config.keep_alive = seconds(7);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(GET)]);
    assert_eq!(rig.ends_after(|_| {}), seconds(7));
}

#[test]
fn a_whole_response_is_the_last_although_a_task_still_reads_a_body_that_is_too_large() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let handler = move |request: Request| {
        kept.lock().unwrap().push(request.into_body());
        Answer::Ready(Response::text("done").after(pending()))
    };
    let request = head("POST /", "Content-Length: 1000000\r\n");
    let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(request)]);
    rig.poll();
    rig.assert_written("\r\nConnection: close\r\n\r\ndone");
}

#[test]
fn a_stream_that_fails_because_of_a_forced_stop_is_cut() {
    let shutdown = Arc::new(Mutex::new(None::<Shutdown>));
    let of = shutdown.clone();
    let handler = move |_: Request| {
        let of = of.clone();
        let fail = move |_: &mut Context<'_>| {
            of.lock().unwrap().as_ref().expect("the stop is known").force();
            Poll::Ready(Some(Piece::Err("stopped")))
        };
        Answer::Ready(Response::new(Body::from_stream(stream::poll_fn(fail))))
    };
    let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(GET)]);
    *shutdown.lock().unwrap() = Some(rig.service.shutdown().clone());
    assert!((0..3).any(|_| rig.poll()));
    assert_eq!(Report::of(&rig.service).cut, 1);
}

/// The park of a worker to which the peer sends a byte per second while the worker waits.
struct Dribble(Arc<Mutex<Script>>, ManualClock);

impl Park for Dribble {
    fn park(&self) {
        self.1.advance(seconds(1));
        self.0.lock().unwrap().reads.push_back(Text("x"));
    }

    fn unpark(&self) {}
}

#[test]
fn a_peer_that_dribbles_to_a_sync_handler_is_slow_although_its_thread_is_never_idle() {
    let handler = |request: Request| {
        let mut body = request.into_body().reader();
        let mut read = Vec::new();
        let error = io::Read::read_to_end(&mut body, &mut read).expect_err("the body is late");
        Answer::Ready(Response::text(format!("{:?} after {} bytes", error.kind(), read.len())))
    };
    let set = |config: &mut Config| {
        (config.body_buffer, config.body_timeout, config.min_rate) = (0, seconds(20), 1_000);
    };
    let mut rig = Rig::calling(handler, BLOCKING, set, [Text(head("POST /", "Content-Length: 90\r\n"))]);
    let worker = park::enter_worker(Arc::new(Dribble(rig.script.clone(), rig.clock.clone())));
    rig.poll();
    drop(worker);
    rig.assert_written("TimedOut after 2");
}

#[test]
fn the_deadline_of_a_body_does_not_end_the_lingering_close() {
    let handler = |request: Request| {
        Answer::later(async {
            assert!(poll_once(request.into_body().chunk()).await.is_none());
            Response::text("done")
        })
    };
    for blocks in [EVENT_LOOP, BLOCKING] {
        let set = |config: &mut Config| (config.body_buffer, config.body_timeout) = (0, seconds(1));
        let request = head("POST /", "Content-Length: 1000000\r\n");
        let mut rig = Rig::calling(handler, blocks, set, [Text(request)]);
        assert!(!rig.poll());
        rig.assert_written("done");
        assert!(rig.script().is_shut);
        assert_eq!(rig.ends_after(|_| {}), Config::default().linger);
    }
}

#[test]
fn the_checks_of_a_peer_begin_again_with_each_handler() {
    let pieces = Pieces::default();
    let of = pieces.clone();
    let handler = move |request: Request| match request.path() {
        "/stream" => {
            let of = of.clone();
            let next = move |_: &mut Context<'_>| match of.lock().unwrap().pop_front() {
                Some(_) => Poll::Ready(None::<Piece>),
                None => Poll::Pending,
            };
            Answer::Ready(Response::new(Body::from_stream(stream::poll_fn(next))))
        }
        _ => Answer::later(pending()),
    };
    // The bytes behind the two requests leave no room to read ahead, so only the checks see the peer.
    let requests = all(&[head("GET /stream", ""), NEVER, &GET.repeat(400)]);
    let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [requests]);
    // The pauses between the checks grow to 4 s.
    rig.lives_for(seconds(10));
    pieces.lock().unwrap().push_back("the end");
    rig.script().has_unread_end = true;
    assert!(!rig.poll());
    rig.clock.advance(Duration::from_millis(250));
    assert!(!rig.poll());
    rig.assert_written(CONTINUE);
}
