//! The chat on every backend: WebSockets and event streams in the same room, readers that are slow, a stop, and two
//! windows of a browser.

mod browser;
mod peer;
mod windows;

use std::process::ExitCode;

use chat::{MAX_BEHIND, MAX_NAME, MAX_TEXT};
use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::Launched;
use test_support::wait_until;
use tungstenite::protocol::frame::coding::CloseCode;

use peer::{Peer, events, number, status};

fn main() -> ExitCode {
    let tests: [(&str, fn(Backend)); 8] = [
        ("sockets_and_event_streams_share_a_room", share),
        ("a_client_that_connects_again_misses_nothing", again),
        ("a_slow_socket_is_closed_and_hurts_nobody", slow_socket),
        ("a_slow_event_stream_is_ended_and_hurts_nobody", slow_events),
        ("a_stop_tells_everyone", stop),
        ("what_is_no_message_is_refused", refused),
        ("many_clients_hold_no_thread", many),
        ("two_windows_talk", windows::talk),
    ];
    let arguments = Arguments::from_args();
    let trials = Backend::available().iter().flat_map(|&backend| {
        tests.map(|(name, test)| {
            // A test that cannot run says so, and is not reported as one that has passed.
            let is_ignored = name == "two_windows_talk" && browser::chromium().is_none();
            let run = move || {
                test(backend);
                Ok(())
            };
            Trial::test(format!("{backend}::{name}"), run).with_ignored_flag(is_ignored)
        })
    });
    let outcome = libtest_mimic::run(&arguments, trials.collect());
    browser::close();
    outcome.exit_code()
}

/// A server with few workers, whose end the test waits for.
fn start(backend: Backend) -> Launched {
    Launched::start(backend, few_workers(backend), |_| chat::app())
}

/// Adds a message to the lobby by POST, and returns the status.
fn post(client: &mut Client, body: &str) -> u16 {
    post_to(client, "/rooms/lobby/messages", "Content-Type: application/json\r\n", body)
}

fn post_to(client: &mut Client, path: &str, fields: &str, body: &str) -> u16 {
    let length = body.len();
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ));
    client.final_answer().status
}

