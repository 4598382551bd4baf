//! WebSocket connections. The peer is the client of tungstenite; only what no client sends is written by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use futures_lite::future;
use gearshift::ws::{Error, Message, WebSocket, WebSocketUpgrade, close_code};
use gearshift::{Backend, Config, Request, Response, Router, sync};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::{Error as Failure, ProtocolError};
use tungstenite::handshake::client::Response as Accepted;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameSocket};
use tungstenite::protocol::{CloseFrame, WebSocketConfig};

pub(crate) const AREA: Area = (
    "ws",
    &[
        ("echoes_messages_of_every_size", echoes),
        ("receives_messages_that_came_with_the_request", early),
        ("joins_fragments", fragments),
        ("loses_no_part_of_a_message_when_a_receive_is_dropped", dropped_receives),
        ("answers_a_ping", pings),
        ("answers_a_close_with_its_code", closed_by_the_peer),
        ("closes_with_the_code_of_the_application", closed_by_the_application),
        ("closes_without_a_code_that_must_not_be_sent", forbidden_codes),
        ("closes_with_1000_when_it_is_dropped", dropped),
        ("closes_with_1011_when_its_function_panics", panicking),
        ("closes_while_its_function_goes_on", dropped_early),
        ("tells_the_application_that_its_peer_has_left", left),
        ("closes_with_the_code_of_an_error", errors),
        ("closes_above_its_limits", limits),
        ("chooses_a_sub_protocol", sub_protocols),
        ("refuses_other_requests", refusals),
        ("compresses_in_both_directions", deflates),
        ("compresses_nothing_unless_both_sides_want_it", deflates_not),
        ("limits_a_message_after_decompression", deflate_limit),
        ("closes_if_it_cannot_decompress_a_message", deflate_error),
        ("waits_for_a_slow_reader", slow_reader),
        ("is_cut_by_a_reader_that_is_too_slow", no_reader),
        ("sends_and_receives_in_two_tasks", halves),
        ("pings_a_silent_peer_and_keeps_one_that_answers", silence),
        ("gives_up_a_peer_that_does_not_answer", no_answer),
        ("waits_for_the_answer_to_a_ping_as_long_as_its_timeout", ping_timeout),
        ("pings_a_peer_that_need_not_answer", no_ping_timeout),
        ("keeps_a_peer_that_sends_a_frame_slowly", slow_frame),
        ("notices_a_peer_that_was_reset_while_nothing_is_received", failed),
        ("goes_on_receiving_after_a_wait_for_a_failure", failed_not),
        ("is_closed_with_1001_by_a_stop", stopped),
        ("is_closed_by_a_stop_although_its_application_does_not_receive", stopped_without_a_receive),
        ("delays_a_stop_for_the_closing_handshake_only", stopped_without_an_answer),
        ("may_say_last_words_at_a_stop", last_words),
        ("holds_no_thread_while_it_waits", held),
    ],
);

/// A time limit that no test reaches.
const NEVER: Duration = Duration::from_secs(600);

type Peer = tungstenite::WebSocket<TcpStream>;

/// A router with a WebSocket at `/`, and `GET /plain`.
fn router<F, U>(options: fn(WebSocketUpgrade) -> WebSocketUpgrade, then: F) -> Router
where
    F: Fn(WebSocket, Request) -> U + Clone + Send + Sync + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    let upgrade = move |request: Request| -> Result<Response, gearshift::ws::HandshakeError> {
        let then = then.clone();
        let upgrade = options(request.websocket()?);
        Ok(upgrade.on_upgrade(async move |socket| then(socket, request).await))
    };
    Router::new().any("/", sync(upgrade)).get("/plain", sync(|_| "plain"))
}

fn serve<F, U>(backend: Backend, options: fn(WebSocketUpgrade) -> WebSocketUpgrade, then: F) -> Running
where
    F: Fn(WebSocket, Request) -> U + Clone + Send + Sync + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    Running::start(backend, few_workers(backend), move |_| router(options, then))
}

fn unchanged(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
}

async fn echo(mut socket: WebSocket, _: Request) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What an application has received, as text, to the end.
fn reporting(tell: Sender<String>) -> impl Fn(WebSocket, Request) -> gearshift::BoxFuture<()> + Clone + Sync {
    move |mut socket, _| {
        let tell = tell.clone();
        Box::pin(async move {
            while let Some(received) = socket.recv().await {
                let _ = tell.send(match received {
                    Ok(message) => format!("{message:?}"),
                    Err(error) => error.to_string(),
                });
            }
            let _ = tell.send("end".into());
        })
    }
}

fn told(told: &Receiver<String>) -> String {
    told.recv_timeout(PATIENCE).expect("the application reports")
}

