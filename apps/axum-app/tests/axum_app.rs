//! The application of axum on every backend: the same answers from each of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use gearshift::tower::{HandlerService, service};
use gearshift::{Backend, Config, Router, TestServer, sync};
use libtest_mimic::{Arguments, Trial};
use test_support::PATIENCE;
use test_support::client::{Answer, Client};
use tower_layer::layer_fn;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

fn main() -> ExitCode {
    let tests: [(&str, fn(Backend)); 11] = [
        ("json_and_state", json_and_state),
        ("handlers_know_the_peer", peer),
        ("bodies_stream_back", bodies_stream_back),
        ("uploads", uploads),
        ("compression", compression),
        ("files_with_ranges", files_with_ranges),
        ("a_slow_handler_is_ended_by_the_layer", slow),
        ("layers_add_their_fields", fields),
        ("events", events),
        ("web_sockets", web_sockets),
        ("a_layer_starts_a_task_of_tokio", layer_with_task),
    ];
    let trials = Backend::available().iter().flat_map(|&backend| {
        tests.map(|(name, test)| {
            Trial::test(format!("{backend}::{name}"), move || {
                test(backend);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn start(backend: Backend) -> TestServer {
    TestServer::with_config(backend, Config::default(), |_| {
        service(axum_app::with_connect_info(axum_app::app()))
    })
    .expect("the server starts")
}

fn client(server: &TestServer) -> Client {
    Client::connect(server.addr())
}

/// Sends a request with fields and a body.
fn ask(client: &mut Client, line: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    client.send(format!("{line} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{fields}\r\n{body}"));
    client.answer()
}

const JSON: &str = "Authorization: Bearer secret\r\nContent-Type: application/json\r\n";

fn json_and_state(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    let mut said = |line: &str, body: &str| ask(&mut client, line, JSON, body).said();
    assert_eq!(said("POST /api/notes", r#"{"text":"one"}"#), (201, "1".into()));
    assert_eq!(said("POST /api/notes", r#"{"text":"two"}"#), (201, "2".into()));
    assert_eq!(said("GET /api/notes/2", ""), (200, r#"{"text":"two"}"#.into()));
    assert_eq!(said("GET /api/notes?from=2", ""), (200, r#"[[2,{"text":"two"}]]"#.into()));
    assert_eq!(said("DELETE /api/notes/1", ""), (204, String::new()));
    assert_eq!(said("GET /api/notes/1", "").0, 404);
    assert_eq!(said("POST /api/notes", r#"{"text":1}"#).0, 422);
    assert_eq!(said("PUT /api/notes", "").0, 405);
    assert_eq!(client.get("/api/notes").status, 401);
    assert_eq!(client.get("/none").status, 404);
    assert_eq!(client.get("/").said(), (200, "an application of axum\n".into()));
}

fn peer(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    let address = client.socket.local_addr().expect("the socket is connected").to_string();
    assert_eq!(client.get("/peer").said(), (200, address));
}

fn bodies_stream_back(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    let body = "0123456789".repeat(50_000);
    let answer = ask(&mut client, "POST /echo", "", &body);
    assert_eq!((answer.status, answer.text()), (200, body));
    client
        .send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.answer().said(), (200, "abc".into()));
}

fn uploads(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    let file = "x".repeat(100_000);
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n12\r\n\
         --b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n{file}\r\n--b--\r\n"
    );
    let multipart = "Content-Type: multipart/form-data; boundary=b\r\n";
    let answer = ask(&mut client, "POST /upload", multipart, &form);
    assert_eq!(answer.said(), (200, r#"[["a",2],["f",100000]]"#.into()));
    let large = form.replace(&file, &"x".repeat(2 << 20));
    client.send(format!(
        "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{multipart}\r\n",
        large.len()
    ));
    // The server may close the connection before it has read everything.
    let _ = client.socket.write_all(large.as_bytes());
    assert_eq!(client.answer().status, 413);
}

fn compression(backend: Backend) {
    let server = start(backend);
    let answer = ask(&mut client(&server), "GET /big", "Accept-Encoding: gzip\r\n", "");
    assert_eq!((answer.status, answer.field("content-encoding")), (200, Some("gzip")));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).expect("it is compressed");
    assert_eq!(text, "a line of a large response\n".repeat(10_000));
}

fn files_with_ranges(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    let whole = client.get("/static/hello.txt");
    assert_eq!(whole.said(), (200, "0123456789\n".into()));
    let part = ask(&mut client, "GET /static/hello.txt", "Range: bytes=2-4\r\n", "");
    assert_eq!(part.said(), (206, "234".into()));
    let modified = whole.field("last-modified").expect("a file has a date");
    let since = format!("If-Modified-Since: {modified}\r\n");
    assert_eq!(ask(&mut client, "GET /static/hello.txt", &since, "").status, 304);
    assert_eq!(client.get("/static/none.txt").status, 404);
}

fn slow(backend: Backend) {
    let server = start(backend);
    assert_eq!(client(&server).get("/slow").status, 408);
}

fn fields(backend: Backend) {
    let server = start(backend);
    let mut client = client(&server);
    assert!(client.get("/").field("x-request-id").is_some());
    let answer = ask(&mut client, "GET /", "X-Request-Id: mine\r\nOrigin: http://other\r\n", "");
    assert_eq!(answer.field("x-request-id"), Some("mine"));
    assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
    let preflight = "Origin: http://other\r\nAccess-Control-Request-Method: DELETE\r\n";
    let answer = ask(&mut client, "OPTIONS /api/notes/1", preflight, "");
    assert_eq!((answer.status, answer.field("access-control-allow-methods")), (200, Some("*")));
}

fn events(backend: Backend) {
    let server = start(backend);
    let mut listener = TcpStream::connect(server.addr()).expect("the server listens");
    listener.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    listener.write_all(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads");
    let mut lines = BufReader::new(listener).lines().map(|line| line.expect("the stream goes on"));
    let mut until = |end: &str| lines.find(|line| line.starts_with(end)).expect("the stream goes on");
    until("HTTP/1.1 200");
    until(": open");
    let answer = ask(&mut client(&server), "POST /api/notes", JSON, r#"{"text":"one"}"#);
    assert_eq!(answer.status, 201);
    until("event: added");
    assert_eq!(until("data"), "data: 1");
    // The keep-alive of the stream needs a timer of tokio.
    until(":");
}

fn web_sockets(backend: Backend) {
    let server = start(backend);
    let connect = || {
        let mut request =
            format!("ws://{}/ws", server.addr()).into_client_request().expect("an address is a URL");
        request.headers_mut().insert("sec-websocket-protocol", "echo".parse().expect("a field value"));
        let stream = TcpStream::connect(server.addr()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        tungstenite::client(request, stream).expect("the server answers")
    };
    let mut sockets: Vec<_> = (0..20).map(|_| connect()).collect();
    for (socket, response) in &mut sockets {
        assert_eq!(response.headers()["sec-websocket-protocol"], "echo");
        for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
            socket.send(message.clone()).expect("the socket is open");
            assert_eq!(socket.read().expect("it is echoed"), message);
        }
    }
    // The sockets hold no thread.
    assert_eq!(client(&server).get("/").status, 200);
    for (socket, _) in &mut sockets {
        socket.close(None).expect("the socket is open");
        while socket.read().is_ok() {}
    }
    // A request that is no handshake is answered by axum, also if it has an offer.
    let mut client = client(&server);
    let answer = ask(&mut client, "GET /ws", "Connection: upgrade\r\nUpgrade: websocket\r\n", "");
    assert_eq!(answer.status, 400);
    assert_eq!(ask(&mut client, "GET /ws", "", "").status, 400);
    let answer = ask(&mut client, "GET /", "Connection: upgrade\r\nUpgrade: h2c\r\n", "");
    assert_eq!(answer.status, 200);
}

fn layer_with_task(backend: Backend) {
    let (tell, told) = std::sync::mpsc::channel();
    let router = Router::new().get("/", sync(|_| "layered")).layer(layer_fn(move |inner: HandlerService| {
        let tell = tell.clone();
        tokio::spawn(async move { tell.send(()) });
        inner
    }));
    let server = TestServer::start(backend, router).expect("the server starts");
    assert_eq!(client(&server).get("/").said(), (200, "layered".into()));
    told.recv_timeout(PATIENCE).expect("the task runs");
}
