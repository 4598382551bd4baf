//! Compares what TLS costs a server: handshakes, requests, large responses and idle connections.
//!
//! ```console
//! $ cd benches && cargo build --release -p tls && target/release/tls [ROUNDS [NAME=COMMAND...]]
//! ```
//!
//! Without commands it compares gearshift on mio, axum on axum-server, and nginx if it is installed, with one worker
//! each. In a command, `{port}`, `{cert}` and `{key}` stand for what the server has to use, and `{dir}` for a directory
//! that has `nginx.conf`. The server has to answer `/plaintext` and `/large`.
//!
//! One server process runs at a time, on one core, and the client on another, unless there is only one. The rounds are
//! interleaved over the servers. Each figure is the median of the rounds with its range, and all are of the CPU time of
//! the server, from `schedstat`, but the memory, which is the growth of its anonymous memory.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use compare::cores::{self, Cores};
use compare::proc::Usage;
use compare::results::Spread;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::kx_group::X25519;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

type Connection = StreamOwned<ClientConnection, TcpStream>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const DEFAULT_ROUNDS: usize = 5;
const HANDSHAKES: usize = 1_000;
/// Connections that send requests by turns, and the number of their requests.
const BUSY: usize = 16;
const REQUESTS: usize = 20_000;
/// Large responses.
const DOWNLOADS: usize = 5;
const IDLE: usize = 1_000;
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline of each read of the client.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The figures, in the order in which they are measured.
const FIGURES: [&str; 5] = [
    "full handshakes per CPU second",
    "resumed handshakes per CPU second",
    "CPU per request, µs",
    "CPU per 100 MiB, ms",
    "memory per idle connection, KiB",
];

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(DEFAULT_ROUNDS), |rounds| rounds.parse())?.max(1);
    let mut subjects: Vec<(String, String)> = Vec::new();
    for argument in arguments {
        let (name, command) = argument.split_once('=').ok_or("a server is NAME=COMMAND")?;
        subjects.push((name.into(), command.into()));
    }
    if subjects.is_empty() {
        subjects = default_subjects()?;
    }
    let cores = Cores::split()?;
    cores::pin(&cores.generator)?;
    cores::raise_descriptor_limit();
    let identity = Identity::new()?;

    let mut results: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for at in 0..subjects.len() {
            let subject = (at + round) % subjects.len();
            let server = Server::start(&subjects[subject].1, &identity, cores.server[0])?;
            for (figure, value) in measure(&server, &identity)?.into_iter().enumerate() {
                results.entry((figure, subject)).or_default().push(value);
            }
        }
    }
    println!("rounds: {rounds}");
    for (figure, name) in FIGURES.iter().enumerate() {
        println!("{name}");
        for (subject, (name, _)) in subjects.iter().enumerate() {
            let Spread { median, min, max, .. } =
                Spread::of(results.remove(&(figure, subject)).unwrap_or_default());
            println!("  {name:12} {median:10.2} ({min:.2} to {max:.2})");
        }
    }
    Ok(())
}

fn default_subjects() -> Outcome<Vec<(String, String)>> {
    let here = std::env::current_exe()?;
    let program = |name: &str| here.with_file_name(name).display().to_string();
    let flags = "--backend mio --workers 1 --bind 127.0.0.1:{port} --tls-cert {cert} --tls-key {key}";
    let mut subjects = vec![
        ("gearshift".to_owned(), format!("{} {flags} --keep-alive 1m", program("tls-gearshift"))),
        ("axum".to_owned(), format!("{} {{port}} {{cert}} {{key}}", program("tls-axum"))),
    ];
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx"].iter().find(|path| Path::new(path).exists());
    if let Some(nginx) = nginx {
        subjects.push(("nginx".to_owned(), format!("{nginx} -c {{dir}}/nginx.conf -p {{dir}}")));
    }
    Ok(subjects)
}

/// The certificate of the servers, and a directory for their files.
struct Identity {
    directory: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Identity {
    fn new() -> Outcome<Identity> {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("cert.pem"), own.cert.pem())?;
        fs::write(directory.path().join("key.pem"), own.signing_key.serialize_pem())?;
        fs::write(directory.path().join("large"), tls::large())?;
        Ok(Identity { directory, certificate: own.cert.der().clone() })
    }

    /// The settings of a client that resumes sessions, or of one that does not.
    fn client(&self, resumption: Resumption) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let mut provider = default_provider();
        // All servers have this group. Post-quantum groups cost more, and OpenSSL has none before 3.5.
        provider.kx_groups = vec![X25519];
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = resumption;
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(client))
    }

    fn write_nginx_conf(&self, port: u16) -> std::io::Result<()> {
        let directory = self.directory.path().display();
        let conf = format!(
            "daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log; user root;
            events {{ worker_connections 10000; }}
            http {{
                access_log off; keepalive_requests 1000000; sendfile on; ssl_session_tickets on;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
                    location = /plaintext {{ default_type text/plain; return 200 'Hello, World!'; }}
                    location = /large {{ root {directory}; }}
                }}
            }}"
        );
        fs::write(self.directory.path().join("nginx.conf"), conf)
    }
}

