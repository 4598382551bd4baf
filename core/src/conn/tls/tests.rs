//! The transport over bytes in memory, which come and go in pieces of any size.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::*;
use crate::runtime::tls_config::TlsConfig;

/// The bytes between the two sides.
#[derive(Default)]
struct Wire {
    /// From the client to the server.
    to_server: VecDeque<u8>,
    has_ended: bool,
    to_client: Vec<u8>,
    /// The number of bytes that each read and write moves, over and over. 0 stands for one that is pending.
    pieces: Vec<usize>,
    calls: usize,
    /// The sizes of the writes.
    writes: Vec<usize>,
}

impl Wire {
    fn piece(&mut self) -> usize {
        self.calls += 1;
        match self.pieces.is_empty() {
            true => usize::MAX,
            false => self.pieces[self.calls % self.pieces.len()],
        }
    }
}

/// The server's end of the wire.
#[derive(Clone, Default)]
struct End(Arc<Mutex<Wire>>);

impl End {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().expect("no test panics with the lock")
    }
}

impl Transport for End {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        match self.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        let mut wire = self.wire();
        let n = wire.piece().min(wire.to_server.len()).min(into.spare_mut().len());
        if n == 0 && !(wire.has_ended && wire.to_server.is_empty()) {
            into.release();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (byte, received) in into.spare_mut().iter_mut().zip(wire.to_server.drain(..n)) {
            *byte = received;
        }
        into.filled(n);
        Ok(n)
    }

