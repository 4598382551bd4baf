//! The access log has one line for each response, whoever has made it, and one for each request that was given up.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use futures_lite::{AsyncReadExt, stream};
use gearshift::{
    Backend, Body, Bytes, Config, HeaderValue, Overload, Response, Router, Runtime, Stream, sync,
};
use socket2::{Domain, Socket, Type};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::routes::{self, Waits};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, logs, wait_until};

pub(crate) const AREA: Area = (
    "access",
    &[
        ("each_response_has_a_line", responses),
        ("a_connection_that_is_refused_has_a_line", overload),
        ("pipelined_responses_have_lines_in_their_order", pipelined),
        ("a_stream_has_a_line_at_its_end_with_all_bytes", streamed),
        ("an_upgrade_has_a_line_at_the_switch", upgraded),
        ("a_request_whose_client_has_left_has_a_line", left),
        ("a_request_that_a_stop_cuts_has_a_line", stopped),
        ("a_response_whose_client_has_left_has_a_line", cut),
        ("the_duration_includes_the_wait_of_the_handler", duration),
        ("a_server_without_the_log_writes_no_line", off),
    ],
);

/// The parts of a line.
#[derive(Debug)]
struct Line {
    request: String,
    status: String,
    bytes: u64,
    duration: Duration,
    is_cut: bool,
}

impl Line {
    /// Reads `PEER - - [TIME] "REQUEST" STATUS BYTES SECONDS`, and ` cut` at the end of some lines.
    fn parse(line: &str) -> Option<Line> {
        let (_, rest) = line.split_once(" - - [")?;
        let (time, rest) = rest.split_once("] \"")?;
        let is_shaped = time.len() == 26
            && time.bytes().zip(*b"06/Nov/1994:08:49:37 +0000").all(|(byte, shape)| match shape {
                b'0'..=b'9' => byte.is_ascii_digit(),
                b'A'..=b'z' => byte.is_ascii_alphabetic(),
                _ => byte == shape,
            });
        let (request, rest) = rest.split_once("\" ")?;
        let (rest, is_cut) = rest.strip_suffix(" cut").map_or((rest, false), |rest| (rest, true));
        let mut parts = rest.split(' ');
        let (status, bytes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
        (is_shaped && parts.next().is_none()).then(|| Line {
            request: request.to_owned(),
            status: status.to_owned(),
            bytes: bytes.parse().expect("a number of bytes"),
            duration: Duration::from_secs_f64(seconds.parse().expect("a number of seconds")),
            is_cut,
        })
    }

    fn parts(&self) -> (&str, &str, u64, bool) {
        (&self.request, &self.status, self.bytes, self.is_cut)
    }
}

/// A server with an access log. Its timeouts are long, except for those that `change` sets.
fn server(backend: Backend, change: fn(&mut Config)) -> Running {
    Running::start(backend, settings(backend, change), |_| routes::app())
}

fn settings(backend: Backend, change: fn(&mut Config)) -> Config {
    let long = Duration::from_secs(600);
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.body_timeout) = (long, long, long);
    config.access_log = true;
    change(&mut config);
    config
}

