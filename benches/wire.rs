//! What HTTP/1.1 itself costs: parsing and answering on a bare connection, with no socket, beside `httparse` alone
//! as the floor.
//!
//! `cargo bench --bench wire`

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gearshift::h1::{Connection, Event, Piece};
use gearshift::{Limits, Response};

/// Heads by size: what `wrk` sends, what a browser sends, and the most fields that are allowed.
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

/// Answers all that `wire` holds, and says how many requests that were.
fn answer(connection: &mut Connection, wire: &[u8]) -> usize {
    connection.inbox_mut().extend(wire);
    let mut answered = 0;
    loop {
        match connection.next_event() {
            Event::Request(request) => {
                black_box(request.path());
                connection.respond_whole(Response::text("Hello, World!"), 1_700_000_000);
                answered += 1;
            }
            Event::NeedBytes => break,
            other => panic!("{other:?}"),
        }
    }
    let outbox = connection.outbox_mut();
    outbox.sent(black_box(outbox.len()));
    answered
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse and respond");
    for (name, head) in heads() {
        group.throughput(Throughput::Elements(1));
        let mut connection = connection();
        group.bench_function(format!("{name}, as before"), |bencher| {
            bencher.iter(|| assert_eq!(answer(&mut connection, black_box(head.as_bytes())), 1));
        });
        // Five clients that differ take turns: more than are remembered.
        let others: Vec<String> =
            (0..5).map(|n| head.replacen("Host: ", &format!("X-Client: {n}\r\nHost: "), 1)).collect();
        let others: Vec<&String> = others.iter().filter(|head| head.matches("\r\n").count() <= 102).collect();
        let mut turn = others.iter().cycle();
        if !others.is_empty() {
            group.bench_function(format!("{name}, anew"), |bencher| {
                bencher.iter(|| {
                    let head = turn.next().expect("a cycle has no end");
                    assert_eq!(answer(&mut connection, black_box(head.as_bytes())), 1);
                });
            });
        }
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

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked body of 1 MiB");
    for size in [64, 4096, 65_536] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let chunks = chunk.repeat((1 << 20) / size);
        let wire =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        group.throughput(Throughput::Bytes(1 << 20));
        group.bench_function(format!("in chunks of {size}"), |bencher| {
            bencher.iter(|| {
                let mut connection = connection();
                connection.inbox_mut().extend(black_box(wire.as_bytes()));
                assert!(matches!(connection.next_event(), Event::Request(_)));
                let mut total = 0;
                loop {
                    match connection.next_piece().expect("the body is well-formed") {
                        Piece::Data(data) => total += data.len(),
                        Piece::End => break,
                        Piece::NeedBytes => panic!("all of it is there"),
                    }
                }
                assert_eq!(total, 1 << 20);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, pipelined, chunked);
criterion_main!(benches);
