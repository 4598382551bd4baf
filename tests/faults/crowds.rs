//! Crowds of connections that live long and mostly wait: event streams and WebSockets beside quick requests, on a pool
//! of four threads, on one thread, and on one event loop.

use std::net::TcpStream;
use std::time::Duration;

use futures_lite::{StreamExt, stream};
use gearshift::backend::{Latch, latch};
use gearshift::sse::Sse;
use gearshift::ws::{HandshakeError, WebSocket};
use gearshift::{Backend, Config, Request, Response, Router, sync};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "crowds",
    &[
        ("of_event_streams_hold_up_nobody", event_streams),
        ("of_websockets_hold_up_nobody", websockets),
        ("are_told_of_a_stop", stop),
    ],
);

/// Clients of each crowd. No server here has as many threads.
const CROWD: usize = 1000;
/// Quick requests for each of them: one while it connects, one while it waits.
const QUICK: &str = "/quick";

type Peer = tungstenite::WebSocket<TcpStream>;

/// A server whose streams say `first` at once, and `last` when the guard is dropped.
fn start(backend: Backend) -> (Running, latch::Guard) {
    let mut config: Config = few_workers(backend);
    // No client here is late.
    (config.keep_alive, config.graceful_timeout) = (Duration::from_secs(600), Duration::from_secs(600));
    let latch = Latch::new();
    let guard = latch.guard();
    let server = Running::start(backend, config, move |_| {
        let released = latch.clone();
        let events = move |request: Request| {
            let last = latch.released();
            let last = stream::once_future(async move {
                last.await;
                "last"
            });
            Sse::new(request.runtime(), stream::once("first").chain(last))
        };
        let talk = move |request: Request| -> Result<Response, HandshakeError> {
            let last = released.released();
            Ok(request.websocket()?.on_upgrade(async move |mut socket: WebSocket| {
                socket.send("first".into()).await.expect("the peer reads");
                last.await;
                socket.send("last".into()).await.expect("the peer reads");
                while let Some(Ok(_)) = socket.recv().await {}
            }))
        };
        Router::new().get("/events", sync(events)).get("/talk", sync(talk)).get(QUICK, sync(|_| "quick"))
    });
    (server, guard)
}

fn subscribe(server: &Running) -> Client {
    let mut client = server.client();
    client.send_get("/events");
    client.expect_head();
    assert_eq!(client.chunk(), "data: first\n\n");
    client
}

fn talk(server: &Running) -> Peer {
    let request = format!("ws://{}/talk", server.addr());
    let mut peer =
        tungstenite::client::client(request, server.client().socket).expect("the handshake succeeds").0;
    expect(&mut peer, "first");
    peer
}

fn expect(peer: &mut Peer, text: &str) {
    assert_eq!(peer.read().expect("a message"), tungstenite::Message::text(text));
}

/// Opens a crowd, with a quick request for each member, on one connection that stays open and on new ones.
fn crowd<C>(server: &Running, join: fn(&Running) -> C) -> Vec<C> {
    let mut quick = server.client();
    let join = |n| {
        let member = join(server);
        assert_eq!(quick.get(QUICK).text(), "quick", "with {n} others");
        if n % 10 == 0 {
            assert_eq!(server.get(QUICK).text(), "quick", "with {n} others, on a new connection");
        }
        member
    };
    (0..CROWD).map(join).collect()
}

fn event_streams(backend: Backend) {
    let (server, guard) = start(backend);
    let mut clients = crowd(&server, subscribe);
    let mut quick = server.client();
    drop(guard);
    for client in &mut clients {
        assert_eq!(quick.get(QUICK).text(), "quick");
        assert_eq!((client.chunk(), client.chunk()), ("data: last\n\n".into(), "".into()));
    }
}

fn websockets(backend: Backend) {
    let (server, guard) = start(backend);
    let mut peers = crowd(&server, talk);
    let mut quick = server.client();
    drop(guard);
    for peer in &mut peers {
        assert_eq!(quick.get(QUICK).text(), "quick");
        expect(peer, "last");
    }
}

fn stop(backend: Backend) {
    let (server, guard) = start(backend);
    let mut clients: Vec<_> = (0..CROWD / 2).map(|_| subscribe(&server)).collect();
    let mut peers: Vec<_> = (0..CROWD / 2).map(|_| talk(&server)).collect();
    drop(guard);
    for peer in &mut peers {
        expect(peer, "last");
    }
    let shutdown = server.shutdown();
    shutdown.graceful();
    for client in &mut clients {
        while !client.chunk().is_empty() {}
        client.expect_end();
    }
    for peer in &mut peers {
        match peer.read().expect("a message") {
            tungstenite::Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
        // The client answers when it reads again.
        assert!(peer.read().is_err(), "nothing follows a close");
    }
    let report = server.stop();
    assert_eq!(report.cut, 0, "{report:?}");
}
