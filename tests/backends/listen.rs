//! Listening addresses: ports in use, several addresses, and Unix sockets.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use gearshift::{Backend, Bind, Config, Endpoint, Request, ServeError, Server, Shutdown, TestServer, sync};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{getegid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::program::{self, Program};
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "listen",
    &[
        ("refuses_a_port_that_another_server_has", port_in_use),
        ("gives_a_port_back_when_it_stops", port_again),
        ("serves_a_unix_socket_and_removes_it", unix_socket),
        ("refuses_a_unix_socket_that_another_server_has", unix_socket_in_use),
        ("a_file_that_is_not_a_socket_is_left_alone", not_a_socket),
        ("only_a_dead_socket_is_replaced", dead_socket),
        ("a_forced_stop_ends_the_listeners_too", forced_stops),
        ("a_socket_whose_backlog_is_full_is_in_use", full_backlog),
        ("the_socket_of_a_successor_survives_a_stop", successor),
        ("the_permissions_of_a_unix_socket_are_settings", permissions),
        ("serves_inherited_sockets_and_passes_them_to_nobody", inherited),
        ("refuses_a_descriptor_that_does_not_listen", not_listening),
        ("leaves_a_socket_of_this_process_to_its_owner", of_this_process),
        ("serves_all_its_addresses", several),
        ("serves_all_addresses_of_a_name", name),
        ("serves_ipv4_and_ipv6_at_all_addresses", dual_stack),
        ("serves_ipv4_and_ipv6_on_two_sockets", two_sockets),
    ],
);

fn bind(address: &str) -> Result<Server, ServeError> {
    Server::bind(&[address.parse().expect("an address")], Config::default())
}

fn expect_in_use(bound: Result<Server, ServeError>, address: &str) {
    match bound {
        Err(ServeError::Bind { address: said, source }) => {
            assert_eq!((said.as_str(), source.kind()), (address, io::ErrorKind::AddrInUse));
        }
        other => panic!("{address} is in use, but {other:?}"),
    }
}

fn port_in_use(backend: Backend) {
    let mut config = Config::default();
    config.workers = Some(3);
    // Workers of one server share a port, but no other server may have it.
    let config = if backend.check(&config).is_ok() { config } else { few_workers(backend) };
    let server = Running::start(backend, config, |_| demo::app());
    let address = server.addr().to_string();
    for _ in 0..3 {
        expect_in_use(bind(&address), &address);
    }
    for _ in 0..20 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = foreign.local_addr().expect("the listener is bound").to_string();
    expect_in_use(bind(&address), &address);
}

fn port_again(backend: Backend) {
    let server = Running::demo(backend);
    let address = server.addr();
    let mut client = server.client();
    assert_eq!(client.get("/plaintext").status, 200);
    server.stop();
    client.expect_end();
    let again = bind(&address.to_string()).expect("the port is free again");
    let shutdown = again.shutdown();
    let thread = thread::spawn(move || backend.serve(again, demo::app()));
    assert_eq!(Client::connect(address).get("/plaintext").status, 200);
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
}

/// A path that no file has.
pub(crate) fn free_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("gearshift-test-{}-{number}", std::process::id()))
}

pub(crate) fn unix_client(path: &PathBuf) -> Client<UnixStream> {
    let socket = UnixStream::connect(path).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    Client::new(socket)
}

fn unix_socket(backend: Backend) {
    let path = free_path();
    let server = bind(&format!("unix:{}", path.display())).expect("the path is free");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    let mut clients: Vec<_> = (0..20).map(|_| unix_client(&path)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/plaintext").text(), "Hello, World!");
        assert_eq!(client.get("/stream/2").text(), "chunk 0\nchunk 1\n");
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
        client.send("llo");
        assert_eq!(client.answer().text(), "hello");
    }
    shutdown.graceful();
    clients.iter_mut().for_each(Client::expect_end);
    thread.join().expect("the server does not panic").expect("the server ends without an error");
    assert!(!path.exists(), "the socket file is gone");
}

fn unix_socket_in_use(backend: Backend) {
    let path = free_path();
    let address = format!("unix:{}", path.display());
    let server = bind(&address).expect("the path is free");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    expect_in_use(bind(&address), &address);
    assert_eq!(unix_client(&path).get("/plaintext").status, 200, "the first server keeps its socket file");
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
}

/// Binds the address `unix:PATH`.
fn bind_path(path: &Path) -> Result<Server, ServeError> {
    Server::bind(&[Bind::Unix(path.to_owned())], Config::default())
}

fn expect_kind(bound: Result<Server, ServeError>, kind: io::ErrorKind) {
    match bound {
        Err(ServeError::Bind { source, .. }) => assert_eq!(source.kind(), kind, "{source}"),
        other => panic!("not an error: {other:?}"),
    }
}