/// Opens a WebSocket. `fields` are added to the request.
fn open(server: &Running, fields: &[(&'static str, &str)]) -> (Peer, Accepted) {
    let mut request = format!("ws://{}/", server.addr()).into_client_request().expect("a request");
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().expect("a value"));
    }
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    tungstenite::client::client_with_config(request, server.client().socket, Some(config))
        .expect("the handshake succeeds")
}

fn peer(server: &Running) -> Peer {
    open(server, &[]).0
}

fn read(peer: &mut Peer) -> tungstenite::Message {
    peer.read().expect("a message")
}

/// Reads the close of the server, and then the end of the connection.
fn expect_close(peer: &mut Peer, code: u16) -> String {
    let deadline = Instant::now() + PATIENCE;
    let reason = loop {
        assert!(Instant::now() < deadline, "no close within {PATIENCE:?}");
        match read(peer) {
            tungstenite::Message::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), code, "{frame:?}");
                break frame.reason.to_string();
            }
            tungstenite::Message::Close(None) => panic!("a close without a code"),
            _ => {}
        }
    };
    expect_end(peer);
    reason
}

fn expect_end(peer: &mut Peer) {
    let end = loop {
        match peer.read() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Failure::ConnectionClosed), "{end}");
}

fn text(text: impl Into<tungstenite::Utf8Bytes>) -> tungstenite::Message {
    tungstenite::Message::Text(text.into())
}

fn part(data: Data, payload: &'static [u8], is_final: bool) -> tungstenite::Message {
    tungstenite::Message::Frame(Frame::message(payload, OpCode::Data(data), is_final))
}

fn echoes(backend: Backend) {
    let server = serve(backend, unchanged, echo);
    let mut peer = peer(&server);
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        for message in [text("x".repeat(len)), tungstenite::Message::binary(vec![0xff; len])] {
            // The echo of a large message does not fit into the buffers of the sockets, and the peer reads it later.
            peer.send(message.clone()).expect("the server reads");
            assert!(read(&mut peer) == message, "{len} bytes");
        }
    }
    peer.close(None).expect("the server reads");
    expect_end(&mut peer);
}

fn early(backend: Backend) {
    let server = serve(backend, unchanged, echo);
    let mut client = server.client();
    // A masked frame with the text `hi`.
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    client.send([UPGRADE.as_bytes(), &frame].concat());
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(4).expect("an echo"), [0x81, 2, b'h', b'i']);
}

/// A valid handshake, whole.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn fragments(backend: Backend) {
    let server = serve(backend, unchanged, echo);
    let mut peer = peer(&server);
    // A character of two bytes is in two fragments, and a ping is between them.
    peer.send(part(Data::Text, b"a\xc3", false)).expect("the server reads");
    peer.send(tungstenite::Message::Ping("now".into())).expect("the server reads");
    peer.send(part(Data::Continue, b"", false)).expect("the server reads");
    peer.send(part(Data::Continue, b"\xa4b", true)).expect("the server reads");
    assert_eq!(read(&mut peer), tungstenite::Message::Pong("now".into()));
    assert_eq!(read(&mut peer), text("a\u{e4}b"));
}

fn dropped_receives(backend: Backend) {
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = drops.clone();
    let server = serve(backend, unchanged, move |mut socket, request: Request| {
        let counted = counted.clone();
        async move {
            loop {
                let runtime = request.runtime();
                match runtime.timeout(Duration::from_millis(1), socket.recv()).await {
                    Err(_) => {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Some(Ok(message))) => drop(socket.send(message).await),
                    Ok(_) => return,
                }
            }
        }
    });
    let mut peer = peer(&server);
    for payload in [&b"one "[..], b"two ", b"three"] {
        let (first, last) = (payload == b"one ", payload == b"three");
        let data = if first { Data::Text } else { Data::Continue };
        peer.send(part(data, payload, last)).expect("the server reads");
        let before = drops.load(Ordering::SeqCst);
        wait_until("a receive is dropped", || last || drops.load(Ordering::SeqCst) > before + 1);
    }
    assert_eq!(read(&mut peer), text("one two three"));
}

fn pings(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, unchanged, reporting(tell));
    let mut peer = peer(&server);
    for payload in [&b""[..], &[7; 125]] {
        peer.send(tungstenite::Message::Ping(payload.into())).expect("the server reads");
        assert_eq!(read(&mut peer), tungstenite::Message::Pong(payload.into()));
        assert!(told(&reports).starts_with("Ping("));
    }
}