    fn poll_write(&mut self, _: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let n = wire.piece().min(from.front().len());
        if n == 0 {
            return Poll::Pending;
        }
        wire.to_client.extend_from_slice(&from.front()[..n]);
        wire.writes.push(n);
        from.sent(n);
        Poll::Ready(Ok(n))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn has_unread_end(&self) -> bool {
        self.wire().has_ended
    }

    fn set_deadline(&mut self, _: Option<Instant>) {}

    fn into_stream(self) -> io::Result<Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The settings of a server and of its client.
fn settings(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let tls = TlsConfig::from_pem(own.cert.pem(), own.signing_key.serialize_pem()).expect("a valid pair");
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).expect("a certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version of the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (tls.current(false), Arc::new(client))
}

/// Both sides of a connection.
struct Pair {
    end: End,
    server: Tls<End>,
    client: ClientConnection,
}

impl Pair {
    fn new((server, client): &(Arc<ServerConfig>, Arc<ClientConfig>), pieces: Vec<usize>) -> Pair {
        let end = End::default();
        end.wire().pieces = pieces;
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(client.clone(), name).expect("valid settings");
        let session = Session::new(server.clone());
        let server = Tls { inner: end.clone(), session, sealed: 0, context: None, peer: None };
        Pair { end, server, client }
    }

    /// Moves what each side has to send to the other. Returns what the client has decrypted.
    fn exchange(&mut self) -> Vec<u8> {
        let mut wire = self.end.wire();
        let received = std::mem::take(&mut wire.to_client);
        let (mut unread, mut plaintext) = (&received[..], Vec::new());
        while !unread.is_empty() {
            self.client.read_tls(&mut unread).expect("memory can be read");
            self.client.process_new_packets().expect("the server keeps to the protocol");
            let end = self.client.reader().read_to_end(&mut plaintext);
            assert!(end.is_ok() || end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        }
        while self.client.wants_write() {
            let mut sent = Vec::new();
            self.client.write_tls(&mut sent).expect("memory takes all");
            wire.to_server.extend(sent);
        }
        plaintext
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Sends `request` and the response `response`, which is queued in chunks, and checks that both arrive.
fn pass(pair: &mut Pair, request: &[u8], response: &[&[u8]]) {
    let expected = response.concat();
    let mut queue = WriteQueue::new();
    response.iter().for_each(|chunk| queue.push(Bytes::copy_from_slice(chunk)));
    let (mut received, mut answered) = (ReadBuffer::new(), Vec::new());
    let mut sent = 0;
    for _ in 0..2_000_000 {
        if sent < request.len() {
            sent += pair.client.writer().write(&request[sent..]).expect("memory takes some");
        }
        answered.append(&mut pair.exchange());
        let before = received.len();
        match pair.server.poll_read(&mut cx(), &mut received) {
            Poll::Ready(read) => assert_eq!(before + read.expect("a valid session"), received.len()),
            Poll::Pending => assert_eq!(before, received.len()),
        }
        if received.len() == request.len() && !queue.is_empty() {
            let before = queue.len();
            if let Poll::Ready(sent) = pair.server.poll_write(&mut cx(), &mut queue) {
                assert_eq!(before - sent.expect("a valid session"), queue.len());
                let is_sent = pair.server.session.outgoing.is_empty();
                assert!(is_sent || !queue.is_empty(), "a flush would end before its bytes have left");
            }
        }
        if queue.is_empty() && answered.len() == expected.len() {
            assert!(received.as_slice() == request && answered == expected);
            return;
        }
    }
    panic!("{} of {} bytes arrived", received.len(), request.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn all_bytes_arrive_however_they_are_cut(
        pieces in prop::collection::vec(prop_oneof![0..4_usize, 1..6_000_usize, Just(100_000)], 1..20),
        request in 1..70_000_usize,
        response in prop::collection::vec(1..90_000_usize, 1..4),
        is_new in any::<bool>(),
    ) {
        // The wire makes progress.
        prop_assume!(pieces.iter().sum::<usize>() / pieces.len() > 200);
        prop_assume!(pieces.len() % 2 == 1 || pieces.len() == 2);
        prop_assume!(pieces.len() != 2 || !pieces.contains(&0));
        let mut pair = Pair::new(&settings(if is_new { &TLS13 } else { &TLS12 }), pieces);
        let bytes: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
        let response: Vec<&[u8]> = response.iter().map(|len| &bytes[..*len]).collect();
        pass(&mut pair, &bytes[..request], &response);
        pass(&mut pair, b"again", &[b"and again"]);
    }

    #[test]
    fn no_bytes_of_a_peer_cause_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 1..400),
        kind in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let settings = settings(&TLS13);
        let mut pair = Pair::new(&settings, vec![]);
        match kind {
            0 => bytes[0] = 20 + bytes[0] % 5,
            1 => {}
            _ => {
                bytes.clear();
                pair.client.write_tls(&mut bytes).expect("memory takes all");
                let len = bytes.len();
                changes.iter().for_each(|(at, byte)| bytes[at.index(len)] = *byte);
            }
        }
        pair.end.wire().to_server.extend(&bytes);
        let mut into = ReadBuffer::new();
        let failed = matches!(pair.server.poll_read(&mut cx(), &mut into), Poll::Ready(Err(_)));
        pair.end.wire().to_server.extend(b"GET / HTTP/1.1\r\n\r\n");
        pair.end.wire().has_ended = true;
        for _ in 0..4 {
            let _ = pair.server.poll_read(&mut cx(), &mut into);
            let read = pair.server.try_read(&mut into);
            prop_assert!(!failed || read.is_ok(), "what follows a failure is dropped");
        }
        prop_assert!(into.is_empty(), "bytes without a session");
    }
}

/// A pair after its handshake and one request, whose writes were not counted.
fn open(version: &'static SupportedProtocolVersion) -> Pair {
    let mut pair = Pair::new(&settings(version), vec![]);
    pass(&mut pair, b"GET", &[b"hello"]);
    pair.end.wire().writes.clear();
    pair
}

#[test]
fn a_response_is_one_write() {
    for version in [&TLS12, &TLS13] {
        let mut pair = open(version);
        for chunks in [&[&b"head"[..], &[b'x'; 10_000]][..], &[&[b'h'; 300], &[b'x'; 60_000]], &[b"hello"]] {
            pass(&mut pair, b"GET", chunks);
            assert_eq!(std::mem::take(&mut pair.end.wire().writes).len(), 1);
        }
    }
}

#[test]
fn the_first_response_leaves_with_the_tickets() {
    let mut pair = Pair::new(&settings(&TLS13), vec![]);
    let mut queue = WriteQueue::new();
    queue.push(Bytes::from_static(b"hello"));
    let mut received = ReadBuffer::new();
    pair.client.writer().write_all(b"GET").expect("memory takes all");
    while received.is_empty() {
        pair.exchange();
        let _ = pair.server.poll_read(&mut cx(), &mut received);
    }
    let flights = pair.end.wire().writes.len();
    assert_eq!(flights, 1, "the server's part of the handshake");
    assert!(matches!(pair.server.poll_write(&mut cx(), &mut queue), Poll::Ready(Ok(5))));
    assert_eq!(pair.end.wire().writes.len(), 2);
    assert_eq!(pair.exchange(), b"hello");
}

#[test]
fn the_end_is_announced_once() {
    for version in [&TLS12, &TLS13] {
        let mut pair = open(version);
        for _ in 0..2 {
            pair.server.announce_end(&mut cx());
        }
        assert!(pair.server.poll_shutdown(&mut cx()).is_ready());
        assert_eq!(pair.end.wire().writes.len(), 1);
        pair.exchange();
        // The client would report an end without `close_notify`.
        assert!(matches!(pair.client.reader().read(&mut [0; 8]), Ok(0)));
        let mut queue = WriteQueue::new();
        queue.push(Bytes::from_static(b"late"));
        assert!(matches!(pair.server.poll_write(&mut cx(), &mut queue), Poll::Ready(Err(_))));
    }
}

#[test]
fn the_end_of_the_peer_is_read_after_its_bytes() {
    for has_notify in [true, false] {
        let mut pair = open(&TLS13);
        pair.client.writer().write_all(b"last").expect("memory takes all");
        if has_notify {
            pair.client.send_close_notify();
        }
        pair.exchange();
        pair.end.wire().has_ended = !has_notify;
        let mut received = ReadBuffer::new();
        assert!(matches!(pair.server.poll_read(&mut cx(), &mut received), Poll::Ready(Ok(4))));
        for _ in 0..2 {
            assert!(matches!(pair.server.poll_read(&mut cx(), &mut received), Poll::Ready(Ok(0))));
            assert!(matches!(pair.server.try_read(&mut received), Ok(0)));
        }
        assert!(pair.server.has_unread_end());
        // The other direction is open.
        pass_response(&mut pair);
    }
}

fn pass_response(pair: &mut Pair) {
    let mut queue = WriteQueue::new();
    queue.push(Bytes::from_static(b"answer"));
    assert!(matches!(pair.server.poll_write(&mut cx(), &mut queue), Poll::Ready(Ok(6))));
    assert_eq!(pair.exchange(), b"answer");
}

#[test]
fn a_change_of_keys_is_answered() {
    let mut pair = open(&TLS13);
    pair.client.refresh_traffic_keys().expect("TLS 1.3 can");
    pass(&mut pair, b"GET", &[b"with other keys"]);
    pass(&mut pair, b"GET", &[b"again"]);
}
