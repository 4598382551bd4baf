//! What follows a response: its tasks, the access log, the statistics and the log of stalls.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gearshift::http::Method;
use gearshift::{Backend, Runtime};
use test_support::server::Running;
use test_support::{logs, wait_until};

use super::app::{Seen, app, patient, serve, start};
use super::peer::{Peer, answer, request, run};
use super::raw::{
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, Raw, frame, get, reset, section,
};

pub(super) fn after(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for n in 1..=3 {
            assert_eq!(peer.get("/after").await.text(), "first");
            seen.expect("the task runs", &seen.after, n);
        }
    });
    // The peer admits no byte, and leaves.
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
    raw.send(get(1, "/after"));
    raw.expect("a head", |frame| frame.kind == HEADERS);
    assert_eq!(Seen::count(&seen.after), 3);
    raw.send(reset(1));
    seen.expect("the task runs", &seen.after, 4);
}

pub(super) fn access_log(backend: Backend) {
    let (server, seen) = start(backend, |config| config.access_log = true);
    let mut raw = Raw::connect(server.addr(), &[]);
    let client = raw.0.socket.local_addr().expect("a connected socket");
    let lines = || {
        let lines = logs::lines(logs::ACCESS, &format!("{client} "));
        let parts = |line: &String| {
            let (_, rest) = line.split_once("] ").expect("a line");
            let (request, rest) = rest.rsplit_once("\" ").expect("a line");
            let mut words = rest.split(' ');
            let (status, bytes) = (words.next().unwrap_or("-"), words.next().unwrap_or("-"));
            let end = if words.next_back() == Some("cut") { " cut" } else { "" };
            format!("{}\" {status} {bytes}{end}", request)
        };
        lines.iter().map(parts).collect::<Vec<_>>()
    };
    let mut expected = Vec::new();
    let mut expect = |line: &str| {
        expected.push(line.to_owned());
        wait_until(line, || lines().len() >= expected.len());
        assert_eq!(lines(), expected);
    };
    raw.send(get(1, "/gate"));
    seen.expect_begun(1);
    raw.send(get(3, "/?q"));
    expect("\"GET /?q HTTP/2.0\" 200 5");
    raw.send(get(5, "/begun"));
    raw.expect("a piece", |frame| frame.kind == DATA && frame.stream == 5);
    raw.send(reset(5));
    expect("\"GET /begun HTTP/2.0\" 200 5 cut");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 7, &section("GET", "/%zz", &[])));
    expect("\"-\" 400 46");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 9, &section("GET", "/", &[("host", "other")])));
    expect("\"GET / HTTP/2.0\" - 0");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 11, &section("HEAD", "/", &[])));
    expect("\"HEAD / HTTP/2.0\" 200 0");
    seen.is_open.store(true, Ordering::SeqCst);
    expect("\"GET /gate HTTP/2.0\" 200 6");
    seen.is_open.store(false, Ordering::SeqCst);
    raw.send(get(13, "/gate"));
    seen.expect_begun(3);
    drop(raw);
    expect("\"GET /gate HTTP/2.0\" - 0");
}

pub(super) fn statistics(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting =
            [peer.send(request(Method::GET, "/gate")).await, peer.send(request(Method::GET, "/gate")).await];
        seen.expect_begun(2);
        // The request that asks is in flight as well.
        assert_eq!(peer.get("/stats").await.text(), "3 0");
        assert_eq!(peer.get("/stats").await.text(), "3 1");
        seen.is_open.store(true, Ordering::SeqCst);
        for response in waiting {
            assert_eq!(answer(response).await.expect("a response").text(), "waited");
        }
        assert_eq!(peer.get("/stats").await.text(), "1 4");
    });
}

/// The responses of two routes alternate on the thread.
pub(super) fn histograms(backend: Backend) {
    let mut config = patient(backend);
    config.route_histograms = 10;
    let (seen, (tell, told)) = (Arc::new(Seen::default()), mpsc::channel());
    let shared = seen.clone();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime).expect("the test waits");
        app(&shared)
    });
    let runtime = told.recv().expect("the application has started");
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting =
            [peer.send(request(Method::GET, "/gate")).await, peer.send(request(Method::GET, "/gate")).await];
        seen.expect_begun(2);
        for path in ["/", "/missing", "/"] {
            peer.get(path).await;
        }
        seen.is_open.store(true, Ordering::SeqCst);
        for response in waiting {
            answer(response).await.expect("a response");
        }
    });
    let counts = || {
        let routes = runtime.stats().routes;
        let mut counts: Vec<_> = routes.iter().map(|route| (route.route, route.count())).collect();
        counts.sort();
        counts
    };
    wait_until("all requests are counted", || counts() == [("(none)", 1), ("/", 2), ("/gate", 2)]);
}

pub(super) fn stalls(backend: Backend) {
    let (server, _) = start(backend, |config| config.stall_threshold = Duration::from_millis(20));
    let lines = |route: &str| {
        let lines = logs::lines(logs::STALL, &format!("{route} has held up"));
        lines.iter().filter(|line| line.contains(&format!("({backend})"))).count()
    };
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for path in ["/h2/stall", "/h2/stall-later", "/h2/waits"] {
            assert_eq!(peer.get(path).await.status, 200);
        }
    });
    wait_until("the stalls are logged", || lines("/h2/stall") > 0 && lines("/h2/stall-later") > 0);
    assert_eq!(lines("/h2/waits"), 0, "a handler that waits is logged");
}