fn closed_by_the_peer(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, unchanged, reporting(tell));
    for (frame, code) in [
        (Some(CloseFrame { code: CloseCode::Library(4321), reason: "bye".into() }), Some(4321)),
        (Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }), Some(1000)),
        (None, None),
    ] {
        let mut peer = peer(&server);
        peer.close(frame.clone()).expect("the server reads");
        match read(&mut peer) {
            tungstenite::Message::Close(answer) => assert_eq!(answer.map(|answer| answer.code.into()), code),
            other => panic!("{other:?}"),
        }
        expect_end(&mut peer);
        let seen = told(&reports);
        assert!(code.is_none_or(|code| seen.contains(&code.to_string())), "{seen}");
        assert!(seen.starts_with("Close("), "{seen}");
        assert_eq!(told(&reports), "end");
    }
}

fn closed_by_the_application(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, unchanged, move |mut socket: WebSocket, _| {
        let tell = tell.clone();
        async move {
            let long = "r".repeat(200);
            socket.close(4001, &long).await.expect("the peer is there");
            let after = socket.send("too late".into()).await;
            let _ = tell.send(format!("{after:?}"));
            while let Some(received) = socket.recv().await {
                let _ = tell.send(format!("{received:?}"));
            }
            let _ = tell.send("end".into());
        }
    });
    let mut peer = peer(&server);
    assert_eq!(told(&reports), "Err(Closed)");
    // What the peer has sent before it sees the close is received.
    peer.send(text("on its way")).expect("the server reads");
    assert_eq!(expect_close(&mut peer, 4001), "r".repeat(123));
    assert_eq!(told(&reports), "Ok(Text(Utf8Bytes(b\"on its way\")))");
    let answer = told(&reports);
    assert!(answer.starts_with("Ok(Close(") && answer.contains("4001"), "{answer}");
    assert_eq!(told(&reports), "end");
}

fn forbidden_codes(backend: Backend) {
    let server = serve(backend, unchanged, |mut socket, _| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if let Some(code) = message.as_text() {
                let _ = socket.close(code.parse().expect("a number"), "why").await;
            }
        }
    });
    for (code, is_sent) in
        [(0, false), (999, false), (1000, true), (1005, false), (1006, false), (1015, false), (4999, true)]
    {
        let mut peer = peer(&server);
        peer.send(text(code.to_string())).expect("the server reads");
        match read(&mut peer) {
            tungstenite::Message::Close(close) => assert_eq!(
                close.map(|close| (u16::from(close.code), close.reason.to_string())),
                is_sent.then(|| (code, "why".to_owned())),
                "{code}"
            ),
            other => panic!("{other:?}"),
        }
        expect_end(&mut peer);
    }
}

fn dropped(backend: Backend) {
    let server = serve(backend, unchanged, |socket, _| async move { drop(socket) });
    let mut peer = peer(&server);
    // The server reads what comes before the answer to its close.
    peer.send(text("not received")).expect("the server reads");
    assert_eq!(expect_close(&mut peer, 1000), "");
}

fn panicking(backend: Backend) {
    let server = serve(backend, unchanged, |mut socket, _| async move {
        let received = socket.recv().await;
        panic!("after {received:?}");
    });
    let mut peer = peer(&server);
    peer.send(text("a message")).expect("the server reads");
    assert_eq!(expect_close(&mut peer, 1011), "");
    assert_eq!(server.get("/plain").text(), "plain");
}

fn dropped_early(backend: Backend) {
    let server = serve(backend, unchanged, |socket, request: Request| async move {
        drop(socket);
        request.runtime().stopping().await;
    });
    expect_close(&mut peer(&server), 1000);
}

fn left(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, unchanged, reporting(tell));
    let peer = peer(&server);
    drop(peer);
    assert_eq!(told(&reports), Error::Left.to_string());
    assert_eq!(told(&reports), "end");
}

fn errors(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, unchanged, reporting(tell));
    for (frames, code, why) in [
        // Not masked.
        (&[0x81, 1, b'x'][..], 1002, "masked"),
        // A reserved bit, a reserved opcode, a fragmented ping, a continuation of nothing, text within a message.
        (&[0xa1, 0x81, 0, 0, 0, 0, b'x'], 1002, "eserved"),
        (&[0x83, 0x80, 0, 0, 0, 0], 1002, "opcode"),
        (&[0x09, 0x80, 0, 0, 0, 0], 1002, "ragmented"),
        (&[0x80, 0x80, 0, 0, 0, 0], 1002, "ontinue"),
        (&[0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], 1002, "fragment"),
        // A close with half a code.
        (&[0x88, 0x81, 0, 0, 0, 0, 3], 1002, "lose"),
        // Text that is not UTF-8, in one frame and in two.
        (&[0x81, 0x82, 0, 0, 0, 0, 0xc3, b'x'], 1007, "UTF-8"),
        (&[0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x81, 0, 0, 0, 0, b'x'], 1007, "UTF-8"),
        // The reason of a close that is not UTF-8.
        (&[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0xff], 1007, "UTF-8"),
    ] {
        let mut peer = peer(&server);
        peer.get_mut().write_all(frames).expect("the server reads");
        // More bytes than the server has read by then, which must not destroy the close.
        peer.get_mut().write_all(&[0; 100_000]).expect("the server reads");
        expect_close(&mut peer, code);
        let error = told(&reports);
        assert!(error.contains(why), "{frames:x?}: {error}");
        assert_eq!(told(&reports), "end");
    }
}

