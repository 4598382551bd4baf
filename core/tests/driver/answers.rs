//! The ends of a handler: its response, its panic, its late end without a peer, and the tasks after its response.

use gearshift_core::{OnDisconnect, StatusCode};

use super::*;

/// The number of background tasks that were spawned and have not been dropped.
fn spawned(rig: &Rig) -> usize {
    rig.tasks.lock().unwrap().len()
}

#[test]
fn a_panic_of_a_handler_is_answered_and_closes_the_connection() {
    let handler = |request: Request| match request.path() {
        "/call" => panic!("in the call"),
        "/future" => Answer::later(async { panic!("in the future") }),
        "/later" => Answer::later(async {
            yield_now().await;
            panic!("in the second poll")
        }),
        _ => Answer::Ready(Response::text("first")),
    };
    for blocks in [EVENT_LOOP, BLOCKING] {
        for path in ["/call", "/future", "/later"] {
            for body in ["", "Content-Length: 3\r\n", "Content-Length: 1000000\r\n"] {
                let request = head(&format!("POST {path}"), body);
                let set = |config: &mut Config| config.body_buffer = 0;
                let mut rig = Rig::calling(handler, blocks, set, [all(&[GET, request])]);
                for _ in 0..3 {
                    if rig.poll() {
                        break;
                    }
                }
                let case = format!("{path}, {body:?}: {}", rig.written());
                assert!(rig.written().contains("first"), "{case}");
                let (_, last) = rig
                    .written()
                    .split_once("HTTP/1.1 500")
                    .map_or_else(|| panic!("{case}"), |(before, last)| (before.to_owned(), last.to_owned()));
                assert!(last.contains("Connection: close"), "{case}");
                assert!(!rig.driving.is_handling(), "{case}");
                let stats = rig.runtime.stats();
                assert_eq!((stats.responses, stats.requests_in_flight), ([0, 1, 0, 0, 1], 0), "{case}");
                assert!(rig.poll() || rig.script().is_shut, "{case}");
            }
        }
    }
}

#[test]
fn a_panic_of_a_transport_closes_the_connection_without_a_response() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let mut rig = Rig::new(blocks, |_| {}, [Text(GET)]);
        rig.script().panics = true;
        assert!(rig.poll());
        assert_eq!(rig.written(), "");
        assert_eq!(rig.service.connections(), 0);
    }
}

/// Answers with a text, after which a task runs; `/stream` with a streamed body.
fn with_task(request: Request) -> Answer {
    let body = match request.path() {
        "/stream" => Body::from_stream(stream::once(Piece::Ok("text".into()))),
        _ => "text".into(),
    };
    let plain = request.path() == "/plain";
    let response = Response::new(body);
    Answer::Ready(if plain { response } else { response.after(pending()) })
}

#[test]
fn the_tasks_after_a_response_begin_when_it_was_sent() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (requests, tasks) in [
            (&[GET][..], 1),
            (&[head("GET /stream", "")], 1),
            (&[head("GET /plain", "")], 0),
            (&[GET, head("GET /plain", ""), GET], 2),
        ] {
            let mut rig = Rig::calling(with_task, blocks, |_| {}, [all(requests)]);
            rig.script().room = 20;
            assert!(!rig.poll());
            assert_eq!(spawned(&rig), 0, "{requests:?}: the response is not sent");
            rig.script().room = usize::MAX;
            assert!(!rig.poll());
            assert_eq!(spawned(&rig), tasks, "{requests:?}");
            assert_eq!(rig.runtime.tasks(), tasks);
        }
        // The peer leaves before the response is sent.
        let mut rig = Rig::calling(with_task, blocks, |_| {}, [all(&[GET, GET])]);
        rig.script().room = 20;
        assert!(!rig.poll());
        drop(rig.driving);
        assert_eq!(rig.tasks.lock().unwrap().len(), 2, "a response that cannot be sent has its tasks, too");
    }
}

/// A handler that waits until `done`, with this policy.
fn holding(
    policy: OnDisconnect,
    done: &Arc<AtomicUsize>,
) -> impl Fn(Request) -> Answer + Send + Sync + 'static {
    let done = done.clone();
    move |_| {
        let done = done.clone();
        let ready = poll_fn(move |_| match done.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            _ => Poll::Ready(Response::text("done").after(pending())),
        });
        Answer::Later(Box::pin(ready), policy.into())
    }
}

