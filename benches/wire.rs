//! The cost of HTTP/1.1 itself: parsing requests and encoding responses on a connection without a socket. `httparse`
//! alone is the lower bound.
//!
//! `cargo bench --bench wire` takes half a minute.
//!
//! "Repeated" requests have the same fields as the request before, which the connection remembers. "Different" requests
//! are parsed in full, so they compare with `httparse`.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gearshift::backend::h1::{Connection, Event, Piece};
use gearshift::{Bytes, Limits, Request, Response, StatusCode};

/// Request heads: that of `wrk`, that of a browser, and one with the highest allowed number of fields.
fn heads() -> [(&'static str, String); 3] {
    let small = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n".to_owned();
    let browser = "GET /index.html?from=home HTTP/1.1\r\nHost: www.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
        Referer: https://www.example.com/\r\nConnection: keep-alive\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\n\
        Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\
        Sec-Fetch-User: ?1\r\nPriority: u=0, i\r\n\r\n"
        .to_owned();
    let fields: String = (1..100).map(|n| format!("X-Field-{n}: value number {n}\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    [("small", small), ("browser", browser), ("100 fields", many)]
}

fn connection() -> Connection {
    Connection::new(Arc::new(Limits::default()), true, true)
}

/// Answers all requests in `wire` and returns their number.
fn answer(connection: &mut Connection, wire: &[u8]) -> usize {
    answer_with(connection, wire, || Response::text("Hello, World!")).0
}

/// The same with a given response. Also returns the number of bytes to send.
fn answer_with(connection: &mut Connection, wire: &[u8], response: impl Fn() -> Response) -> (usize, usize) {
    connection.read_buffer.extend(wire);
    let mut answered = 0;
    loop {
        match connection.next_event() {
            Event::Request(request) => {
                black_box(request.path());
                connection.respond_whole(&mut response(), 1_700_000_000);
                answered += 1;
            }
            Event::NeedBytes => break,
            other => panic!("{other:?}"),
        }
    }
    let write_queue = &mut connection.write_queue;
    let bytes = write_queue.len();
    write_queue.sent(black_box(bytes));
    (answered, bytes)
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse and respond");
    for (name, head) in heads() {
        group.throughput(Throughput::Elements(1));
        let mut connection = connection();
        group.bench_function(format!("{name}, repeated"), |bencher| {
            bencher.iter(|| assert_eq!(answer(&mut connection, black_box(head.as_bytes())), 1));
        });
        // Five clients take turns, which is more than a thread remembers.
        let others: Vec<String> =
            (0..5).map(|n| head.replacen("Host: ", &format!("Host: {n}."), 1)).collect();
        let mut turn = others.iter().cycle();
        group.bench_function(format!("{name}, different"), |bencher| {
            bencher.iter(|| {
                let head = turn.next().expect("a cycle has no end");
                assert_eq!(answer(&mut connection, black_box(head.as_bytes())), 1);
            });
        });
        group.bench_function(format!("{name}, httparse alone"), |bencher| {
            bencher.iter(|| {
                let mut fields = [const { MaybeUninit::uninit() }; 100];
                let mut request = httparse::Request::new(&mut []);
                let parsed = request.parse_with_uninit_headers(black_box(head.as_bytes()), &mut fields);
                assert!(parsed.is_ok_and(|status| status.is_complete()));
            });
        });
    }
    group.finish();
}

fn pipelined(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipelined");
    let (_, head) = &heads()[0];
    for depth in [1, 16] {
        let wire = head.repeat(depth);
        let mut connection = connection();
        group.throughput(Throughput::Elements(depth as u64));
        group.bench_function(depth.to_string(), |bencher| {
            bencher.iter(|| assert_eq!(answer(&mut connection, black_box(wire.as_bytes())), depth));
        });
    }
    group.finish();
}

/// Whole exchanges with the same small request and different responses.
fn respond(criterion: &mut Criterion) {
    const FIELDS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let large = Bytes::from(vec![b'x'; 64 * 1024]);
    let with_fields = || {
        FIELDS.iter().fold(Response::text("Hello, World!"), |response, name| {
            response.with_header(&format!("x-field-{name}"), "some value of a field")
        })
    };
    let cases: [(&str, &dyn Fn() -> Response, usize); 4] = [
        ("204", &|| Response::status_only(StatusCode::NO_CONTENT), 0),
        ("13 bytes", &|| Response::text("Hello, World!"), 13),
        ("13 bytes, ten more fields", &with_fields, 13),
        ("64 KiB", &|| Response::new(large.clone()), large.len()),
    ];
    let (_, head) = &heads()[0];
    let mut group = criterion.benchmark_group("respond");
    group.throughput(Throughput::Elements(1));
    for (name, response, body) in cases {
        let mut connection = connection();
        let (_, expected) = answer_with(&mut connection, head.as_bytes(), response);
        assert!(expected > body, "{expected} bytes");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let done = answer_with(&mut connection, black_box(head.as_bytes()), response);
                assert_eq!(done, (1, expected));
            });
        });
    }
    group.finish();
}

/// A body that is received with its head is decoded at once. A body that is received later is read piece by piece.
fn chunked(criterion: &mut Criterion) {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const LEN: usize = 1 << 20;
    let mut group = criterion.benchmark_group("chunked body of 1 MiB");
    group.throughput(Throughput::Bytes(LEN as u64));
    for size in [64, 4096, 65_536] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let body = format!("{}0\r\n\r\n", chunk.repeat(LEN / size));
        let wire = [HEAD, &body].concat();
        group.bench_function(format!("with its head, in chunks of {size}"), |bencher| {
            bencher.iter(|| {
                let mut connection = connection();
                connection.read_buffer.extend(black_box(wire.as_bytes()));
                assert_eq!(request(&mut connection).body().remaining(), Some(LEN as u64));
            });
        });
        group.bench_function(format!("after its head, in chunks of {size}"), |bencher| {
            bencher.iter(|| {
                let mut connection = connection();
                connection.read_buffer.extend(HEAD.as_bytes());
                request(&mut connection);
                connection.read_buffer.extend(black_box(body.as_bytes()));
                let mut total = 0;
                loop {
                    match connection.next_piece().expect("the body is well-formed") {
                        Piece::Data(data) => total += data.len(),
                        Piece::Trailers(_) => {}
                        Piece::End => break,
                        Piece::NeedBytes => panic!("the whole body was received"),
                    }
                }
                assert_eq!(total, LEN);
            });
        });
    }
    group.finish();
}

fn request(connection: &mut Connection) -> Request {
    match connection.next_event() {
        Event::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
        .nresamples(2000);
    targets = parse, respond, pipelined, chunked
}
criterion_main!(benches);
