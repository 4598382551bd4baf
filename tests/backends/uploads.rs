//! Large bodies in both directions and both framings, and the ways to read them.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, stream};
use gearshift::{
    Backend, Body, IntoResponse, Request, Response, Router, Runtime, StatusCode, blocking, compute, sync,
};
use test_support::backend::{begins_with_head, blocks, few_workers};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "uploads",
    &[
        ("echoes_64_mib_with_a_length", |backend| echo(backend, false)),
        ("echoes_64_mib_in_chunks", |backend| echo(backend, true)),
        ("an_async_handler_echoes_a_body_as_it_arrives", echo_async),
        ("a_blocking_reader_reads_16_mib_with_a_length", |backend| read(backend, false)),
        ("a_blocking_reader_reads_16_mib_in_chunks", |backend| read(backend, true)),
        ("a_reader_in_place_works_or_reports_an_error", in_place),
        ("a_reader_in_place_reads_an_upload_as_it_arrives", in_place_as_it_arrives),
        ("a_reader_waits_on_every_kind_of_thread_for_a_body_that_pauses", pauses),
        ("a_reader_gets_an_error_if_the_body_is_cut", cut_short),
        ("an_echo_of_a_body_that_was_cut_does_not_look_complete", echo_cut_short),
    ],
);

/// Large bodies repeat so many bytes of noise. The length has no factor in common with the size of a buffer.
const PERIOD: usize = 1_000_003;

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..PERIOD).map(next).collect()
}

/// Compares bytes with the noise as they arrive.
struct Check {
    noise: Vec<u8>,
    len: usize,
}

impl Check {
    fn new() -> Check {
        Check { noise: noise(), len: 0 }
    }

    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let at = self.len % PERIOD;
            let n = bytes.len().min(PERIOD - at);
            if bytes[..n] != self.noise[at..at + n] {
                return false;
            }
            self.len += n;
            bytes = &bytes[n..];
        }
        true
    }
}

/// Sends a request with a body of `len` bytes.
fn upload(mut to: impl Write, path: &str, len: usize, chunked: bool) -> std::io::Result<()> {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {len}"),
    };
    to.write_all(format!("POST {path} HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n").as_bytes())?;
    let noise = noise();
    let mut sent = 0;
    for nth in 0.. {
        let at = sent % PERIOD;
        // The pieces have many sizes, so that they end anywhere in the server's buffers.
        let piece = [200_000, 1, 70_000, 4096, 333_333][nth % 5].min(len - sent).min(PERIOD - at);
        if piece == 0 {
            break;
        }
        if chunked {
            to.write_all(format!("{piece:x}\r\n").as_bytes())?;
        }
        to.write_all(&noise[at..at + piece])?;
        if chunked {
            to.write_all(b"\r\n")?;
        }
        sent += piece;
    }
    if chunked { to.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

fn echo(backend: Backend, chunked: bool) {
    const LEN: usize = 64 << 20;
    let server = Running::start(backend, few_workers(backend), |_| demo::app());
    let mut client = server.client();
    let to = client.socket.try_clone().expect("a socket can be shared");
    let sending = thread::spawn(move || upload(to, "/echo", LEN, chunked));
    let mut check = Check::new();
    let body = LargeBody::begin(&mut client);
    assert_eq!(body.chunked, chunked, "the length of the answer is known if that of the request is");
    body.read(&mut client, |piece| assert!(check.take(piece), "other bytes after {}", check.len));
    assert_eq!(check.len, LEN);
    sending.join().expect("the sender does not panic").expect("the server reads");
    assert_eq!(client.get("/plaintext").status, 200, "the connection goes on");
}

fn echo_async(backend: Backend) {
    let server = Running::start(backend, begins_with_head(backend), |_| {
        Router::new().post("/", async |request: Request| Response::new(request.into_body())).post(
            "/later",
            async |mut request: Request| {
                let first = request.body_mut().chunk().await;
                let rest = request.into_body();
                Response::new(Body::from_stream(stream::iter(first).chain(rest)))
            },
        )
    });
    for path in ["/", "/later"] {
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send("5\r\n12345\r\n");
        let body = LargeBody::begin(&mut client);
        client.send("5\r\n67890\r\n0\r\n\r\n");
        let mut echoed = Vec::new();
        body.read(&mut client, |piece| echoed.extend_from_slice(piece));
        assert_eq!(echoed, b"1234567890", "{path}");
    }
}

/// The framing of a response whose body is too large to keep.
struct LargeBody {
    chunked: bool,
    len: usize,
}

impl LargeBody {
    /// Reads the head.
    fn begin(client: &mut Client) -> LargeBody {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.exactly(1).expect("a head"));
        }
        let head = String::from_utf8(head).expect("a head in UTF-8");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.split("\r\nContent-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let len = length.map_or(0, |len| len.parse().expect("a number"));
        LargeBody { chunked: head.contains("\r\nTransfer-Encoding: chunked\r\n"), len }
    }

    fn read(self, client: &mut Client, take: impl FnMut(&[u8])) {
        if self.chunked { read_chunks(client, take) } else { read_length(client, self.len, take) }
    }
}

fn read_length(client: &mut Client, mut left: usize, mut take: impl FnMut(&[u8])) {
    while left > 0 {
        let n = left.min(64 * 1024);
        take(&client.exactly(n).expect("the body goes on"));
        left -= n;
    }
}