#[test]
fn a_detached_handler_continues_without_its_connection() {
    type Act = fn(&Rig, &AtomicUsize);
    let finish: Act = |_, done| done.store(1, Ordering::SeqCst);
    let expire: Act = |rig, _| rig.clock.advance(seconds(30));
    let force: Act = |rig, _| rig.service.shutdown().force();
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (act, tasks_after) in [(finish, 1), (expire, 0), (force, 0)] {
            let done = Arc::default();
            let mut rig = Rig::calling(holding(OnDisconnect::Detach, &done), blocks, |_| {}, [Text(GET)]);
            assert!(!rig.poll());
            assert!(rig.driving.is_handling());
            rig.script().reads.push_back(Reset);
            assert_eq!(rig.poll(), !blocks, "on a blocking backend the handler keeps its thread");
            assert_eq!(rig.driving.is_handling(), blocks);
            assert_eq!((rig.service.connections(), rig.runtime.tasks()), (0, 1), "blocks: {blocks}");
            assert_eq!(rig.runtime.stats().requests_in_flight, 0);
            let poll = |rig: &mut Rig| if blocks { rig.poll() } else { rig.poll_task() };
            assert!(!poll(&mut rig));
            act(&rig, &done);
            assert!(poll(&mut rig), "blocks: {blocks}");
            assert!(!rig.driving.is_handling());
            // The engine of the test keeps an ended task.
            let ended = usize::from(!blocks);
            assert_eq!(spawned(&rig), ended + tasks_after, "the response has its tasks");
        }
    }
}

#[test]
fn a_handler_that_ignores_its_peer_continues_until_its_deadline() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let done = Arc::default();
        let mut rig = Rig::calling(holding(OnDisconnect::Ignore, &done), blocks, |_| {}, [Text(GET)]);
        assert!(!rig.poll());
        rig.script().reads.push_back(Reset);
        rig.lives_for(seconds(29));
        assert!(rig.driving.is_handling());
        done.store(1, Ordering::SeqCst);
        assert!(rig.poll(), "the read after the response finds the reset");
        rig.assert_written("done");
        let mut rig =
            Rig::calling(holding(OnDisconnect::Ignore, &Arc::default()), blocks, |_| {}, [Text(GET)]);
        assert_eq!(rig.ends_after(|_| {}), seconds(30));
        rig.assert_written("HTTP/1.1 503");
    }
}

#[test]
fn an_upgrade_that_the_request_does_not_allow_is_refused() {
    let upgrade = |_: Request| Answer::Ready(upgrade(|_| pending()).with_header("x-a", "b"));
    let tunnel = |_: Request| Answer::Ready(Response::tunnel(|_| pending()).with_header("x-a", "b"));
    fn ordinary(status: StatusCode) -> Answer {
        Answer::Ready(super::upgrade(|_| pending()).with_status(status).with_header("x-a", "b"))
    }
    let not_found = |_: Request| ordinary(StatusCode::NOT_FOUND);
    let accepted = |_: Request| ordinary(StatusCode::ACCEPTED);
    let serve = |handler: fn(Request) -> Answer| {
        let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(GET)]);
        assert!(!rig.poll(), "{}", rig.written());
        rig.written()
    };
    let written = serve(upgrade);
    assert!(written.starts_with("HTTP/1.1 426 "), "{written}");
    assert!(written.contains("\r\nUpgrade: x\r\n") && !written.contains("X-A"), "{written}");
    let written = serve(tunnel);
    assert!(written.starts_with("HTTP/1.1 500 ") && !written.contains("X-A"), "{written}");
    let handlers: [(fn(Request) -> Answer, &str); 2] =
        [(not_found, "HTTP/1.1 404 "), (accepted, "HTTP/1.1 202 ")];
    for (handler, expected) in handlers {
        let written = serve(handler);
        assert!(written.starts_with(expected), "{written}");
        assert!(written.contains("\r\nX-A: b\r\n"), "{written}");
    }
}

#[test]
fn the_stream_of_an_upgrade_writes_to_the_transport() {
    use futures_lite::AsyncWriteExt;

    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = errors.clone();
    let handler = move |_: Request| {
        let seen = seen.clone();
        Answer::Ready(upgrade(async move |mut stream: Stream| {
            let slices = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")];
            let written = [stream.write_vectored(&slices).await, stream.write(b"efg").await];
            let ended = [stream.flush().await, stream.close().await].map(|end| end.map(|()| 0));
            let results = written.into_iter().chain(ended).map(|result| result.map_err(|error| error.kind()));
            seen.lock().unwrap().extend(results);
        }))
    };
    let mut rig = Rig::calling(handler, EVENT_LOOP, |_| {}, [Text(head("GET /", OFFER))]);
    assert!(rig.poll());
    assert!(rig.poll_task());
    assert!(rig.written().ends_with("\r\n\r\nabcdefg"), "{}", rig.written());
    let expected = [Ok(4), Ok(3), Err(io::ErrorKind::NotConnected), Err(io::ErrorKind::BrokenPipe)];
    assert_eq!(*errors.lock().unwrap(), expected);
}

#[test]
fn the_deadline_of_a_handler_does_not_end_the_write_of_an_earlier_response() {
    let set =
        |config: &mut Config| (config.handler_timeout, config.write_timeout) = (seconds(5), seconds(20));
    let mut rig = Rig::new(EVENT_LOOP, set, [all(&[GET, NEVER])]);
    rig.script().room = 100;
    assert!(!rig.poll());
    rig.clock.advance(seconds(5));
    assert!(!rig.poll(), "the peer has 20 s to take the response");
    rig.script().room = usize::MAX;
    rig.poll();
    rig.assert_written("HTTP/1.1 503 ");
}