fn limits(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server =
        serve(backend, |upgrade| upgrade.max_message_size(1000).max_frame_size(600), reporting(tell));
    let fits = |len: usize| tungstenite::Message::binary(vec![0; len]);
    static ZEROS: [u8; 1001] = [0; 1001];
    let fragments = |lens: [usize; 2]| {
        [part(Data::Binary, &ZEROS[..lens[0]], false), part(Data::Continue, &ZEROS[..lens[1]], true)]
    };
    let mut peer_within = peer(&server);
    peer_within.send(fits(600)).expect("the server reads");
    assert!(told(&reports).starts_with("Binary("));
    for message in fragments([500, 500]) {
        peer_within.send(message).expect("the server reads");
    }
    assert!(told(&reports).starts_with("Binary("));
    for messages in [vec![fits(601)], fragments([500, 501]).into()] {
        let mut peer = peer(&server);
        for message in messages {
            peer.send(message).expect("the server reads");
        }
        expect_close(&mut peer, 1009);
        let error = told(&reports);
        assert!(error.contains("exceeds the limit"), "{error}");
        assert_eq!(told(&reports), "end");
    }
}

fn sub_protocols(backend: Backend) {
    let server = serve(backend, |upgrade| upgrade.protocols(&["chat.v2", "chat"]), echo);
    const PROTOCOL: &str = "sec-websocket-protocol";
    for (offered, chosen) in [
        (&[][..], None),
        (&[(PROTOCOL, "chat, chat.v2")], Some("chat.v2")),
        (&[(PROTOCOL, "other, chat")], Some("chat")),
    ] {
        let (_, accepted) = open(&server, offered);
        let protocol = accepted.headers().get(PROTOCOL).map(|value| value.to_str().expect("a name"));
        assert_eq!(protocol, chosen, "{offered:?}");
    }
    // The client of tungstenite refuses an answer without a sub-protocol if it has offered one, and offers with one
    // field.
    for (fields, chosen) in [
        ("Sec-WebSocket-Protocol: Chat, other", None),
        ("Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: chat", Some("chat")),
    ] {
        let mut client = server.client();
        client.send(UPGRADE.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n")));
        let answer = client.try_answer(true).expect("an answer");
        assert_eq!((answer.status, answer.field(PROTOCOL)), (101, chosen), "{fields}");
        assert_eq!(answer.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}

fn refusals(backend: Backend) {
    let server = serve(backend, unchanged, echo);
    let without = |line: &str| {
        let (before, after) = UPGRADE.split_once(line).expect("the line is there");
        let (_, after) = after.split_once("\r\n").expect("the line ends");
        format!("{before}{after}")
    };
    for (request, status, field) in [
        (UPGRADE.replace("GET", "POST"), 405, ("Allow", Some("GET"))),
        (without("Upgrade: WebSocket"), 426, ("Upgrade", Some("websocket"))),
        (without("Connection:"), 426, ("Sec-WebSocket-Version", Some("13"))),
        (UPGRADE.replace("Upgrade: WebSocket", "Upgrade: h2c"), 426, ("Upgrade", Some("websocket"))),
        (UPGRADE.replace("Version: 13", "Version: 8"), 426, ("Sec-WebSocket-Version", Some("13"))),
        (
            UPGRADE.replace("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8"),
            426,
            ("Upgrade", Some("websocket")),
        ),
        (without("Sec-WebSocket-Version"), 426, ("Sec-WebSocket-Version", Some("13"))),
        (without("Sec-WebSocket-Key"), 400, ("Upgrade", None)),
        (UPGRADE.replace("ZQ==", "ZQ="), 400, ("Upgrade", None)),
        (UPGRADE.replace("HTTP/1.1", "HTTP/1.0"), 426, ("Upgrade", Some("websocket"))),
    ] {
        let mut client = server.client();
        client.send(&request);
        let answer = client.answer();
        assert_eq!((answer.status, answer.field(field.0)), (status, field.1), "{request}");
        assert!(!answer.body.is_empty(), "the peer is told why");
    }
}

const EXTENSIONS: &str = "sec-websocket-extensions";

/// Opens a WebSocket with compression, and returns its frames and the answer.
fn open_deflated(server: &Running, offer: &str) -> (FrameSocket<TcpStream>, String) {
    // The client of tungstenite refuses an answer with an extension, so its frames are used alone.
    let mut client = server.client();
    client.send(UPGRADE.replace("\r\n\r\n", &format!("\r\n{EXTENSIONS}: {offer}\r\n\r\n")));
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 101);
    let accepted = answer.field(EXTENSIONS).unwrap_or_default().to_owned();
    (FrameSocket::new(client.socket), accepted)
}

/// A frame from a client.
fn masked(data: Data, payload: Vec<u8>, is_deflated: bool) -> Frame {
    let mut frame = Frame::message(payload, OpCode::Data(data), true);
    frame.header_mut().mask = Some([9, 8, 7, 6]);
    frame.header_mut().rsv1 = is_deflated;
    frame
}

fn deflated(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 100);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).expect("it compresses");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

fn inflated(decompress: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(100_000);
    decompress.decompress_vec(&payload, &mut out, FlushDecompress::Sync).expect("it decompresses");
    out
}

fn deflates(backend: Backend) {
    let alone = serve(backend, |upgrade| upgrade.deflate(true), echo);
    let kept = serve(backend, |upgrade| upgrade.deflate(true).keep_deflate_context(true), echo);
    let message: Vec<u8> = (0..1000u32).flat_map(|n| format!("number {}, ", n * n).into_bytes()).collect();
    for (server, offer, accepted, keeps) in [
        (
            &alone,
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            false,
        ),
        (&kept, "permessage-deflate", "permessage-deflate", true),
        (
            &kept,
            "permessage-bzip2, permessage-deflate; server_max_window_bits=8, \
             permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10",
            true,
        ),
    ] {
        let (mut frames, answer) = open_deflated(server, offer);
        assert_eq!(answer, accepted);
        let mut compress = Compress::new(Compression::default(), false);
        let mut decompress = Decompress::new(false);
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let sent = masked(Data::Text, deflated(&mut compress, &message), true);
            frames.send(sent).expect("the server reads");
            let echo = frames.read(None).expect("a frame").expect("not the end");
            assert!(echo.header().rsv1 && echo.header().is_final);
            sizes.push(echo.payload().len());
            assert!(inflated(&mut decompress, echo.payload()) == message);
            if !keeps {
                compress.reset();
                decompress.reset(false);
            }
        }
        assert!(sizes[0] < message.len() / 2, "{sizes:?}");
        // The message is longer than a window of 1 KiB, so only the large one helps the second message.
        let is_smaller = sizes[1] < sizes[0] / 2;
        assert_eq!(is_smaller, keeps && !accepted.contains("bits"), "{sizes:?}");
        // A message that is not compressed is allowed (RFC 7692, 6).
        frames.send(masked(Data::Binary, b"plain".to_vec(), false)).expect("the server reads");
        let echo = frames.read(None).expect("a frame").expect("not the end");
        assert_eq!((echo.header().rsv1, echo.payload()), (false, &b"plain"[..]));
    }
}