fn not_a_socket(backend: Backend) {
    let path = free_path();
    fs::write(&path, "kept").expect("a file in the folder for temporary files");
    let address = format!("unix:{}", path.display());
    let (status, log) = program::run(backend, &["--bind", &address]);
    assert_eq!(status, Some(3), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains(&address), "{log}");
    assert_eq!(fs::read_to_string(&path).expect("the file is still there"), "kept");
    fs::remove_file(&path).expect("it can be removed");

    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe with a name");
    expect_kind(bind_path(&path), io::ErrorKind::AlreadyExists);
    assert!(fs::symlink_metadata(&path).expect("it is still there").file_type().is_fifo());
    fs::remove_file(&path).expect("it can be removed");

    let dead = free_path();
    drop(UnixListener::bind(&dead).expect("the path is free"));
    symlink(&dead, &path).expect("a link");
    expect_kind(bind_path(&path), io::ErrorKind::AlreadyExists);
    assert!(fs::symlink_metadata(&path).expect("it is still there").is_symlink());
    fs::remove_file(&path).expect("it can be removed");
    fs::remove_file(&dead).expect("it can be removed");
}

fn dead_socket(backend: Backend) {
    let path = free_path();
    drop(UnixListener::bind(&path).expect("the path is free"));
    let server = bind_path(&path).expect("nobody listens on the socket");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    assert_eq!(unix_client(&path).get("/plaintext").status, 200);
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
    assert!(!path.exists(), "the socket file is gone");
}

fn forced_stops(backend: Backend) {
    let path = free_path();
    for round in 0..30 {
        let server =
            Server::bind(&[Bind::Unix(path.clone())], few_workers(backend)).expect("the path is free");
        let shutdown = server.shutdown();
        let thread = thread::spawn(move || backend.serve(server, demo::app()));
        assert_eq!(unix_client(&path).get("/plaintext").status, 200);
        shutdown.force();
        thread.join().expect("the server does not panic").expect("the server ends without an error");
        assert!(!path.exists(), "the socket file is left in round {round}");
    }
}

fn full_backlog(_: Backend) {
    let path = free_path();
    let address = SockAddr::unix(&path).expect("a short path");
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.bind(&address).expect("the path is free");
    listener.listen(1).expect("it is bound");
    let mut waiting = Vec::new();
    loop {
        let client = socket();
        client.set_nonblocking(true).expect("a socket has this option");
        match client.connect(&address) {
            Ok(()) => waiting.push(client),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("not a full backlog: {error}"),
        }
    }
    let (sender, bound) = mpsc::channel();
    let taken = path.clone();
    thread::spawn(move || _ = sender.send(bind_path(&taken)));
    expect_kind(bound.recv_timeout(PATIENCE).expect("the attempt ends"), io::ErrorKind::AddrInUse);
    assert!(path.exists(), "the socket keeps its file");
    fs::remove_file(&path).expect("it can be removed");
}

fn successor(backend: Backend) {
    let path = free_path();
    let server = bind_path(&path).expect("the path is free");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    assert_eq!(unix_client(&path).get("/plaintext").status, 200);
    fs::remove_file(&path).expect("it can be removed");
    let successor = UnixListener::bind(&path).expect("the path is free");
    shutdown.graceful();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
    let mut client = UnixStream::connect(&path).expect("the successor listens");
    let (mut accepted, _) = successor.accept().expect("a connection");
    client.write_all(b"x").expect("the successor has the connection");
    accepted.read_exact(&mut [0; 1]).expect("the successor has the connection");
    fs::remove_file(&path).expect("it can be removed");
}

fn permissions(backend: Backend) {
    // Only a privileged process can give a file away.
    let (user, group) = match geteuid().is_root() {
        true => (1234, 1235),
        false => (geteuid().as_raw(), getegid().as_raw()),
    };
    let path = free_path();
    let mut config = few_workers(backend);
    (config.unix_mode, config.unix_user, config.unix_group) = (Some(0o640), Some(user), Some(group));
    let server = Server::bind(&[Bind::Unix(path.clone())], config).expect("the path is free");
    let file = fs::symlink_metadata(&path).expect("the socket has a file");
    assert_eq!((file.mode() & 0o777, file.uid(), file.gid()), (0o640, user, group));
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    assert_eq!(unix_client(&path).get("/plaintext").status, 200);
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
}

fn inherited(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Program::start_inheriting(backend, &["--bind", "fd://3"], listener.into());
    assert_eq!(Client::connect(address).get("/plaintext").status, 200);
    assert_eq!(server.client().get("/plaintext").status, 200);
    assert_eq!(server.stats().inheritable_sockets(), 0);
    drop(server);

    let path = free_path();
    let listener = UnixListener::bind(&path).expect("the path is free");
    let server = Program::start_inheriting(backend, &["--bind", "fd://3"], listener.into());
    assert_eq!(unix_client(&path).get("/plaintext").status, 200);
    assert_eq!(server.stats().inheritable_sockets(), 0);
    assert!(path.exists(), "the file belongs to the parent");
    fs::remove_file(&path).expect("it can be removed");
}

