//! The parts of the service on every backend.

use std::env::temp_dir;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gearshift::{Backend, Request, Router, TestServer};
use libtest_mimic::{Arguments, Trial};
use links::app;
use links::store::Settings;
use serde_json::{Value, json};
use test_support::PATIENCE;
use tungstenite::Message;

type Test = fn(Backend);

const TESTS: [(&str, Test); 13] = [
    ("the_api_has_typed_errors", api),
    ("the_api_needs_a_token", token),
    ("a_form_adds_a_link_that_redirects", form),
    ("an_upload_is_downloaded_in_ranges", files),
    ("a_request_has_an_id_in_the_log", log),
    ("pages_of_other_sites_may_ask", cors),
    ("responses_are_compressed", gzip),
    ("a_session_is_in_a_signed_cookie", session),
    ("a_link_that_is_added_is_an_event", events),
    ("a_socket_answers", socket),
    ("titles_come_from_another_service", title),
    ("a_service_that_does_not_answer_is_given_up", timeout),
    ("a_stop_saves_the_links", stop),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let log = File::create(log_file()).expect("a file for the log");
    tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(log)).init();
    let trials = Backend::available().iter().flat_map(|&backend| {
        TESTS.map(|(name, test)| {
            Trial::test(format!("{backend}::{name}"), move || {
                test(backend);
                Ok(())
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let _ = fs::remove_file(log_file());
    conclusion.exit_code()
}

fn log_file() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| temp_dir().join(format!("links-{}.log", std::process::id())))
}

/// A directory that is removed at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = temp_dir().join(format!("links-{process}-{count}"));
        fs::create_dir_all(path.join("files")).expect("a new directory");
        Directory(path)
    }

    fn settings(&self) -> Settings {
        Settings {
            files: self.0.join("files"),
            links: self.0.join("links.json"),
            token: "secret".into(),
            titles: "http://127.0.0.1:9/".into(),
            key: vec![7; 64],
            timeout: 3 * PATIENCE,
        }
    }

    fn start(&self, backend: Backend) -> TestServer {
        TestServer::start(backend, app(self.settings())).expect("the server starts")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn authorized(request: Request) -> Request {
    request.with_header("authorization", "Bearer secret")
}

fn add(server: &TestServer, name: &str, url: &str) {
    let link = json!({ "name": name, "url": url });
    let response = server.send(authorized(Request::post("/api/links").with_json(&link)));
    assert_eq!((response.status().as_u16(), response.json::<Value>()), (201, link));
}

fn api(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    add(&server, "a", "http://a/");
    let outcome = |request: Request| {
        let response = server.send(authorized(request));
        let status = response.status().as_u16();
        (status, response.json::<Value>())
    };
    let link = json!({ "name": "a", "url": "http://a/" });
    assert_eq!(outcome(Request::get("/api/links/a")), (200, link.clone()));
    let taken = json!({ "error": "the name is taken" });
    assert_eq!(outcome(Request::post("/api/links").with_json(&link)), (409, taken));
    let missing = json!({ "error": "there is no link with this name" });
    assert_eq!(outcome(Request::get("/api/links/b")), (404, missing));
    for (request, status) in [
        (Request::post("/api/links").with_json(&json!({ "name": 1 })), 400),
        (Request::post("/api/links").with_body("a=b"), 415),
    ] {
        let (is, why) = outcome(request);
        assert_eq!((is, why["error"].is_string()), (status, true));
    }
    assert_eq!(server.send(authorized(Request::delete("/api/links/a"))).status(), 204);
    assert_eq!(outcome(Request::delete("/api/links/a")).0, 404);
}

fn token(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    for value in ["", "Bearer", "Bearer other", "Basic secret"] {
        let response = server.send(Request::get("/api/links/a").with_header("authorization", value));
        assert_eq!((response.status().as_u16(), response.header("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(server.send(authorized(Request::get("/api/links/a"))).status(), 404);
    assert_eq!(server.get("/new").status(), 200);
}

fn form(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    assert!(server.get("/new").text().starts_with("<form"));
    let form = || Request::post("/new").with_form(&[("name", "a b"), ("url", "http://a/?b=c")]);
    let response = server.send(form());
    assert_eq!((response.status().as_u16(), response.header("location")), (303, Some("/new")));
    assert_eq!(server.send(form()).status(), 409);
    let response = server.get("/go/a%20b");
    assert_eq!((response.status().as_u16(), response.header("location")), (307, Some("http://a/?b=c")));
    assert_eq!(server.get("/go/b").status(), 404);
}

fn files(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let content: String = (0..50_000).map(|n| format!("{n:06}\n")).collect();
    let upload = |disposition: &str| {
        let body =
            format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n--b--\r\n");
        let request = Request::post("/upload").with_header("content-type", "multipart/form-data; boundary=b");
        server.send(request.with_body(body)).status().as_u16()
    };
    assert_eq!(upload("name=\"f\"; filename=\"../f.bin\""), 201);
    assert_eq!(upload("name=\"f\""), 400);
    let whole = server.get("/files/f.bin");
    assert_eq!(whole.header("content-length"), Some("350000"));
    assert_eq!(whole.text(), content);
    let part = server.send(Request::get("/files/f.bin").with_header("range", "bytes=70-76"));
    assert_eq!((part.status().as_u16(), part.header("content-range")), (206, Some("bytes 70-76/350000")));
    assert_eq!((part.header("content-length"), part.header("transfer-encoding")), (Some("7"), None));
    assert_eq!(part.text(), "000010\n");
    assert_eq!(server.get("/files/none").status(), 404);
    assert_eq!(server.get("/static/hello.txt").text(), "hello from a file\n");
    assert_eq!(server.get("/static/../Cargo.toml").status(), 404);
}

fn log(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let given = server.get("/new").header("x-request-id").map(str::to_owned);
    let mine = format!("mine-{backend}");
    let response = server.send(Request::get("/go/none").with_header("x-request-id", &*mine));
    assert_eq!(response.header("x-request-id"), Some(&*mine));
    let log = fs::read_to_string(log_file()).expect("the log is text");
    for (id, status) in [(given.expect("each response has an identifier"), 200), (mine, 404)] {
        let (id, status) = (format!("\"{id}\""), format!("status={status}"));
        assert!(log.lines().any(|line| line.contains(&id) && line.contains(&status)), "{id}");
    }
}

fn cors(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let preflight = Request::options("/api/links/a")
        .with_header("origin", "http://other")
        .with_header("access-control-request-method", "DELETE");
    let response = server.send(preflight);
    assert_eq!(
        (response.status().as_u16(), response.header("access-control-allow-methods")),
        (200, Some("*"))
    );
    let response = server.send(Request::get("/new").with_header("origin", "http://other"));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
}

fn gzip(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let response = server.send(Request::get("/new").with_header("accept-encoding", "gzip"));
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    // The client does not decompress.
    let body = response.bytes();
    flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).expect("it is compressed");
    assert_eq!(text, server.get("/new").text());
}

fn session(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let response = server.send(Request::post("/login").with_form(&[("user", "ada")]));
    assert_eq!((response.status().as_u16(), response.header("location")), (303, Some("/me")));
    let cookie = response.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("; HttpOnly"));
    let me = |cookie: &str| {
        let response = server.send(Request::get("/me").with_header("cookie", cookie));
        (response.status().as_u16(), response.text())
    };
    assert_eq!(me(&cookie), (200, "Hello, ada!".into()));
    assert_eq!(me("session=ada").0, 401);
    assert_eq!(server.get("/me").status(), 401);
}

fn events(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    let response = server.get("/events");
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let mut lines =
        BufReader::new(response.into_reader()).lines().map(|line| line.expect("the stream goes on"));
    add(&server, "a", "http://a/");
    assert_eq!(lines.next().as_deref(), Some("event: added"));
    assert_eq!(lines.next().as_deref(), Some("data: a"));
    server.shutdown().graceful();
    assert_eq!(lines.last().as_deref(), Some(""));
}

fn socket(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    add(&server, "a", "http://a/");
    let stream = TcpStream::connect(server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let url = format!("ws://{}/ws", server.addr());
    let (mut socket, _) = tungstenite::client(url, stream).expect("the server answers");
    for (name, url) in [("a", "http://a/"), ("b", "")] {
        socket.send(Message::text(name)).expect("the socket is open");
        assert_eq!(socket.read().expect("an answer"), Message::text(url));
    }
    assert_eq!(server.get("/ws").status(), 426);
}

fn title(backend: Backend) {
    let titles = Router::new()
        .post("/", async |request: Request| request.text().await.map(|url| format!("title of {url}")));
    let titles = TestServer::start(backend, titles).expect("the other service starts");
    let directory = Directory::new();
    let settings = Settings { titles: titles.url(), ..directory.settings() };
    let server = TestServer::start(backend, app(settings)).expect("the server starts");
    add(&server, "a", "http://a/");
    assert_eq!(server.get("/title/a").text(), "title of http://a/");
    assert_eq!(server.get("/title/b").status(), 404);
    titles.stop().expect("the other service ran");
    assert_eq!(server.get("/title/a").status(), 502);
}

fn timeout(backend: Backend) {
    // Nobody accepts its connections.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let titles = format!("http://{}/", silent.local_addr().expect("an address"));
    let directory = Directory::new();
    let settings = Settings { titles, timeout: Duration::from_secs(1), ..directory.settings() };
    let server = TestServer::start(backend, app(settings)).expect("the server starts");
    assert_eq!(server.send(Request::post("/new").with_form(&[("name", "a"), ("url", "b")])).status(), 303);
    // The limit of the server itself answers with 503.
    assert_eq!(server.get("/title/a").status(), 504);
}

fn stop(backend: Backend) {
    let directory = Directory::new();
    let server = directory.start(backend);
    add(&server, "a", "http://a/");
    assert!(!directory.settings().links.exists());
    server.stop().expect("the server ran");
    let server = directory.start(backend);
    assert_eq!(server.get("/go/a").header("location"), Some("http://a/"));
}
