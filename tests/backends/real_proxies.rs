//! nginx and HAProxy in front of a server, with the configurations in `deploy/`. Tests whose proxy is not
//! installed are skipped and say so; with `REQUIRE_PROXIES` in the environment they fail.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use gearshift::{Backend, Config};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::program::inheriting;
use test_support::server::Running;
use test_support::suite::Area;

use crate::proxies::app;

pub(crate) const AREA: Area = (
    "real_proxies",
    &[
        ("nginx_tells_the_client_in_fields", nginx),
        ("nginx_tells_the_peer_in_a_proxy_header", nginx_bytes),
        ("haproxy_tells_the_client_in_fields", haproxy),
        ("haproxy_tells_the_peer_in_a_proxy_header", haproxy_bytes),
    ],
);

/// A running proxy. It is ended when this is dropped.
struct Proxy {
    process: Child,
    directory: PathBuf,
    addr: SocketAddr,
}

impl Proxy {
    /// Starts a proxy that inherits its listening socket as descriptor 3. `configure` returns its configuration for the
    /// address of the socket, and the proxy must find it valid with the flag `check`. Returns `None` if the program is
    /// not installed.
    fn start(
        name: &str,
        args: &[&str],
        check: &str,
        configure: impl FnOnce(SocketAddr) -> String,
    ) -> Option<Proxy> {
        static PROXIES: AtomicUsize = AtomicUsize::new(0);
        let installed = Command::new(name).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if installed.is_err() {
            assert!(std::env::var_os("REQUIRE_PROXIES").is_none(), "{name} is not installed");
            eprintln!("skipped: {name} is not installed");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let nth = PROXIES.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("gearshift-{}-proxy-{nth}", std::process::id()));
        fs::create_dir(&directory).expect("a directory for temporary files");
        let file = directory.join("proxy.conf");
        fs::write(&file, configure(addr)).expect("the directory is new");
        let mut command = Command::new(name);
        command.args(args).arg(&file).env("NGINX", "3;");
        let listener: OwnedFd = listener.into();
        let again = listener.try_clone().expect("a descriptor is free");
        let mut checking = inheriting(&command, again);
        let checked = checking.arg(check).current_dir(&directory).output().expect("it is installed");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{name} refuses its configuration: {said}");
        assert!(!said.contains("[warn") && !said.contains("[WARNING]"), "{name} warns: {said}");
        let mut command = inheriting(&command, listener);
        let process = command.current_dir(&directory).stderr(Stdio::null()).spawn().expect("it is installed");
        Some(Proxy { process, directory, addr })
    }

    /// Connects from an address that is not the one of the proxy.
    fn client(&self) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 5], 0)).into())
            .expect("an address of the loopback network");
        socket.connect(&self.addr.into()).expect("the socket listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
        Client::new(TcpStream::from(socket))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A signal that nginx handles, because another process of nginx has the connections.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A file of `deploy/`, with the address of the server in place of those of both instances.
fn deployed(path: &str, server: &Running) -> String {
    let path = format!("{}/deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("the file is there");
    let addr = server.addr().to_string();
    let replaced = text.replace("127.0.0.1:8001", &addr).replace("127.0.0.1:8002", &addr);
    assert_eq!(replaced.matches(&addr).count(), 2, "{text}");
    replaced
}

fn start_nginx(path: &str, context: &str, server: &Running) -> Option<Proxy> {
    const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let mut module = String::new();
    if context == "stream" {
        if !PathBuf::from(STREAM).exists() {
            assert!(
                std::env::var_os("REQUIRE_PROXIES").is_none(),
                "the stream module of nginx is not installed"
            );
            eprintln!("skipped: the stream module of nginx is not installed");
            return None;
        }
        module = format!("load_module {STREAM};");
    }
    Proxy::start("nginx", &["-p", ".", "-e", "error.log", "-c"], "-t", |addr| {
        let block = deployed(path, server).replace("listen 80;", &format!("listen {addr};"));
        let paths = match context {
            "http" => {
                "access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; \
                 scgi_temp_path s;"
            }
            _ => "",
        };
        format!("{module} daemon off; pid pid; events {{}}\n{context} {{ {paths}\n{block}\n}}\n")
    })
}

fn start_haproxy(path: &str, sends: &str, server: &Running) -> Option<Proxy> {
    Proxy::start("haproxy", &["-db", "-f"], "-c", |_| {
        deployed(path, server).replace("bind :80", "bind fd@3").replace("send-proxy-v2-ssl", sends)
    })
}

fn server(backend: Backend, change: fn(&mut Config)) -> Running {
    let mut config = few_workers(backend);
    change(&mut config);
    Running::start(backend, config, |_| app())
}

/// Checks what a proxy that forwards requests tells about its client.
fn check_fields(proxy: Option<Proxy>) {
    let Some(proxy) = proxy else { return };
    let mut client = proxy.client();
    for fields in [
        "",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "X-Forwarded-For: nonsense\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\n",
        "Forwarded: for=192.0.2.1;proto=https;host=other\r\n",
    ] {
        for path in ["/", "/service"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: example.com:99\r\n{fields}\r\n"));
            assert_eq!(client.answer().said(), (200, "127.0.0.5 - http example.com:99".into()), "{fields}");
        }
    }
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().said(), (200, "abc".into()));
}

/// Checks what a proxy that forwards bytes tells about its client.
fn check_header(proxy: Option<Proxy>) {
    let Some(proxy) = proxy else { return };
    for _ in 0..3 {
        let mut client = proxy.client();
        let own = client.socket.local_addr().expect("a connected socket has an address");
        for _ in 0..2 {
            assert_eq!(client.get("/peer").said(), (200, own.to_string()));
            assert_eq!(client.get("/").said(), (200, format!("127.0.0.5 {} http test", own.port())));
        }
    }
}

fn trust(config: &mut Config) {
    config.forwarded_from = "127.0.0.1".parse().expect("networks");
}

fn expect_header(config: &mut Config) {
    config.proxy_protocol_from = "127.0.0.1".parse().expect("networks");
}

fn nginx(backend: Backend) {
    let server = server(backend, trust);
    check_fields(start_nginx("nginx/app.conf", "http", &server));
}

fn nginx_bytes(backend: Backend) {
    let server = server(backend, expect_header);
    check_header(start_nginx("nginx/app-stream.conf", "stream", &server));
}

fn haproxy(backend: Backend) {
    let server = server(backend, trust);
    check_fields(start_haproxy("haproxy/haproxy.cfg", "", &server));
}

fn haproxy_bytes(backend: Backend) {
    let server = server(backend, expect_header);
    for sends in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"] {
        check_header(start_haproxy("haproxy/haproxy-tcp.cfg", sends, &server));
    }
}
