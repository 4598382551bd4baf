//! The program as a service of systemd: it gets its sockets, and sends messages.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gearshift::Backend;

const PATIENCE: Duration = Duration::from_secs(60);

/// Moves standard output to descriptor 3 and standard input to descriptor 4, as systemd passes sockets on.
const AS_SERVICE: &str = r#"export LISTEN_PID=$$; exec "$@" 3>&1 4<&0 1>/dev/null 0</dev/null"#;

/// The command that starts the program as a service with one or two sockets.
fn service(flags: &[&str], first: OwnedFd, second: Option<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", AS_SERVICE, "sh", env!("CARGO_BIN_EXE_demo")]).args(flags);
    command.env_remove("WEB_CONCURRENCY").env("LISTEN_FDS", if second.is_some() { "2" } else { "1" });
    command.stdin(second.map_or_else(Stdio::null, Stdio::from)).stdout(first).stderr(Stdio::piped());
    command
}

/// A running program. It is killed when this is dropped.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> (Program, BufReader<ChildStderr>) {
        let mut child = command.spawn().expect("the program starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        (Program(child), log)
    }

    fn stop(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(killed.expect("there is a kill command").success());
    }

    fn status(&mut self) -> Option<i32> {
        self.0.wait().expect("it was started").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A path that no other test uses.
fn free_path(name: &str) -> PathBuf {
    static PATHS: AtomicUsize = AtomicUsize::new(0);
    let nth = PATHS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("gearshift-{}-{name}-{nth}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// The lines of the log up to the last of `n` addresses.
fn addresses(log: &mut impl BufRead, n: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < n {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "{found:?}");
        if let Some((_, address)) = line.split_once("listening at ") {
            found.push(address.split(' ').next().expect("a split has a first part").to_owned());
        }
    }
    found
}

fn expect_served(mut peer: impl Read + Write) {
    peer.write_all(b"GET /plaintext HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer in UTF-8");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("Hello, World!"), "{answer}");
}

#[test]
fn serves_the_sockets_that_systemd_passes_on() {
    for backend in Backend::available() {
        for flags in [&[][..], &["--bind", "systemd"], &["--bind", "systemd:web,systemd:admin"]] {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = tcp.local_addr().expect("it is bound");
            let path = free_path("socket");
            let unix = UnixListener::bind(&path).expect("the path is free");
            let flags = [&["--backend", backend.name()], flags].concat();
            let mut command = service(&flags, tcp.into(), Some(unix.into()));
            let (mut program, mut log) = Program::start(command.env("LISTEN_FDNAMES", "web:admin"));
            // The listening sockets of the test would accept connections after the end of the program.
            drop(command);
            let expected = [format!("http://{address}"), format!("unix:{}", path.display())];
            assert_eq!(addresses(&mut log, 2), expected, "{backend} {flags:?}");
            expect_served(TcpStream::connect(address).expect("it listens"));
            expect_served(UnixStream::connect(&path).expect("it listens"));
            program.stop();
            assert_eq!(program.status(), Some(0), "{backend}");
            fs::remove_file(&path).expect("the file belongs to systemd");
        }
    }
}

#[test]
fn one_of_the_sockets_is_selected_by_its_name() {
    let (web, admin) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let (web, admin) = (web.expect("a free port"), admin.expect("a free port"));
    let address = admin.local_addr().expect("it is bound");
    let mut command = service(&["--bind", "systemd:admin"], web.into(), Some(admin.into()));
    let (_program, mut log) = Program::start(command.env("LISTEN_FDNAMES", "web:admin"));
    assert_eq!(addresses(&mut log, 1), [format!("http://{address}")]);
    expect_served(TcpStream::connect(address).expect("it listens"));
}

#[test]
fn sockets_that_are_missing_are_one_line() {
    let refused = |command: &mut Command, what: &str| {
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{said}");
        assert!(said.contains(what), "{said}");
    };
    let mut plain = Command::new(env!("CARGO_BIN_EXE_demo"));
    plain.args(["--bind", "systemd"]).stderr(Stdio::piped());
    refused(&mut plain, "cannot listen on systemd: systemd passes no sockets on");
    // The variables are those of another process.
    refused(plain.env("LISTEN_PID", "1").env("LISTEN_FDS", "1"), "cannot listen on systemd: ");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut named = service(&["--bind", "systemd:admin"], listener.into(), None);
    refused(named.env("LISTEN_FDNAMES", "web"), "cannot listen on systemd:admin: ");
}

/// The messages that a program sends.
struct Messages(UnixDatagram, PathBuf);

impl Messages {
    fn new() -> Messages {
        let path = free_path("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
        Messages(socket, path)
    }

    fn next(&self) -> String {
        let mut message = [0; 100];
        let len = self.0.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len]).trim_end().to_owned()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1);
    }
}

#[test]
fn tells_systemd_that_it_is_ready_and_that_it_stops() {
    for backend in Backend::available() {
        let messages = Messages::new();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        let mut command = service(&["--backend", backend.name()], tcp.into(), None);
        let (mut program, _log) = Program::start(command.env("NOTIFY_SOCKET", &messages.1));
        assert_eq!(messages.next(), "READY=1", "{backend}");
        expect_served(TcpStream::connect(address).expect("it listens"));
        program.stop();
        assert_eq!(messages.next(), "STOPPING=1", "{backend}");
        assert_eq!(program.status(), Some(0), "{backend}");
        messages.0.set_nonblocking(true).expect("it is a socket");
        assert!(messages.0.recv(&mut [0; 1]).is_err(), "{backend}: no message is sent twice");
    }
}

#[test]
fn sends_the_messages_of_the_watchdog_until_it_stops() {
    for backend in Backend::available() {
        let messages = Messages::new();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut command = service(&["--backend", backend.name()], tcp.into(), None);
        command.env("NOTIFY_SOCKET", &messages.1).env("WATCHDOG_USEC", "200000");
        let (mut program, _log) = Program::start(&mut command);
        assert_eq!(messages.next(), "READY=1", "{backend}");
        for _ in 0..3 {
            assert_eq!(messages.next(), "WATCHDOG=1", "{backend}");
        }
        program.stop();
        let last = std::iter::repeat_with(|| messages.next()).find(|message| message != "WATCHDOG=1");
        assert_eq!(last.as_deref(), Some("STOPPING=1"), "{backend}");
        assert_eq!(program.status(), Some(0), "{backend}");
    }
}
