//! Peers that send too much or break the protocol.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gearshift::Backend;
use test_support::client::Client;
use test_support::server::Running;

use super::app::{Seen, serve, start};
use super::peer::{Peer, run};
use super::raw::{
    ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, Raw, SETTINGS,
    frame, get, is_goaway, last_goaway, reset, section, settings, window_update,
};

pub(super) const CALM: Option<u32> = Some(11);

/// The code of the `GOAWAY` with which the server ends a connection that sends these bytes again and again.
fn flood(server: &Running, bytes: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
    let mut raw = Raw::connect(server.addr(), &[]);
    let sender = raw.0.socket.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        let mut sender = Client::new(sender);
        for n in 0..1_000_000 {
            if std::io::Write::write_all(&mut sender.socket, &bytes(n)).is_err() {
                return;
            }
        }
        let _ = sender.socket.shutdown(std::net::Shutdown::Write);
    });
    let frames = raw.rest();
    drop(raw);
    sending.join().expect("the sender ends");
    last_goaway(&frames)
}

pub(super) fn reset_flood(backend: Backend) {
    let (server, _) = serve(backend);
    let burst = |n: u32| -> Vec<u8> {
        let pairs = (0..100).map(|at| 2 * (100 * n + at) + 1);
        pairs.flat_map(|stream| [get(stream, "/gate"), reset(stream)].concat()).collect()
    };
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(burst(0));
    let _ = raw.try_send(&burst(1));
    assert_eq!(last_goaway(&raw.rest()), CALM);
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

/// Each request is given up after its handler has begun.
pub(super) fn slow_reset_flood(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_resets = 20);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..21 {
        raw.send(get(2 * n + 1, "/gate"));
        seen.expect_begun(n as usize + 1);
        raw.send(reset(2 * n + 1));
        seen.expect_dropped(n as usize + 1);
    }
    assert_eq!(last_goaway(&raw.rest()), CALM);
}

pub(super) fn few_resets(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_resets = 2);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..30 {
        raw.send(get(4 * n + 1, "/gate"));
        seen.expect_begun(n as usize + 1);
        raw.send(reset(4 * n + 1));
        raw.send(get(4 * n + 3, "/"));
        assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

/// Handlers run on that do not depend on the peer. The streams of their requests no longer count.
pub(super) fn ignored_reset_flood(backend: Backend) {
    const MOST: usize = 4 + 6;
    let (server, seen) = start(backend, |config| {
        (config.http2.max_streams, config.http2.max_resets) = (4, 6);
    });
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..20 * MOST {
        let stream = 2 * u32::try_from(n).expect("a small number") + 1;
        // The reply tells that the server has seen what precedes it.
        let bytes = [get(stream, "/ignore"), reset(stream), frame(PING, 0, 0, &[7; 8])].concat();
        if raw.try_send(&bytes).is_err() {
            break;
        }
        match raw.try_frame_of(&[PING, GOAWAY]) {
            Ok(frame) if !is_goaway(&frame) => {}
            Ok(frame) => {
                assert_eq!(Some(frame.code()), CALM);
                break;
            }
            Err(_) => break,
        }
    }
    seen.expect_begun(MOST);
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handlers are done", &seen.done, MOST);
}

pub(super) fn pings(backend: Backend) {
    let (server, _) = start(backend, |config| config.keep_alive = Duration::from_millis(50));
    let ping = frame(PING, 0, 0, &[7; 8]);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/"));
    raw.expect("a response", |frame| frame.kind == DATA);
    // The replies pace the peer. The connection ends although it is never silent.
    loop {
        if raw.try_send(&ping).is_err() {
            break;
        }
        match raw.try_frame() {
            Ok(frame) if is_goaway(&frame) => break,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    raw.rest();
}

pub(super) fn settings_flood(backend: Backend) {
    let (server, _) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..1000_u32 {
        raw.send(settings(&[(INITIAL_WINDOW_SIZE, 65_535 + n)]));
        raw.send(frame(PING, 0, 0, &u64::from(n).to_be_bytes()));
        let pong = raw.expect("a reply", |frame| frame.kind == PING && frame.flags == ACK);
        assert_eq!(pong.payload, u64::from(n).to_be_bytes());
    }
    raw.send(get(1, "/"));
    assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).payload, b"hello");
    // A peer that does not read the replies ends itself, and others are served.
    let mut silent = Raw::connect(server.addr(), &[]);
    silent.0.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let many = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    while silent.try_send(&many).is_ok() {}
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

pub(super) fn endless_head(backend: Backend) {
    let (server, _) = serve(backend);
    let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat().repeat(100);
    let code = flood(&server, move |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &section("GET", "/", &[])),
        _ => frame(CONTINUATION, 0, 1, &field),
    });
    assert!(matches!(code, Some(1 | 11) | None), "{code:?}");
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

pub(super) fn broken(backend: Backend) {
    let (server, seen) = serve(backend);
    for (what, bytes) in [
        ("a stream of the server", get(2, "/")),
        ("data of no stream", frame(DATA, 0, 1, b"x")),
        ("a window of 0", window_update(0, 0)),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a frame that is too large", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        let before = Seen::count(&seen.begun);
        raw.send(get(1, "/gate"));
        seen.expect_begun(before + 1);
        let bytes = if what == "data of no stream" { frame(DATA, 0, 3, b"x") } else { bytes };
        raw.send(bytes);
        let code = last_goaway(&raw.rest());
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
        seen.expect_dropped(before + 1);
    }
}

pub(super) fn garbage(backend: Backend) {
    let (server, _) = serve(backend);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for _ in 0..50 {
        let mut raw = Raw(server.client());
        let mut bytes = [PREFACE, &settings(&[])].concat();
        for _ in 0..20 {
            let payload: Vec<_> = (0..random() % 60).map(|_| random()).collect();
            bytes.extend(frame(random() % 12, random(), u32::from(random() % 6), &payload));
        }
        let _ = raw.try_send(&bytes);
        let _ = raw.0.socket.shutdown(std::net::Shutdown::Write);
        raw.rest();
    }
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}
