//! The cost of a request on each backend over loopback: plain text, JSON, an echo of 64 KiB, and a stream of 100
//! chunks, on 1, 16 and 64 keep-alive connections.
//!
//! `cargo bench --bench backends` takes a minute and a half; `-- json/16` or `-- mio` runs a part.
//!
//! Each server is a process configured for one core; see `loopback/mod.rs`. The client is one thread that writes to all
//! connections, then reads from all, and compares every byte of every body. The server's CPU time per request is
//! printed below each time. The figures only compare backends with each other on one machine.

mod loopback;

use std::cell::LazyCell;

use criterion::{Criterion, Throughput};
use gearshift::Backend;
use loopback::{Served, Work};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const ECHO: usize = 64 * 1024;
const CHUNKS: usize = 100;

fn main() {
    loopback::run(|_| demo::app(), &[each_backend]);
}

/// The requests by name.
fn works() -> [(&'static str, Work); 4] {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let large: Vec<u8> = (0..ECHO).map(|at| (at % 251) as u8).collect();
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {ECHO}\r\n\r\n");
    let lines: String = (0..CHUNKS).map(|line| format!("chunk {line}\n")).collect();
    [
        ("plaintext", Work { request: get("/plaintext"), body: b"Hello, World!".to_vec() }),
        ("json", Work { request: get("/json"), body: br#"{"message":"Hello, World!"}"#.to_vec() }),
        ("echo 64 KiB", Work { request: [head.as_bytes(), &large].concat(), body: large }),
        ("stream", Work { request: get(&format!("/stream/{CHUNKS}")), body: lines.into_bytes() }),
    ]
}

fn each_backend(criterion: &mut Criterion) {
    for (name, work) in works() {
        for connections in CONNECTIONS {
            let mut group = criterion.benchmark_group(format!("{name}/{connections}"));
            group.throughput(match name {
                "echo 64 KiB" => Throughput::Bytes((connections * ECHO) as u64),
                _ => Throughput::Elements(connections as u64),
            });
            for &backend in Backend::available() {
                let server = LazyCell::new(|| Served::start(backend));
                loopback::measure(&mut group, backend.name(), &server, &work, connections);
            }
            group.finish();
        }
    }
}
