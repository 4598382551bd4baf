//! The demo's routes over a socket, on every backend that is compiled in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gearshift::{Backend, TestServer};

/// SHA-256 of the empty string, and of that digest.
const ONCE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TWICE: &str = "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456";

/// The response of every backend: method and path, status, body.
const TABLE: [(&str, &str, u16, &str); 29] = [
    ("GET", "/plaintext", 200, "Hello, World!"),
    ("HEAD", "/plaintext", 200, ""),
    ("POST", "/plaintext", 405, "Method Not Allowed"),
    ("GET", "/json", 200, r#"{"message":"Hello, World!"}"#),
    ("GET", "/async", 200, "Hello, World!"),
    ("GET", "/stream/0", 200, ""),
    ("GET", "/stream/2", 200, "chunk 0\nchunk 1\n"),
    ("GET", "/stream/100001", 400, "n is at most 100000"),
    ("GET", "/stream/x", 404, "'x' is not a number"),
    ("GET", "/sleep/1", 200, "ok"),
    ("GET", "/sleep/-1", 404, "'-1' is not a number"),
    ("GET", "/sleep/60001", 400, "ms is at most 60000"),
    ("GET", "/sleep/99999999999999999999", 400, "ms is at most 60000"),
    ("GET", "/data", 200, "Done!"),
    ("GET", "/later", 200, "0"),
    ("POST", "/later/60001", 400, "ms is at most 60000"),
    ("GET", "/block/1", 200, "ok"),
    ("GET", "/block/1.5", 404, "'1.5' is not a number"),
    ("GET", "/offload/1", 200, "ok"),
    ("GET", "/offload/60001", 400, "ms is at most 60000"),
    ("GET", "/cpu/1", 200, ONCE),
    ("GET", "/cpu/2", 200, TWICE),
    ("GET", "/cpu/x", 404, "'x' is not a number"),
    ("GET", "/compute/2", 200, TWICE),
    ("GET", "/compute/10000001", 400, "rounds is at most 10000000"),
    ("GET", "/echo", 405, "Method Not Allowed"),
    ("GET", "/ws", 426, "this is a WebSocket endpoint: the request must upgrade to websocket"),
    ("GET", "/nowhere", 404, "Not Found"),
    ("GET", "/panic", 500, "Internal Server Error"),
];

#[test]
fn every_backend_answers_the_table() {
    each_backend(|server| {
        for (method, path, status, body) in TABLE {
            let answer =
                ask(server, &format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
            assert_eq!((answer.status, &*answer.body), (status, body), "{method} {path}");
        }
    });
}

#[test]
fn deferred_work_is_done() {
    each_backend(|server| {
        let get = "GET /later HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        for _ in 0..2 {
            let post = "POST /later/20 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
            assert_eq!(ask(server, post).status, 202);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while ask(server, get).body != "2" {
            assert!(Instant::now() < end, "the work is not done");
        }
    });
}

#[test]
fn the_page_names_the_backend_and_links_the_routes() {
    each_backend(|server| {
        let answer = ask(server, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(answer.status, 200);
        assert!(answer.head.to_ascii_lowercase().contains("content-type: text/html"));
        for path in ["/plaintext", "/json", "/stream/10", "/compute/100000"] {
            assert!(answer.body.contains(&format!("href=\"{path}\"")), "{path}");
        }
    });
    for backend in Backend::available() {
        let server = TestServer::start(*backend, demo::app()).expect("the demo starts");
        let answer = ask(&server, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert!(answer.body.contains(&format!("<b>{backend}</b>")), "{backend}");
    }
}

#[test]
fn echoes_a_body_that_arrives_in_pieces() {
    each_backend(|server| {
        let mut peer = TcpStream::connect(server.addr()).expect("the server listens");
        peer.write_all(
            b"POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: text/x\r\nContent-Length: 8\r\n\r\n",
        )
        .expect("the peer reads");
        peer.write_all(b"four").expect("the peer reads");
        peer.write_all(b"more").expect("the peer reads");
        let answer = Answer::read(peer);
        assert_eq!((answer.status, &*answer.body), (200, "fourmore"));
        assert!(answer.head.to_ascii_lowercase().contains("content-type: text/x\r\n"));
    });
}

fn each_backend(check: impl Fn(&TestServer)) {
    for backend in Backend::available() {
        eprintln!("on {backend}");
        let server = TestServer::start(*backend, demo::app()).expect("the demo starts");
        check(&server);
        server.stop().expect("the demo stops");
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(server: &TestServer, request: &str) -> Answer {
    let mut peer = TcpStream::connect(server.addr()).expect("the server listens");
    peer.write_all(request.as_bytes()).expect("the peer reads");
    Answer::read(peer)
}

impl Answer {
    /// Reads a response that ends with the connection.
    fn read(mut peer: TcpStream) -> Answer {
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { dechunked(body) } else { body.to_owned() };
        Answer { status, head: format!("{head}\r\n"), body }
    }
}

/// Decodes a chunked body.
fn dechunked(mut rest: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal chunk size");
        if size == 0 {
            assert_eq!(after, "\r\n", "the end of a chunked body");
            return whole;
        }
        whole.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("the end of a chunk");
    }
}
