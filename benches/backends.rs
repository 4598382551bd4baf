//! What a request costs on each backend, over loopback, with 1 and with 16 keep-alive connections.
//!
//! `cargo bench --bench backends --all-features`
//!
//! The servers run in this process, one worker each; the client is this thread, writing to all its connections and
//! then reading from all. The figures compare backends with each other on one machine, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gearshift::{Backend, Config, TestServer};

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

/// Keep-alive connections that ask for the same thing again and again.
struct Client {
    connections: Vec<TcpStream>,
    response: Vec<u8>,
}

impl Client {
    fn connect(to: SocketAddr, connections: usize) -> Client {
        let connect = |_| {
            let stream = TcpStream::connect(to).expect("the server listens");
            stream.set_nodelay(true).expect("a TCP socket");
            stream
        };
        let mut client =
            Client { connections: (0..connections).map(connect).collect(), response: Vec::new() };
        let mut first = vec![0; 4096];
        for stream in &mut client.connections {
            stream.write_all(REQUEST).expect("the server reads");
            let n = stream.read(&mut first).expect("the server answers");
            assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&first[..n]));
            assert!(first[..n].ends_with(b"Hello, World!"));
            client.response = vec![0; n];
        }
        client
    }

    /// One request on each connection.
    fn round(&mut self) {
        for stream in &mut self.connections {
            stream.write_all(REQUEST).expect("the server reads");
        }
        for stream in &mut self.connections {
            stream.read_exact(&mut self.response).expect("the server answers");
            assert!(self.response.ends_with(b"Hello, World!"));
        }
    }
}

fn config(backend: Backend) -> Config {
    let mut config = Config::default();
    // async-std takes its threads from the environment.
    if !matches!(backend.name(), "async-std" | "threadpool") {
        config.workers = Some(1);
    }
    config
}

fn plaintext(criterion: &mut Criterion) {
    for connections in [1, 16] {
        let mut group = criterion.benchmark_group(format!("plaintext, {connections} connections"));
        group.throughput(Throughput::Elements(connections as u64));
        for &backend in Backend::available() {
            let server =
                TestServer::with_config(backend, config(backend), demo::app).expect("the server starts");
            let mut client = Client::connect(server.addr(), connections);
            group.bench_function(backend.name(), |bencher| bencher.iter(|| client.round()));
        }
        group.finish();
    }
}

criterion_group!(benches, plaintext);
criterion_main!(benches);