fn deflates_not(backend: Backend) {
    let server = serve(backend, unchanged, echo);
    let (_, answer) = open_deflated(&server, "permessage-deflate");
    assert_eq!(answer, "", "the default is no compression");
    let server = serve(backend, |upgrade| upgrade.deflate(true), echo);
    let (mut frames, answer) = open_deflated(&server, "permessage-deflate; unknown=1");
    assert_eq!(answer, "", "the offer is declined");
    frames.send(masked(Data::Text, vec![b'x'; 1000], false)).expect("the server reads");
    let echo = frames.read(None).expect("a frame").expect("not the end");
    assert_eq!((echo.header().rsv1, echo.payload().len()), (false, 1000));
    // A bit that no extension defines.
    frames.send(masked(Data::Text, vec![b'x'; 10], true)).expect("the server reads");
    let close = frames.read(None).expect("a frame").expect("not the end");
    assert_eq!(close.payload()[..2], 1002u16.to_be_bytes());
}

fn deflate_limit(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, |upgrade| upgrade.deflate(true).max_message_size(100_000), reporting(tell));
    let (mut frames, _) = open_deflated(&server, "permessage-deflate");
    let mut compress = Compress::new(Compression::best(), false);
    for (len, fits) in [(100_000, true), (10_000_000, false)] {
        compress.reset();
        let sent = deflated(&mut compress, &vec![b'x'; len]);
        assert!(sent.len() < 20_000);
        frames.send(masked(Data::Text, sent, true)).expect("the server reads");
        let report = told(&reports);
        assert_eq!(report.starts_with("Text("), fits, "{len}: {}", &report[..report.len().min(100)]);
        assert_eq!(report.contains("exceeds the limit of 100000"), !fits);
    }
    let close = frames.read(None).expect("a frame").expect("not the end");
    assert_eq!(close.payload()[..2], 1009u16.to_be_bytes());
}

