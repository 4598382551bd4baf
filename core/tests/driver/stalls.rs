//! Handlers that hold the thread of an event loop, and the times that the driver reads.

use gearshift_core::Router;

use super::*;

/// Creates a connection whose handlers hold their thread for a second of its time.
fn holding(blocks: bool, threshold: Duration, reads: impl IntoIterator<Item = Read>) -> Rig {
    let clock = Arc::new(Mutex::new(None::<ManualClock>));
    let of = clock.clone();
    let hold = move || of.lock().unwrap().as_ref().expect("the clock is set").advance(seconds(1));
    let (sync, later) = (hold.clone(), hold.clone());
    let router = Router::new()
        .get("/sync", gearshift_core::sync(move |_: Request| sync()))
        .get("/async", move |_: Request| {
            let hold = later.clone();
            async move {
                yield_now().await;
                hold();
            }
        })
        .get("/quick", gearshift_core::sync(|_: Request| ()))
        .get(
            "/stream",
            gearshift_core::sync(move |_: Request| {
                let hold = hold.clone();
                let mut pieces = ["a", "b"].into_iter();
                Body::from_stream(stream::poll_fn(move |_| {
                    hold();
                    Poll::Ready(pieces.next().map(|piece| Piece::Ok(piece.into())))
                }))
            }),
        );
    let set = |config: &mut Config| config.stall_threshold = threshold;
    let rig = Rig::serving(router, blocks, set, reads);
    *clock.lock().unwrap() = Some(rig.clock.clone());
    rig
}

#[test]
fn a_handler_that_holds_an_event_loop_is_reported() {
    let [sync, later, quick, streamed] =
        ["sync", "async", "quick", "stream"].map(|path| head(&format!("GET /{path}"), ""));
    for (reads, stalls) in [
        (vec![Text(sync)], 1),
        (vec![Text(quick)], 0),
        (vec![Text(later)], 1),
        (vec![Text(streamed)], 1),
        (vec![all(&[sync, sync, sync])], 1),
        (vec![Text(sync), Nothing, Text(sync)], 2),
        (vec![Text(sync), Nothing, Text(quick)], 1),
        (vec![Text(quick), Nothing, Text(sync)], 1),
        (vec![all(&[sync, later])], 2),
        (vec![all(&[later, sync])], 2),
        (vec![all(&[quick, later])], 1),
    ] {
        let case = format!(
            "{:?}",
            reads.iter().map(|read| matches!(read, Text(_)).then(|| read.text())).collect::<Vec<_>>()
        );
        for (blocks, threshold, stalls) in
            [(EVENT_LOOP, seconds(1), stalls), (EVENT_LOOP, seconds(100), 0), (BLOCKING, seconds(1), 0)]
        {
            let mut rig = holding(blocks, threshold, reads.clone());
            for _ in 0..4 {
                assert!(!rig.poll(), "{case}");
                // The time between two polls is not that of a handler.
                rig.clock.advance(seconds(1));
            }
            assert_eq!(rig.runtime.stats().stalls, stalls, "{case}, blocks: {blocks}");
        }
    }
}

#[test]
fn a_response_has_the_time_at_which_it_began() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        for path in ["quick", "stream"] {
            let rig = holding(blocks, Duration::ZERO, []);
            rig.clock.advance(seconds(784_111_777));
            let mut rig = rig.another(None, [Text(head(&format!("GET /{path}"), ""))]);
            assert!(!rig.poll());
            rig.assert_written("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        }
    }
}

#[test]
fn only_an_event_loop_must_not_wait() {
    for (blocks, status) in [(EVENT_LOOP, "500"), (BLOCKING, "200")] {
        let handler = |request: Request| {
            let runtime = request.runtime().clone();
            Answer::Ready(Response::text(runtime.block_on(async { "done" })))
        };
        let mut rig = Rig::calling(handler, blocks, |_| {}, [Text(GET)]);
        rig.poll();
        assert!(rig.written().starts_with(&format!("HTTP/1.1 {status}")), "{}", rig.written());
    }
}

#[test]
fn an_answer_shows_what_it_is() {
    let ready = Answer::Ready(Response::status_only(gearshift_core::StatusCode::OK));
    assert!(format!("{ready:?}").starts_with("Ready(Response { status: 200"), "{ready:?}");
    assert!(format!("{:?}", Answer::later(pending())).starts_with("Later(RouteOptions"));
}

#[test]
fn a_report_has_the_number_of_handlers_that_held_the_thread_together() {
    keep_lines();
    // `s` is a sync handler, `a` an async one. Each row has its own route, because the lines of all tests are
    // kept together.
    for (route, reads, reports) in [
        ("/one", &["s"][..], &[1][..]),
        ("/three", &["sss"], &[3]),
        ("/again", &["sss", "ss"], &[3, 2]),
        ("/late", &["a"], &[1]),
        ("/apart", &["ss", "a"], &[2, 1]),
        ("/before", &["ssa"], &[3, 1]),
        ("/after", &["as"], &[1, 1]),
    ] {
        let clock = Arc::new(Mutex::new(None::<ManualClock>));
        let of = clock.clone();
        let hold = move || of.lock().unwrap().as_ref().expect("the clock is set").advance(seconds(1));
        let later = hold.clone();
        let router = Router::new().get(route, gearshift_core::sync(move |_: Request| hold())).post(
            route,
            move |_: Request| {
                let hold = later.clone();
                async move { hold() }
            },
        );
        let [sync, later] = ["GET", "POST"].map(|method| head(&format!("{method} {route}"), ""));
        let request = |kind| if kind == 's' { sync } else { later };
        let reads = reads.iter().flat_map(|kinds| {
            let requests: String = kinds.chars().map(request).collect();
            [Text(requests.leak()), Nothing]
        });
        let set = |config: &mut Config| config.stall_threshold = seconds(1);
        let mut rig = Rig::serving(router, EVENT_LOOP, set, reads.collect::<Vec<_>>());
        *clock.lock().unwrap() = Some(rig.clock.clone());
        for _ in 0..4 {
            assert!(!rig.poll());
        }
        let lines: Vec<_> = LINES.lock().unwrap().extract_if(.., |line| line.contains(route)).collect();
        assert_eq!(lines.len(), reports.len(), "{lines:?}");
        for (line, &handlers) in lines.iter().zip(reports) {
            let together = line.strip_prefix("one of ").and_then(|line| line.split(' ').next());
            let together = together.map_or(Ok(1), str::parse);
            assert_eq!(together, Ok(handlers), "{line}");
        }
    }
}

#[test]
fn a_panic_is_logged_with_its_route_and_is_no_stall() {
    keep_lines();
    let clock = Arc::new(Mutex::new(None::<ManualClock>));
    let of = clock.clone();
    // The time of the report counts as that of the handler, because it is a part of the call.
    let report = move || of.lock().unwrap().as_ref().expect("the clock is set").advance(seconds(9));
    let router = Router::new().get(
        "/panics",
        gearshift_core::sync(move |_: Request| {
            report();
            panic!("on purpose") as ()
        }),
    );
    let set = |config: &mut Config| config.stall_threshold = seconds(1);
    let mut rig = Rig::serving(router, EVENT_LOOP, set, [Text(head("GET /panics", ""))]);
    *clock.lock().unwrap() = Some(rig.clock.clone());
    rig.poll();
    rig.assert_written("HTTP/1.1 500 ");
    assert_eq!(rig.runtime.stats().stalls, 0);
    let lines: Vec<_> = LINES.lock().unwrap().extract_if(.., |line| line.contains("/panics")).collect();
    assert_eq!(lines, ["the handler of /panics panicked: on purpose"]);
}