fn read_chunks(client: &mut Client, mut take: impl FnMut(&[u8])) {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(client.exactly(1).expect("a chunk size"));
        }
        let digits = std::str::from_utf8(&line[..line.len() - 2]).expect("a chunk size");
        let size = usize::from_str_radix(digits, 16).expect("a hexadecimal number");
        let data = client.exactly(size + 2).expect("the body goes on");
        assert!(data.ends_with(b"\r\n"));
        take(&data[..size]);
        if size == 0 {
            return;
        }
    }
}

fn readers(_: Runtime) -> Router {
    Router::new()
        .post("/blocking", blocking(read_all))
        .post("/in-place", sync(read_all))
        .post("/echo", sync(|request: Request| Response::new(request.into_body())))
        .get("/", sync(|_| "fine"))
}

/// Answers with the number of bytes in the body, and whether they are the noise.
fn read_all(request: Request) -> Response {
    let mut reader = request.into_body().reader();
    let (mut check, mut room, mut fine) = (Check::new(), vec![0; 50_000], true);
    loop {
        match reader.read(&mut room) {
            Ok(0) => return format!("{} {fine}", check.len).into_response(),
            Ok(n) => fine = fine && check.take(&room[..n]),
            Err(error) => return Response::text(error.to_string()).with_status(StatusCode::CONFLICT),
        }
    }
}

fn read(backend: Backend, chunked: bool) {
    const LEN: usize = 16 << 20;
    let server = Running::start(backend, few_workers(backend), readers);
    let mut client = server.client();
    for _ in 0..2 {
        upload(&client.socket, "/blocking", LEN, chunked).expect("the server reads");
        assert_eq!(client.answer().said(), (200, format!("{LEN} true")));
    }
}

fn in_place(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), readers);
    let mut client = server.client();
    let noise = noise();
    // The body arrives with the head, so no backend has to wait for it.
    let mut whole = b"POST /in-place HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n".to_vec();
    whole.extend_from_slice(&noise[..10]);
    client.send(&whole);
    assert_eq!(client.answer().said(), (200, "10 true".into()));

    client.send("POST /in-place HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n");
    if blocks(backend) {
        client.send(&noise[..5]);
        client.send(&noise[5..10]);
        assert_eq!(client.answer().said(), (200, "10 true".into()));
        assert_eq!(client.get("/").text(), "fine");
    } else {
        let (status, said) = client.answer().said();
        assert_eq!(status, 409);
        assert!(said.contains("wrap the handler in `blocking`"), "{said}");
    }
    assert_eq!(server.get("/").text(), "fine");
}

fn in_place_as_it_arrives(backend: Backend) {
    const LEN: usize = 1 << 20;
    let server = Running::start(backend, few_workers(backend), readers);
    let mut client = server.client();
    upload(&client.socket, "/in-place", LEN, false).expect("the server reads");
    assert_eq!(client.answer().said(), (200, format!("{LEN} true")));
}

/// Reads a body to its end, and counts the pieces.
fn read_counting(request: Request, pieces: &AtomicUsize) -> io::Result<String> {
    let (mut reader, mut room, mut body) = (request.into_body().reader(), [0; 100], Vec::new());
    loop {
        match reader.read(&mut room)? {
            0 => return Ok(String::from_utf8_lossy(&body).into_owned()),
            n => {
                body.extend_from_slice(&room[..n]);
                pieces.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn pauses(backend: Backend) {
    let pieces = Arc::new(AtomicUsize::new(0));
    let [one, other, third] = [(); 3].map(|()| pieces.clone());
    let server = Running::start(backend, begins_with_head(backend), move |_| {
        Router::new()
            .post("/compute", compute(move |request| read_counting(request, &one)))
            .post("/blocking", blocking(move |request| read_counting(request, &other)))
            .post("/thread", move |request: Request| {
                let (runtime, pieces) = (request.runtime().clone(), third.clone());
                let reading = thread::spawn(move || read_counting(request, &pieces));
                async move {
                    while !reading.is_finished() {
                        runtime.sleep(Duration::from_millis(1)).await;
                    }
                    reading.join().expect("no panic")
                }
            })
    });
    for path in ["/compute", "/blocking", "/thread"] {
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"));
        for (nth, piece) in ["12345", "67", "890"].into_iter().enumerate() {
            client.send(piece);
            wait_until("the piece is read", || pieces.load(Ordering::SeqCst) > nth);
        }
        assert_eq!(client.answer().said(), (200, "1234567890".into()), "{path}");
        pieces.store(0, Ordering::SeqCst);
    }
}

fn cut_short(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), readers);
    for framing in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
        let mut client = server.client();
        client.send(format!("POST /blocking HTTP/1.1\r\nHost: test\r\n{framing}"));
        client.half_close();
        // On a busy machine, the peer may be probed before the reader finds the end.
        let answer = client.final_answer();
        assert_eq!(answer.said(), (409, "the body was cut short".into()));
        client.expect_end();
    }
}

fn echo_cut_short(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), readers);
    for framing in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
        let mut client = server.client();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\n{framing}"));
        client.half_close();
        let seen = client.rest();
        let seen = String::from_utf8_lossy(&seen);
        assert!(!seen.ends_with("0\r\n\r\n"), "a response that was cut looks complete: {seen}");
        assert_eq!(server.get("/").text(), "fine");
    }
}