fn deflate_error(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, |upgrade| upgrade.deflate(true), reporting(tell));
    let (mut frames, _) = open_deflated(&server, "permessage-deflate");
    frames.send(masked(Data::Binary, vec![0xff; 50], true)).expect("the server reads");
    let close = frames.read(None).expect("a frame").expect("not the end");
    assert_eq!(close.payload()[..2], 1007u16.to_be_bytes());
    assert_eq!(told(&reports), Error::NotDeflated.to_string());
}

/// Messages that do not fit into the buffers of two sockets, and the size of each.
const MANY: usize = 500;
const LARGE: usize = 64 << 10;

fn slow_reader(backend: Backend) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let server = serve(
        backend,
        |upgrade| upgrade.send_timeout(NEVER),
        move |mut socket: WebSocket, request: Request| {
            let counted = (request.query_str() == Some("slow")).then(|| counted.clone());
            async move {
                for _ in 0..MANY {
                    socket.send(Message::binary(vec![7; LARGE])).await.expect("the peer reads");
                    if let Some(counted) = &counted {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        },
    );
    let request = |query| format!("ws://{}/?{query}", server.addr());
    let connect = |query| {
        let socket = server.client().socket;
        tungstenite::client::client(request(query), socket).expect("the handshake succeeds").0
    };
    let all = |peer: &mut Peer| {
        for _ in 0..MANY {
            assert_eq!(read(peer).len(), LARGE);
        }
        expect_close(peer, 1000);
    };
    let mut slow = connect("slow");
    wait_until("the first message is sent", || sent.load(Ordering::SeqCst) > 0);
    all(&mut connect("quick"));
    let before = sent.load(Ordering::SeqCst);
    assert!(before < MANY, "the server has not waited");
    all(&mut slow);
    assert_eq!(sent.load(Ordering::SeqCst), MANY);
}

fn no_reader(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(
        backend,
        |upgrade| upgrade.send_timeout(Duration::from_millis(100)),
        move |mut socket: WebSocket, _| {
            let tell = tell.clone();
            async move {
                while socket.send(Message::binary(vec![7; LARGE])).await.is_ok() {}
                let after = socket.send("more".into()).await;
                let _ = tell.send(format!("{after:?}, {:?}", socket.recv().await));
            }
        },
    );
    let mut peer = peer(&server);
    assert_eq!(told(&reports), "Err(Closed), None");
    let end = loop {
        match peer.read() {
            Ok(message) => assert!(message.is_binary(), "{message:?}"),
            Err(error) => break error,
        }
    };
    let is_cut = matches!(&end, Failure::Io(error) if error.kind() == ErrorKind::ConnectionReset)
        || matches!(end, Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake));
    assert!(is_cut, "{end}");
}

fn halves(backend: Backend) {
    let server = serve(backend, unchanged, |socket: WebSocket, request: Request| async move {
        let (mut sender, mut receiver) = socket.split();
        let (forward, mut forwarded) = (Arc::new(AtomicUsize::new(0)), 0);
        let counted = forward.clone();
        let runtime = request.runtime().clone();
        let pause = runtime.clone();
        let sending = runtime.spawn(async move {
            while forwarded < 20 {
                pause.sleep(Duration::from_millis(1)).await;
                while forwarded < counted.load(Ordering::SeqCst) {
                    sender.send(forwarded.to_string().into()).await.expect("the peer reads");
                    forwarded += 1;
                }
            }
        });
        while let Some(Ok(Message::Text(_))) = receiver.recv().await {
            forward.fetch_add(1, Ordering::SeqCst);
        }
        let _ = sending.await;
    });
    let mut peer = peer(&server);
    for _ in 0..20 {
        peer.send(text("x")).expect("the server reads");
    }
    for n in 0..20 {
        assert_eq!(read(&mut peer), text(n.to_string()));
    }
    peer.close(None).expect("the server reads");
    expect_end(&mut peer);
}

fn silence(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let ping = |upgrade: WebSocketUpgrade| upgrade.ping_interval(Some(Duration::from_millis(100)));
    let server = serve(backend, ping, reporting(tell));
    let mut peer = peer(&server);
    for _ in 0..4 {
        // The client of tungstenite answers in its next read.
        assert_eq!(read(&mut peer), tungstenite::Message::Ping("".into()));
    }
    peer.close(None).expect("the server reads");
    expect_end(&mut peer);
    let seen: Vec<_> = std::iter::from_fn(|| Some(told(&reports)).filter(|seen| seen != "end")).collect();
    assert!(seen.iter().filter(|seen| seen.starts_with("Pong(")).count() >= 3, "{seen:?}");
    assert!(seen.last().is_some_and(|seen| seen.starts_with("Close(")), "{seen:?}");
}

fn no_answer(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let options = |upgrade: WebSocketUpgrade| {
        upgrade.ping_interval(Some(Duration::from_millis(100))).close_timeout(Duration::from_millis(100))
    };
    let server = serve(backend, options, reporting(tell));
    let mut peer = peer(&server);
    assert_eq!(told(&reports), Error::Silent.to_string());
    assert_eq!(told(&reports), "end");
    // The connection is given up without an answer.
    let mut bytes = Vec::new();
    peer.get_mut().read_to_end(&mut bytes).expect("the connection ends");
    assert_eq!(bytes[..4], [0x89, 0, 0x88, 21]);
    assert_eq!(bytes[4..6], close_code::AWAY.to_be_bytes());
}

/// Pings at short intervals.
fn pinging(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.ping_interval(Some(Duration::from_millis(20)))
}

fn ping_timeout(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, |upgrade| pinging(upgrade).ping_timeout(NEVER), reporting(tell));
    let mut peer = peer(&server);
    for _ in 0..4 {
        assert_eq!(read(&mut peer), tungstenite::Message::Ping("".into()));
        // After the answer, the next interval is shorter than the timeout.
        peer.flush().expect("the server reads");
        assert!(told(&reports).starts_with("Pong("));
    }
}

