//! Two instances behind HAProxy, with the configuration in `deploy/`. Each is restarted in turn under load.
//!
//! Without HAProxy the test is skipped and says so; with `REQUIRE_PROXIES` in the environment it fails.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use gearshift::Backend;
use rustix::process::{Pid, Signal, kill_process};
use test_support::program::inheriting;
use test_support::wait_until;

use crate::folder::Folder;
use crate::load::Load;
use crate::supervisor::Supervisor;

/// A running HAProxy. It is ended when this is dropped.
struct Proxy {
    process: Child,
    folder: Folder,
    addr: SocketAddr,
}

impl Proxy {
    /// Starts HAProxy in front of two servers. Returns `None` if it is not installed.
    fn start(servers: [SocketAddr; 2]) -> Option<Proxy> {
        let installed =
            Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if installed.is_err() {
            assert!(std::env::var_os("REQUIRE_PROXIES").is_none(), "haproxy is not installed");
            eprintln!("skipped: haproxy is not installed");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let folder = Folder::new();
        let file = folder.path("haproxy.cfg");
        let stats = folder.path("stats");
        let configuration = deployed()
            .replace("global\n", &format!("global\n    stats socket {}\n", stats.display()))
            .replace("bind :80", "bind fd@3")
            .replace("127.0.0.1:8001", &servers[0].to_string())
            .replace("127.0.0.1:8002", &servers[1].to_string());
        fs::write(&file, configuration).expect("the folder is ours");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        let mut command = inheriting(&command, listener.into());
        let process = command.stderr(Stdio::null()).spawn().expect("it is installed");
        let proxy = Proxy { process, folder, addr };
        wait_until("HAProxy runs", || stats.exists());
        Some(proxy)
    }

    /// Waits until HAProxy has found the state of a server.
    fn expect_state(&self, server: &str, state: &str) {
        let is_so = || {
            let Ok(mut socket) = UnixStream::connect(self.folder.path("stats")) else { return false };
            let mut answer = String::new();
            if socket.write_all(b"show stat\n").is_err() || socket.read_to_string(&mut answer).is_err() {
                return false;
            }
            let line = answer.lines().find(|line| line.starts_with(&format!("app,{server},")));
            line.is_some_and(|line| line.contains(&format!(",{state},")))
        };
        wait_until(&format!("{server} is {state}"), is_so);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// The configuration.
fn deployed() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy/haproxy.cfg");
    let text = fs::read_to_string(path).expect("the configuration");
    for part in ["global\n", "bind :80\n", " uri /readyz ", "app1 127.0.0.1:8001\n", "app2 127.0.0.1:8002\n"]
    {
        assert!(text.contains(part), "{path} has no {part:?}");
    }
    text
}

/// An address that no other process uses: its host is one of the loopback network that this process has chosen.
fn free_address() -> SocketAddr {
    let id = std::process::id();
    let host = [127, 2, (id >> 8) as u8, id as u8];
    let listener = TcpListener::bind(SocketAddr::from((host, 0))).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// Restarts two instances `rounds` times under load. The first one answers one more request on each idle connection.
/// The second one, which has several processes, is not ready any more for a while before it stops.
pub(crate) fn restarts(backend: Backend, rounds: usize) {
    let addresses = [free_address(), free_address()];
    let start = |at: SocketAddr| {
        let bind = at.to_string();
        let common = ["--bind", &bind, "--forwarded-allow-ips", "127.0.0.1", "--keep-alive", "75s"];
        let stop = match at == addresses[0] {
            true => ["--drain-idle", "wait"].as_slice(),
            false => &["--processes", "2", "--drain-delay", "2s", "--drain-idle", "close"],
        };
        Supervisor::start(backend, &[&common[..], stop].concat())
    };
    let mut servers = addresses.map(start);
    let Some(proxy) = Proxy::start(addresses) else { return };
    ["app1", "app2"].into_iter().for_each(|name| proxy.expect_state(name, "UP"));
    let load = Load::start(proxy.addr);
    for _ in 0..rounds {
        for (nth, name) in ["app1", "app2"].into_iter().enumerate() {
            servers[nth].signal(Signal::TERM);
            proxy.expect_state(name, "DOWN");
            assert_eq!(servers[nth].status_within_grace(), Some(0), "{}", servers[nth].log());
            servers[nth] = start(addresses[nth]);
            proxy.expect_state(name, "UP");
        }
    }
    let (sent, failed) = load.stop();
    println!("{backend}: {} restarts, {sent} requests, {} failed", 2 * rounds, failed.len());
    assert!(failed.is_empty(), "{backend}: {} of {sent} have failed: {failed:#?}", failed.len());
    for server in &mut servers {
        server.signal(Signal::TERM);
        server.signal(Signal::TERM);
    }
}
