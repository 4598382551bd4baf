//! The program under test, started as from a shell, and a client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::signal;

/// Longer than a request waits for the database, so that the client sees the response; shorter than the grace period
/// of a stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// The program, which serves. Dropping it, as a test that fails does, kills it.
pub(crate) struct Program {
    process: Child,
    log: BufReader<ChildStderr>,
    pub(crate) address: String,
}

pub(crate) fn command(backend: &str, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notes"));
    command.args(["--bind", "127.0.0.1:0", "--backend", backend, "--database", database]);
    command.env_remove("WEB_CONCURRENCY").stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Program {
    pub(crate) fn spawn(command: &mut Command) -> Program {
        let program = Program::listen(command);
        program.wait_until_it_serves();
        program
    }

    /// Starts the program and waits until it listens, which is before it has opened its database.
    pub(crate) fn listen(command: &mut Command) -> Program {
        let mut process = command.spawn().expect("the program starts");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("listening at") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "it listens");
        }
        let url = line.split(' ').find_map(|word| word.strip_prefix("http://")).expect("the line has a URL");
        Program { process, log, address: url.trim_end_matches('/').to_owned() }
    }

    /// Requests are served when the database is open.
    pub(crate) fn wait_until_it_serves(&self) {
        assert_eq!(self.get("/style.css").status, 200);
    }

    /// Closes a connection, and waits until the program has closed its end.
    pub(crate) fn leave(&self, peer: TcpStream) {
        let server: SocketAddr = self.address.parse().expect("an address");
        let client = peer.local_addr().expect("it is connected");
        let ends = format!(":{:04X} 0100007F:{:04X} ", server.port(), client.port());
        // The inode of the program's socket, which is 0 until the program has accepted the connection.
        let socket = wait_for(|| {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
            let inode = table.lines().find(|line| line.contains(&ends))?.split_whitespace().nth(9)?;
            (inode != "0").then(|| format!("socket:[{inode}]"))
        });
        drop(peer);
        wait_for(|| {
            let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs");
            let targets =
                descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok());
            (!targets.into_iter().any(|target| target.as_os_str() == &*socket)).then_some(())
        });
    }

    /// Stops the program as a service manager does. It must end before its grace period does.
    pub(crate) fn stop(mut self) {
        let start = Instant::now();
        signal("-TERM", self.process.id());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("a log in UTF-8");
        assert_eq!(self.process.wait().expect("it was started").code(), Some(0), "{rest}");
        assert!(!rest.contains("panicked"), "{rest}");
        assert!(start.elapsed() < PATIENCE, "it waits for its connections to the database");
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, "", "")
    }

    pub(crate) fn form(&self, path: &str, title: &str, body: &str) -> Response {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.append_pair("title", title).append_pair("body", body).finish();
        self.request("POST", path, FORM, &form)
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &str) -> Response {
        self.request(method, path, "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn request(&self, method: &str, path: &str, fields: &str, body: &str) -> Response {
        Response::read(self.send(method, path, fields, body))
    }

    /// Sends a request without reading the response.
    pub(crate) fn send(&self, method: &str, path: &str, fields: &str, body: &str) -> TcpStream {
        let mut peer = TcpStream::connect(&self.address).expect("the program listens");
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}");
        write!(peer, "{head}Content-Length: {length}\r\n\r\n{body}").expect("the program reads");
        peer
    }
}

/// Calls `look` until it returns something.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "the program accepts and closes a connection");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Reads a response that ends with the connection.
    pub(crate) fn read(mut peer: TcpStream) -> Response {
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("a response in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        Response { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Returns the value of a header field, or an empty string if it is missing.
    pub(crate) fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        values.next().unwrap_or("")
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        assert_eq!(self.field("Content-Type"), "application/json", "{}", self.head);
        serde_json::from_str(&self.body).expect("JSON")
    }
}