/// Connects from an address that no other client of this process uses, so that the lines about it can be found.
fn connect(server: &Running) -> Client {
    static CLIENTS: AtomicU16 = AtomicU16::new(0);
    let [high, low] = CLIENTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from(([127, 9, high, low], 0));
    socket.bind(&from.into()).expect("an address of the loopback network");
    socket.connect(&server.addr().into()).expect("the server listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    Client::new(socket)
}

/// The lines about a client.
fn lines(client: SocketAddr) -> Vec<Line> {
    let lines = logs::lines(logs::ACCESS, &format!("{client} "));
    lines.iter().map(|line| Line::parse(line).unwrap_or_else(|| panic!("not a line: {line:?}"))).collect()
}

/// Waits for `n` lines about a client, and returns them.
fn expect_lines(client: SocketAddr, n: usize) -> Vec<Line> {
    wait_until("the lines are logged", || lines(client).len() >= n);
    let lines = lines(client);
    assert_eq!(lines.len(), n, "{lines:?}");
    lines
}

fn address(client: &Client) -> SocketAddr {
    client.socket.local_addr().expect("a connected socket has an address")
}

/// A request, and the line about it.
struct Row {
    set: fn(&mut Config),
    send: &'static str,
    line: (&'static str, &'static str, u64),
}

const fn row(send: &'static str, request: &'static str, status: &'static str, bytes: u64) -> Row {
    Row { set: |_| {}, send, line: (request, status, bytes) }
}

const ROWS: &[Row] = &[
    // Responses of handlers.
    row("GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n", "GET /plaintext HTTP/1.1", "200", 13),
    row("GET /plaintext?a=\"\\ HTTP/1.1\r\nHost: a\r\n\r\n", "-", "400", 46),
    row("GET /plaintext?a=\\ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /plaintext?a=\\x5c HTTP/1.1", "200", 13),
    row("GET /plaintext HTTP/1.0\r\n\r\n", "GET /plaintext HTTP/1.0", "200", 13),
    row("GET http://a/async HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/async HTTP/1.1", "200", 13),
    row("GET /stream/3 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /stream/3 HTTP/1.1", "200", 24),
    row("GET /stream/3 HTTP/1.0\r\n\r\n", "GET /stream/3 HTTP/1.0", "200", 24),
    row("GET /test/sized HTTP/1.1\r\nHost: a\r\n\r\n", "GET /test/sized HTTP/1.1", "200", 10),
    row("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "POST /echo HTTP/1.1", "200", 3),
    row("GET /test/nothing-much HTTP/1.1\r\nHost: a\r\n\r\n", "GET /test/nothing-much HTTP/1.1", "204", 0),
    row("GET /test/unchanged HTTP/1.1\r\nHost: a\r\n\r\n", "GET /test/unchanged HTTP/1.1", "304", 0),
    row("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "GET /nowhere HTTP/1.1", "404", 9),
    row("PUT /plaintext HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /plaintext HTTP/1.1", "405", 18),
    row("FOO /plaintext HTTP/1.1\r\nHost: a\r\n\r\n", "FOO /plaintext HTTP/1.1", "501", 15),
    row("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1", "204", 0),
    row("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n", "GET /panic HTTP/1.1", "500", 21),
    row("GET /test/panic-later HTTP/1.1\r\nHost: a\r\n\r\n", "GET /test/panic-later HTTP/1.1", "500", 21),
    row(
        "GET /test/answer/102/text HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /test/answer/102/text HTTP/1.1",
        "500",
        0,
    ),
    row("CONNECT text.test:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT text.test:80 HTTP/1.1", "501", 0),
    row("CONNECT stream.test:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT stream.test:80 HTTP/1.1", "501", 0),
    Row {
        set: |config| config.handler_timeout = Duration::from_millis(50),
        ..row(
            "GET /test/wait/600000 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /test/wait/600000 HTTP/1.1",
            "503",
            19,
        )
    },
    Row {
        set: |config| config.body_timeout = Duration::from_millis(50),
        ..row(
            "POST /test/read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            "POST /test/read HTTP/1.1",
            "408",
            24,
        )
    },
    // Refusals of the server.
    row("GET  / HTTP/1.1\r\n\r\n", "-", "400", 29),
    row("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1", "400", 16),
    row("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "POST /a HTTP/1.1", "400", 31),
    row("GET / HTTP/2.0\r\n\r\n", "-", "505", 28),
    row("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "GET / HTTP/1.1", "417", 29),
    row("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "GET / HTTP/1.1", "501", 38),
    Row {
        set: |config| config.limits.request_line = 20,
        ..row("GET /plaintext/plaintext HTTP/1.1\r\nHost: a\r\n\r\n", "-", "414", 28)
    },
    Row {
        set: |config| config.limits.field_line = 20,
        ..row("GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaa\r\n\r\n", "-", "431", 31)
    },
    Row {
        set: |config| config.limits.body = 10,
        ..row("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", "POST / HTTP/1.1", "413", 21)
    },
    Row {
        set: |config| config.header_timeout = Duration::from_millis(50),
        ..row("GET / HTTP/1.1\r\nHost:", "-", "408", 25)
    },
];

fn responses(backend: Backend) {
    for Row { set, send, line: (request, status, bytes) } in ROWS {
        let server = server(backend, *set);
        let mut client = connect(&server);
        client.send(send);
        let answer = client.answer();
        assert_eq!(
            (answer.status.to_string().as_str(), answer.body.len() as u64),
            (*status, *bytes),
            "{send}"
        );
        let lines = expect_lines(address(&client), 1);
        assert_eq!(lines[0].parts(), (*request, *status, *bytes, false), "{send}");
    }
    // The response to HEAD has a length and no body.
    let server = server(backend, |_| {});
    for (path, status) in [("/plaintext", "200"), ("/nowhere", "404"), ("/stream/3", "200"), ("/\0", "400")] {
        let mut client = connect(&server);
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.try_answer(true).expect("an answer").status.to_string(), status);
        let lines = expect_lines(address(&client), 1);
        assert_eq!((lines[0].status.as_str(), lines[0].bytes), (status, 0), "{path}");
    }
}

fn overload(backend: Backend) {
    let set = |config: &mut Config| (config.max_connections, config.overload) = (1, Overload::Refuse);
    let server = server(backend, set);
    let mut first = connect(&server);
    assert_eq!(first.get("/plaintext").status, 200);
    let mut client = connect(&server);
    assert_eq!(client.answer().status, 503);
    let lines = expect_lines(address(&client), 1);
    assert_eq!(lines[0].parts(), ("-", "503", 30, false));
}

fn pipelined(backend: Backend) {
    let server = server(backend, |_| {});
    let mut client = connect(&server);
    let paths = ["/plaintext", "/stream/2", "/nowhere", "/async", "/test/nothing"].repeat(20);
    let requests = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.send(requests.collect::<String>());
    let answers: Vec<_> = paths.iter().map(|_| client.answer()).collect();
    let lines = expect_lines(address(&client), paths.len());
    for ((line, path), answer) in lines.iter().zip(&paths).zip(&answers) {
        let (request, status) = (format!("GET {path} HTTP/1.1"), answer.status.to_string());
        assert_eq!(line.parts(), (request.as_str(), status.as_str(), answer.body.len() as u64, false));
    }
}

/// A server with the routes of a test that holds its responses back.
fn gated(backend: Backend, gate: &Arc<Gate>) -> Running {
    let gate = gate.clone();
    Running::start(backend, settings(backend, |_| {}), move |runtime: Runtime| {
        let (streams, upgrades) = (gate.clone(), gate);
        Router::new()
            .get("/", sync(|_| "fine"))
            .get(
                "/stream",
                sync(move |_| {
                    let (gate, runtime) = (streams.clone(), runtime.clone());
                    let pieces = stream::unfold(0, move |nth| {
                        let (gate, runtime) = (gate.clone(), runtime.clone());
                        async move {
                            if nth == 1 {
                                gate.opened(&runtime).await;
                            }
                            (nth < 2).then(|| (Ok::<_, std::io::Error>(Bytes::from("piece")), nth + 1))
                        }
                    });
                    Response::new(Body::from_stream(pieces))
                }),
            )
            .get(
                "/upgrade",
                sync(move |_| {
                    let gate = upgrades.clone();
                    Response::upgrade(HeaderValue::from_static("quiet"), async move |mut stream: Stream| {
                        let _ = stream.read(&mut [0]).await;
                        drop(gate);
                    })
                }),
            )
    })
}

/// A gate at which a response waits.
#[derive(Default)]
struct Gate(AtomicBool);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    async fn opened(&self, runtime: &Runtime) {
        while !self.0.load(Ordering::SeqCst) {
            runtime.sleep(Duration::from_millis(2)).await;
        }
    }
}

fn streamed(backend: Backend) {
    let gate = Arc::default();
    let server = gated(backend, &gate);
    let mut client = connect(&server);
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut first = Vec::new();
    while !first.ends_with(b"\r\npiece\r\n") {
        first.extend(client.exactly(1).expect("the first piece"));
    }
    assert!(lines(address(&client)).is_empty(), "the response has not ended");
    gate.open();
    wait_until("both responses are logged", || lines(address(&client)).len() == 2);
    let lines = lines(address(&client));
    assert_eq!(lines[0].parts(), ("GET /stream HTTP/1.1", "200", 10, false));
    assert_eq!(lines[1].parts(), ("GET / HTTP/1.1", "200", 4, false));
}

fn upgraded(backend: Backend) {
    let gate = Arc::default();
    let server = gated(backend, &gate);
    let mut client = connect(&server);
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: quiet\r\n\r\n");
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    let lines = expect_lines(address(&client), 1);
    assert_eq!(lines[0].parts(), ("GET /upgrade HTTP/1.1", "101", 0, false));
    assert_eq!(Arc::strong_count(&gate), 4, "the new protocol is still spoken");
}

/// Starts a server, and sends a request whose handler waits. Returns once it waits.
fn waiting(backend: Backend) -> (Running, Client) {
    let waits = Arc::new(Waits::default());
    let counted = waits.clone();
    let server = Running::start(backend, settings(backend, |_| {}), |_| routes::with_waits(counted));
    let mut client = connect(&server);
    client
        .send("GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\nGET /test/wait/600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    wait_until("the handler waits", || waits.at_once.load(Ordering::SeqCst) == 1);
    (server, client)
}

fn expect_given_up(client: SocketAddr) {
    let lines = expect_lines(client, 2);
    assert_eq!(lines[0].parts(), ("GET /plaintext HTTP/1.1", "200", 13, false));
    assert_eq!(lines[1].parts(), ("GET /test/wait/600000 HTTP/1.1", "-", 0, false));
}

fn left(backend: Backend) {
    let (_server, client) = waiting(backend);
    let address = address(&client);
    drop(client);
    expect_given_up(address);
    // A client that leaves in the middle of a head has sent no request.
    let server = server(backend, |_| {});
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost:");
    client.half_close();
    client.expect_end();
    assert!(lines(self::address(&client)).is_empty());
}

fn stopped(backend: Backend) {
    let (server, client) = waiting(backend);
    server.shutdown().force();
    expect_given_up(address(&client));
}

fn cut(backend: Backend) {
    let server = server(backend, |_| {});
    for path in ["/test/endless", "/test/large"] {
        let mut client = connect(&server);
        client.send_get(path);
        assert_eq!(client.exactly(1000).expect("the response begins").len(), 1000);
        let address = address(&client);
        drop(client);
        let lines = expect_lines(address, 1);
        let (request, status, bytes, is_cut) = lines[0].parts();
        assert_eq!((request, status, is_cut), (format!("GET {path} HTTP/1.1").as_str(), "200", true));
        assert!((1..16 << 20).contains(&bytes), "{bytes} bytes of {path}");
    }
}

fn duration(backend: Backend) {
    const WAIT: Duration = Duration::from_millis(100);
    let server = server(backend, |_| {});
    let mut client = connect(&server);
    assert_eq!(client.get(&format!("/test/wait/{}", WAIT.as_millis())).status, 200);
    let lines = expect_lines(address(&client), 1);
    // A line has microseconds.
    assert!(lines[0].duration + Duration::from_micros(1) >= WAIT, "{lines:?}");
}

fn off(backend: Backend) {
    let server = server(backend, |config| config.access_log = false);
    let mut client = connect(&server);
    assert_eq!(client.get("/plaintext").status, 200);
    client.send("\0");
    assert_eq!(client.answer().status, 400);
    client.expect_end();
    assert!(lines(address(&client)).is_empty());
}