fn not_listening(backend: Backend) {
    let file = File::open("/dev/null").expect("this file exists").into();
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port").into();
    for descriptor in [file, bound.into(), datagrams] {
        let (status, log) = program::run_inheriting(backend, &["--bind", "fd://3"], descriptor);
        assert_eq!((status, log.lines().count()), (Some(3), 1), "{log}");
        assert!(log.contains("fd://3"), "{log}");
    }
    let (status, log) = program::run(backend, &["--bind", "fd://999"]);
    assert_eq!((status, log.lines().count()), (Some(3), 1), "{log}");
    assert!(log.contains("fd://999"), "{log}");
}

fn of_this_process(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let number = u16::try_from(listener.as_raw_fd()).expect("few descriptors are open");
    let server = Server::bind(&[Bind::Fd(number)], few_workers(backend)).expect("it listens");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    assert_eq!(Client::connect(address).get("/plaintext").status, 200);
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
    assert_eq!(listener.local_addr().expect("it is still open"), address);
}

/// The TCP addresses of a server, and a thread that serves the address of its peers at `/`.
fn serve_peers(backend: Backend, server: Server) -> (Vec<SocketAddr>, Shutdown) {
    let tcp = |endpoint: &Endpoint| match endpoint {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(path) => panic!("{} is no TCP address", path.display()),
    };
    let (addresses, shutdown) = (server.endpoints().map(tcp).collect(), server.shutdown());
    let peer = |request: Request| request.peer().map(|peer| peer.ip().to_string());
    thread::spawn(move || backend.serve(server, one(sync(peer))));
    (addresses, shutdown)
}

fn bind_few(backend: Backend, binds: &[&str]) -> Server {
    let binds: Vec<Bind> = binds.iter().map(|bind| bind.parse().expect("an address")).collect();
    Server::bind(&binds, few_workers(backend)).expect("the addresses are free")
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

fn name(backend: Backend) {
    let (addresses, shutdown) = serve_peers(backend, bind_few(backend, &["localhost:0"]));
    let port = addresses[0].port();
    let known = ("localhost", port).to_socket_addrs().expect("each system has this name");
    let mut known: Vec<_> = known.filter(|address| address.is_ipv4() || has_ipv6()).collect();
    known.dedup();
    assert_eq!(addresses, known);
    for address in addresses {
        assert_eq!(Client::connect(address).get("/").said(), (200, address.ip().to_string()));
    }
    shutdown.force();
}

fn dual_stack(backend: Backend) {
    if !has_ipv6() {
        return;
    }
    let (addresses, shutdown) = serve_peers(backend, bind_few(backend, &["[::]:0"]));
    assert_eq!(addresses.len(), 1);
    for ip in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(ip.parse().expect("an address"), addresses[0].port());
        assert_eq!(Client::connect(address).get("/").said(), (200, ip.to_owned()));
    }
    shutdown.force();
}

/// Binds two addresses to a port that is free. A port that was free may be taken by another test.
fn bind_to_one_port(backend: Backend, ips: [&str; 2]) -> Server {
    let mut bound = None;
    wait_until("a port is free", || {
        let free = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let binds = ips.map(|ip| Bind::Tcp(format!("{ip}:{port}")));
        bound = Server::bind(&binds, few_workers(backend)).ok();
        bound.is_some()
    });
    bound.expect("the wait is over")
}

fn two_sockets(backend: Backend) {
    if !has_ipv6() {
        return;
    }
    for ips in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["127.0.0.1", "[::]"]] {
        let (addresses, shutdown) = serve_peers(backend, bind_to_one_port(backend, ips));
        assert_eq!(addresses.len(), 2);
        for ip in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(ip.parse().expect("an address"), addresses[0].port());
            assert_eq!(Client::connect(address).get("/").said(), (200, ip.to_owned()));
        }
        shutdown.force();
    }
}

fn several(backend: Backend) {
    let path = free_path();
    let any_port = || Bind::Tcp("127.0.0.1:0".into());
    let binds = [any_port(), Bind::Unix(path.clone()), any_port()];
    let server = Server::bind(&binds, few_workers(backend)).expect("the addresses are free");
    let addresses: Vec<_> = server
        .endpoints()
        .filter_map(|endpoint| match endpoint {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) => None,
        })
        .collect();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0], addresses[1]);
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, demo::app()));
    for address in addresses {
        assert_eq!(Client::connect(address).get("/plaintext").status, 200);
    }
    assert_eq!(unix_client(&path).get("/plaintext").status, 200);
    // A second server in the same process is independent of the first.
    let other = TestServer::start(backend, demo::app()).expect("a process can have two servers");
    assert_eq!(Client::connect(other.addr()).get("/plaintext").status, 200);
    other.shutdown().force();
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
}