fn no_ping_timeout(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, |upgrade| pinging(upgrade).ping_timeout(Duration::MAX), reporting(tell));
    let mut peer = peer(&server);
    let mut pings = [0; 8];
    peer.get_mut().read_exact(&mut pings).expect("the server pings");
    assert_eq!(pings, [0x89, 0, 0x89, 0, 0x89, 0, 0x89, 0]);
    assert!(reports.try_recv().is_err());
}

/// Waits for the failure of the connection and tells it, then what is received to the end.
fn failing(tell: Sender<String>) -> impl Fn(WebSocket, Request) -> gearshift::BoxFuture<()> + Clone + Sync {
    move |socket, _| {
        let tell = tell.clone();
        Box::pin(async move {
            let (_sender, mut receiver) = socket.split();
            let failure = receiver.failed().await;
            let _ = tell.send(format!("{failure:?}"));
            let _ = tell.send(format!("{:?}", receiver.recv().await));
        })
    }
}

fn failed(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, pinging, failing(tell));
    let mut peer = peer(&server);
    // The messages are not received, and neither are the answers to the pings.
    peer.send(text("unread")).expect("the server reads");
    for _ in 0..4 {
        assert_eq!(read(&mut peer), tungstenite::Message::Ping("".into()));
    }
    assert!(reports.try_recv().is_err());
    let socket = socket2::SockRef::from(peer.get_ref());
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(peer);
    let failure = told(&reports);
    assert!(failure.starts_with("Io("), "{failure}");
    assert_eq!(told(&reports), "None");
}

