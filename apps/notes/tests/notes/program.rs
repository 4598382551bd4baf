//! The program under test as it is started from a shell, and a peer that asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::signal;
use gearshift::Backend;

/// More than a request waits for the database, so that the program's answer is seen; less than a graceful stop may
/// take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// The program, serving; killed if a test forgets it in its failure.
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
    pub(crate) fn start(backend: &Backend, database: &str) -> Program {
        Program::spawn(&mut command(backend.name(), database))
    }

    pub(crate) fn spawn(command: &mut Command) -> Program {
        let mut process = command.spawn().expect("the program starts");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("listening at") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "it listens");
        }
        let url = line.split(' ').find_map(|word| word.strip_prefix("http://")).expect("the line has a URL");
        let program = Program { process, log, address: url.trim_end_matches('/').to_owned() };
        // It listens before it has opened its database, and serves after.
        assert_eq!(program.get("/style.css").status, 200);
        program
    }

    /// Stops it as a service manager does: all that it holds is to be let go before its patience ends.
    pub(crate) fn stop(mut self) {
        let since = Instant::now();
        signal("-TERM", self.process.id());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("a log in UTF-8");
        assert_eq!(self.process.wait().expect("it was started").code(), Some(0), "{rest}");
        assert!(!rest.contains("panicked"), "{rest}");
        assert!(since.elapsed() < PATIENCE, "it waits for the end of its connections to the database");
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(crate) fn form(&self, path: &str, title: &str, body: &str) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.append_pair("title", title).append_pair("body", body).finish();
        self.ask("POST", path, FORM, &form)
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        Answer::read(self.send(method, path, fields, body))
    }

    pub(crate) fn send(&self, method: &str, path: &str, fields: &str, body: &str) -> TcpStream {
        let mut peer = TcpStream::connect(&self.address).expect("the program listens");
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}");
        write!(peer, "{head}Content-Length: {length}\r\n\r\n{body}").expect("the program reads");
        peer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads an answer that ends with the connection.
    pub(crate) fn read(mut peer: TcpStream) -> Answer {
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A field of the head; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
            .unwrap_or("")
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        assert_eq!(self.field("Content-Type"), "application/json", "{}", self.head);
        serde_json::from_str(&self.body).expect("JSON")
    }
}