fn share(backend: Backend) {
    let server = start(backend);
    let mut listener = events(server.client(), "/rooms/lobby/events", "");
    let mut other_room = events(server.client(), "/rooms/other/events", "");
    let (mut ada, mut bob) = (Peer::open(&server, ""), Peer::open(&server, ""));
    let mut poster = server.client();
    ada.say("Ada", "one");
    assert_eq!(ada.entry().said(), ("Ada", "one"));
    assert_eq!(post(&mut poster, r#"{"from":"Cy","text":"two"}"#), 204);
    assert_eq!(ada.entry().said(), ("Cy", "two"));
    bob.say("Bob", "a \"quote\"\n\u{e4}");
    assert_eq!(ada.entry().said(), ("Bob", "a \"quote\"\n\u{e4}"));
    for said in [("Ada", "one"), ("Cy", "two"), ("Bob", "a \"quote\"\n\u{e4}")] {
        assert_eq!(bob.entry().said(), said);
        assert_eq!(peer::event(&listener.chunk()).said(), said);
    }
    let status = status(&mut server.client());
    assert_eq!((status.backend.as_str(), status.clients), (backend.name(), 4));
    assert!(status.connections >= 4, "{status:?}");
    // The first entry of the other room is its own.
    let other = "/rooms/other/messages";
    assert_eq!(
        post_to(&mut poster, other, "Content-Type: application/json\r\n", r#"{"from":"Di","text":"x"}"#),
        204
    );
    assert_eq!(peer::event(&other_room.chunk()).said(), ("Di", "x"));
}

fn again(backend: Backend) {
    let server = start(backend);
    let mut ada = Peer::open(&server, "");
    let entries: Vec<_> = (0..5)
        .map(|n| {
            ada.say("Ada", &n.to_string());
            ada.entry()
        })
        .collect();
    let id = entries[2].id;
    let last_event_id = format!("Last-Event-ID: {id}\r\n");
    let mut all = Peer::open(&server, "");
    let mut rest = Peer::open(&server, &format!("?after={id}"));
    let mut events_after = events(server.client(), &format!("/rooms/lobby/events?after={id}"), "");
    // The browser repeats the path with an older identifier.
    let old = format!("/rooms/lobby/events?after={}", entries[0].id);
    let mut events_again = events(server.client(), &old, &last_event_id);
    ada.say("Ada", "5");
    let texts = |mut next: Box<dyn FnMut() -> peer::Entry + '_>, count: usize| -> Vec<String> {
        (0..count).map(|_| next().text).collect()
    };
    assert_eq!(texts(Box::new(|| all.entry()), 6), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(texts(Box::new(|| rest.entry()), 3), ["3", "4", "5"]);
    assert_eq!(texts(Box::new(|| peer::event(&events_after.chunk())), 3), ["3", "4", "5"]);
    assert_eq!(texts(Box::new(|| peer::event(&events_again.chunk())), 3), ["3", "4", "5"]);
}

/// Speaks until the listener that does not read was closed. The speaker reads what it says, so that it is not behind.
/// Returns how many messages there were.
fn speak_until_alone(server: &Launched, quick: &mut Peer) -> usize {
    /// More than the buffers of a connection hold.
    const MOST: usize = (64 << 20) / MAX_TEXT;
    let mut watcher = server.client();
    let mut said = 0;
    while status(&mut watcher).clients > 1 {
        assert!(said < MOST, "the slow listener is not closed");
        for n in said..said + MAX_BEHIND / 2 {
            quick.say("Ada", &format!("{n:0>MAX_TEXT$}"));
        }
        for n in said..said + MAX_BEHIND / 2 {
            assert_eq!(number(&quick.entry()), n);
        }
        said += MAX_BEHIND / 2;
    }
    said
}

fn slow_socket(backend: Backend) {
    let server = start(backend);
    let mut quick = Peer::open(&server, "");
    let mut slow = Peer::on(peer::narrow(server.addr()), &server, "");
    let said = speak_until_alone(&server, &mut quick);
    // What it was sent has no gap.
    let mut read = 0;
    let close = loop {
        match slow.read() {
            Ok(entry) => assert_eq!(number(&entry), read),
            Err(close) => break close,
        }
        read += 1;
    };
    assert_eq!(close, (CloseCode::Again, "too far behind".to_owned()));
    assert!((MAX_BEHIND..said).contains(&read), "{read} of {said}");
    quick.say("Ada", "still here");
    assert_eq!(quick.entry().text, "still here");
}

fn slow_events(backend: Backend) {
    let server = start(backend);
    let mut quick = Peer::open(&server, "");
    let mut slow = events(Client::new(peer::narrow(server.addr())), "/rooms/lobby/events", "");
    let said = speak_until_alone(&server, &mut quick);
    let mut read = 0;
    loop {
        let chunk = slow.chunk();
        if chunk.is_empty() {
            break;
        }
        assert_eq!(number(&peer::event(&chunk)), read);
        read += 1;
    }
    assert!((MAX_BEHIND..said).contains(&read), "{read} of {said}");
    quick.say("Ada", "still here");
    assert_eq!(quick.entry().text, "still here");
}

fn stop(backend: Backend) {
    let server = start(backend);
    let mut sockets: Vec<_> = (0..5).map(|_| Peer::open(&server, "")).collect();
    let mut streams: Vec<_> = (0..5).map(|_| events(server.client(), "/rooms/lobby/events", "")).collect();
    sockets[0].say("Ada", "bye");
    for socket in &mut sockets {
        assert_eq!(socket.entry().text, "bye");
    }
    for stream in &mut streams {
        assert_eq!(peer::event(&stream.chunk()).text, "bye");
    }
    server.shutdown().graceful();
    for socket in &mut sockets {
        assert_eq!(socket.read(), Err((CloseCode::Away, "the server stops".to_owned())));
        socket.end();
    }
    for stream in &mut streams {
        assert_eq!(stream.chunk(), "", "the response is complete");
        stream.expect_end();
    }
    assert_eq!(server.ended_gracefully().cut, 0);
}

fn refused(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    let (name, text) = ("x".repeat(MAX_NAME), "\u{1}".repeat(MAX_TEXT));
    let message = |name: &str, text: &str| format!(r#"{{"from":"{name}","text":"{text}"}}"#);
    // The largest message, each byte of which takes six in JSON.
    let largest = message(&name, &text.replace('\u{1}', "\\u0001"));
    assert_eq!(post(&mut client, &largest), 204);
    for (body, status) in [
        ("{", 400),
        (r#"{"from":"Ada"}"#, 400),
        (&message("", "x"), 422),
        (&message("Ada", ""), 422),
        (&message(&format!("{name}x"), "x"), 422),
        (&message("Ada", &"x".repeat(MAX_TEXT + 1)), 422),
    ] {
        assert_eq!(post(&mut client, body), status, "{body}");
    }
    let valid = message("Ada", "x");
    let (json, plain) = ("Content-Type: application/json\r\n", "Content-Type: text/plain\r\n");
    // A form of another site can send this type without asking.
    assert_eq!(post_to(&mut server.client(), "/rooms/lobby/messages", plain, &valid), 415);
    let long = format!("/rooms/{name}x/messages");
    assert_eq!(post_to(&mut server.client(), &long, json, &valid), 422);
    assert_eq!(server.client().get(&format!("/rooms/{name}x/events")).status, 422);
    assert_eq!(server.client().get("/rooms/lobby/socket").status, 426);
    for (origin, expected) in
        [(format!("http://{}", server.addr()), None), ("http://other".into(), Some(403))]
    {
        assert_eq!(Peer::refusal(&server, &origin), expected, "{origin}");
    }
    // On a socket, the reason is in the close. Everyone else stays.
    let mut listener = Peer::open(&server, "");
    assert_eq!(listener.entry().text, text);
    for (sent, code) in [
        (tungstenite::Message::text("{"), CloseCode::Policy),
        (tungstenite::Message::text(message("Ada", "")), CloseCode::Policy),
        (tungstenite::Message::text(message("Ada", &"x".repeat(MAX_TEXT + 1))), CloseCode::Policy),
        (tungstenite::Message::text("x".repeat(7 * (MAX_TEXT + MAX_NAME))), CloseCode::Size),
        (tungstenite::Message::binary(valid), CloseCode::Unsupported),
    ] {
        let mut peer = Peer::open(&server, "");
        assert_eq!(peer.entry().text, text);
        peer.send(sent);
        assert_eq!(peer.read().map_err(|(code, _)| code), Err(code));
    }
    listener.say("Ada", "valid");
    assert_eq!(listener.entry().text, "valid");
}

fn many(backend: Backend) {
    const EACH: usize = 50;
    let server = start(backend);
    let mut sockets: Vec<_> = (0..EACH).map(|_| Peer::open(&server, "")).collect();
    let mut streams: Vec<_> = (0..EACH).map(|_| events(server.client(), "/rooms/lobby/events", "")).collect();
    let mut watcher = server.client();
    assert_eq!(status(&mut watcher).clients, 2 * EACH);
    assert_eq!(post(&mut watcher, r#"{"from":"Ada","text":"hello"}"#), 204);
    assert!(sockets.iter_mut().all(|socket| socket.entry().text == "hello"));
    assert!(streams.iter_mut().all(|stream| peer::event(&stream.chunk()).text == "hello"));
    drop((sockets, streams));
    wait_until("everyone has left", || status(&mut watcher).clients == 0);
}