fn failed_not(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = serve(backend, pinging, move |socket: WebSocket, request: Request| {
        let tell = tell.clone();
        async move {
            let (mut sender, mut receiver) = socket.split();
            let failure = request.runtime().timeout(Duration::from_millis(100), receiver.failed()).await;
            let _ = tell.send(format!("{}", failure.is_err()));
            while let Some(Ok(message)) = receiver.recv().await {
                let is_text = matches!(message, Message::Text(_));
                if is_text && sender.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut peer = peer(&server);
    peer.send(text("early")).expect("the server reads");
    assert_eq!(told(&reports), "true");
    let next = |peer: &mut Peer| std::iter::repeat_with(|| read(peer)).find(tungstenite::Message::is_text);
    assert_eq!(next(&mut peer), Some(text("early")));
    peer.send(text("late")).expect("the server reads");
    assert_eq!(next(&mut peer), Some(text("late")));
}

fn slow_frame(backend: Backend) {
    const INTERVAL: Duration = Duration::from_millis(200);
    loop {
        // The reports of an attempt that does not count are not those of the next one.
        let (tell, reports) = mpsc::channel();
        let server = serve(backend, |upgrade| upgrade.ping_interval(Some(INTERVAL)), reporting(tell));
        let (mut slow, mut pause) = (peer(&server), Duration::ZERO);
        // A frame of 100 kB, which the peer does not send to its end. A ping finds no place in it.
        let begin = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x86, 0xa0, 0, 0, 0, 0];
        slow.get_mut().write_all(&begin).expect("the server reads");
        let (from, mut last) = (Instant::now(), Instant::now());
        while from.elapsed() < 6 * INTERVAL {
            std::thread::sleep(INTERVAL / 100);
            // If it fails, so does the read behind the loop.
            let _ = slow.get_mut().write_all(&[0]);
            pause = pause.max(last.elapsed());
            last = Instant::now();
        }
        let silent = reports.try_recv();
        if pause < INTERVAL {
            assert!(silent.is_err(), "{silent:?}");
            slow.get_mut().set_nonblocking(true).expect("a socket");
            let sent = slow.get_mut().read(&mut [0; 10]).expect_err("the server has nothing to say");
            assert_eq!(sent.kind(), ErrorKind::WouldBlock);
            break;
        }
        // The test itself was paused for longer.
    }
}

/// A server whose grace period no test uses up.
fn launched<F, U>(backend: Backend, options: fn(WebSocketUpgrade) -> WebSocketUpgrade, then: F) -> Launched
where
    F: Fn(WebSocket, Request) -> U + Clone + Send + Sync + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    let mut config = few_workers(backend);
    config.graceful_timeout = NEVER;
    Launched::start(backend, config, move |_| router(options, then))
}

fn connect(server: &Launched) -> Peer {
    let url = format!("ws://{}/", server.addr());
    tungstenite::client::client(url, server.client().socket).expect("the handshake succeeds").0
}

fn stopped(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = launched(backend, unchanged, reporting(tell));
    let mut peer = connect(&server);
    peer.send(text("before")).expect("the server reads");
    assert!(told(&reports).contains("before"));
    server.shutdown().graceful();
    assert_eq!(
        read(&mut peer),
        tungstenite::Message::Close(Some(CloseFrame {
            code: CloseCode::Away,
            reason: "the server stops".into(),
        }))
    );
    expect_end(&mut peer);
    let answer = told(&reports);
    assert!(answer.starts_with("Close(") && answer.contains("1001"), "{answer}");
    assert_eq!(told(&reports), "end");
    server.ended_gracefully();
}

fn stopped_without_a_receive(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let server = launched(backend, unchanged, move |mut socket: WebSocket, request: Request| {
        let tell = tell.clone();
        async move {
            let _ = tell.send("begun".into());
            while socket.send("tick".into()).await.is_ok() {
                request.runtime().sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut peer = connect(&server);
    assert_eq!(told(&reports), "begun");
    server.shutdown().graceful();
    expect_close(&mut peer, 1001);
    server.ended_gracefully();
}

fn stopped_without_an_answer(backend: Backend) {
    let (tell, reports) = mpsc::channel();
    let options = |upgrade: WebSocketUpgrade| upgrade.close_timeout(Duration::from_millis(100));
    let server = launched(backend, options, reporting(tell));
    let peer = connect(&server);
    server.shutdown().graceful();
    assert_eq!(told(&reports), "end");
    server.ended_gracefully();
    drop(peer);
}

fn last_words(backend: Backend) {
    let options = |upgrade: WebSocketUpgrade| upgrade.close_on_stop(false);
    let server = launched(backend, options, |mut socket: WebSocket, request: Request| async move {
        let stopping = request.runtime().stopping();
        let stopped = async {
            stopping.await;
            None
        };
        let received = future::or(stopped, async { socket.recv().await }).await;
        assert!(received.is_none(), "{received:?}");
        socket.send("we close".into()).await.expect("the peer is there");
        socket.close(close_code::RESTART, "come back").await.expect("the peer is there");
        let mut rest = pin!(socket);
        while future::poll_fn(|cx| futures_util::Stream::poll_next(rest.as_mut(), cx)).await.is_some() {}
    });
    let mut peer = connect(&server);
    server.shutdown().graceful();
    assert_eq!(read(&mut peer), text("we close"));
    assert_eq!(expect_close(&mut peer, 1012), "come back");
    server.ended_gracefully();
}

fn held(backend: Backend) {
    const SOCKETS: usize = 50;
    let mut config: Config = few_workers(backend);
    config.keep_alive = NEVER;
    let server = Running::start(backend, config, |_| router(unchanged, echo));
    let mut peers: Vec<_> = (0..SOCKETS).map(|_| peer(&server)).collect();
    let mut client: Client = server.client();
    for peer in &mut peers {
        assert_eq!(client.get("/plain").text(), "plain");
        peer.send(text("hello")).expect("the server reads");
        assert_eq!(read(peer), text("hello"));
    }
    assert_eq!(server.get("/plain").text(), "plain");
}