/// A server process, which is killed on drop with the processes that it has started.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: &str, identity: &Identity, core: usize) -> Outcome<Server> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        identity.write_nginx_conf(port)?;
        let directory = identity.directory.path().display().to_string();
        let words = command.split_whitespace().map(|word| {
            word.replace("{port}", &port.to_string())
                .replace("{cert}", "{dir}/cert.pem")
                .replace("{key}", "{dir}/key.pem")
                .replace("{dir}", &directory)
        });
        let mut process = Command::new("taskset");
        process.args(["-c", &core.to_string()]).args(words).process_group(0);
        let process = process.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Server { process, address: (Ipv4Addr::LOCALHOST, port).into() };
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(server.address).is_err() {
            if let Some(status) = server.process.try_wait()? {
                return Err(format!("`{command}` has ended: {status}").into());
            }
            if Instant::now() > end {
                return Err(format!("`{command}` does not listen").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn connect(&self, client: &Arc<ClientConfig>) -> Outcome<Connection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        let session = ClientConnection::new(client.clone(), ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(session, socket))
    }

    /// The CPU time so far, in seconds, and the anonymous memory, in KiB. The first process of the group is included:
    /// `taskset` becomes the server.
    fn usage(&self) -> Usage {
        Usage::of_group_with_leader(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.process.id())]).status();
        let _ = self.process.wait();
    }
}

/// Measures all [`FIGURES`].
fn measure(server: &Server, identity: &Identity) -> Outcome<Vec<f64>> {
    let full = identity.client(Resumption::disabled())?;
    let resuming = identity.client(Resumption::in_memory_sessions(8))?;
    let cpu = |act: &mut dyn FnMut() -> Outcome<()>| -> Outcome<f64> {
        let before = server.usage().cpu_seconds();
        act()?;
        Ok(server.usage().cpu_seconds() - before)
    };
    let mut figures = Vec::new();
    for (client, kind) in [(&full, HandshakeKind::Full), (&resuming, HandshakeKind::Resumed)] {
        // The session that is resumed. A server may keep so few that those of full handshakes make it forget others.
        get(&mut server.connect(client)?, "/plaintext")?;
        let used = cpu(&mut || {
            for _ in 0..HANDSHAKES {
                let mut connection = server.connect(client)?;
                get(&mut connection, "/plaintext")?;
                let done = connection.conn.handshake_kind();
                if done != Some(kind) {
                    return Err(format!("a handshake is {done:?} instead of {kind:?}").into());
                }
            }
            Ok(())
        })?;
        figures.push(HANDSHAKES as f64 / used);
    }

    let mut busy: Vec<_> = (0..BUSY).map(|_| server.connect(&full)).collect::<Outcome<_>>()?;
    for connection in &mut busy {
        get(connection, "/plaintext")?;
    }
    let used = cpu(&mut || {
        for _ in 0..REQUESTS / BUSY {
            busy.iter_mut().try_for_each(|connection| ask(connection, "/plaintext"))?;
            busy.iter_mut().try_for_each(answer)?;
        }
        Ok(())
    })?;
    figures.push(used * 1e6 / (REQUESTS / BUSY * BUSY) as f64);

    let mut connection = server.connect(&full)?;
    get(&mut connection, "/plaintext")?;
    let used = cpu(&mut || (0..DOWNLOADS).try_for_each(|_| get(&mut connection, "/large")))?;
    figures.push(used * 1e3 / DOWNLOADS as f64);
    drop((connection, busy));

    let before = server.usage().anonymous_kib;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut connection = server.connect(&full)?;
        get(&mut connection, "/plaintext")?;
        idle.push(connection);
    }
    figures.push(server.usage().anonymous_kib.saturating_sub(before) as f64 / IDLE as f64);
    Ok(figures)
}

fn get(connection: &mut Connection, path: &str) -> Outcome<()> {
    ask(connection, path)?;
    answer(connection)
}

fn ask(connection: &mut Connection, path: &str) -> Outcome<()> {
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    Ok(connection.flush()?)
}

/// Reads a response, which has to be one of success with a length.
fn answer(connection: &mut Connection) -> Outcome<()> {
    let mut room = vec![0; 64 << 10];
    let mut head = Vec::new();
    let (end, length) = loop {
        let n = connection.read(&mut room)?;
        if n == 0 {
            return Err(Box::new(std::io::Error::from(ErrorKind::UnexpectedEof)));
        }
        head.extend_from_slice(&room[..n]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = std::str::from_utf8(&head[..end])?.to_ascii_lowercase();
            let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.ok_or("a response has no length")?.trim().parse()?;
            if !text.starts_with("http/1.1 200") {
                return Err(text.into());
            }
            break (end + 4, length);
        }
    };
    let mut received = head.len() - end;
    while received < length {
        match connection.read(&mut room)? {
            0 => return Err(Box::new(std::io::Error::from(ErrorKind::UnexpectedEof))),
            n => received += n,
        }
    }
    Ok(())
}
