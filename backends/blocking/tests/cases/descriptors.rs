//! Running out of descriptors; a test program of its own, as the whole process does.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

use super::rig::{GET, PATIENCE, Running, get, response, rest};
use super::settings;

/// How long to look at what the server does with nothing to do it with.
const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn running_out_of_descriptors_neither_ends_nor_spins_the_server_nor_loses_anybody() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: hard }).unwrap();
    let mut config = settings();
    config.graceful_timeout = PATIENCE;
    config.keep_alive = 10 * PATIENCE;
    let server = Running::hello(config);
    let mut before = server.client();
    assert_eq!(get(&mut before).0, 200);

    let (mut waiting, hold) = (clients(5), exhaust());
    knock(&server, &mut waiting);
    let began = cpu();
    thread::sleep(WINDOW);
    let used = cpu() - began;
    assert!(used < WINDOW / 8, "it spins: {used:?}");
    assert_eq!(get(&mut before).0, 200, "who is in is served");
    drop(hold);
    waiting.iter_mut().for_each(|client| assert_eq!(response(client).0, 200));
    assert_eq!(get(&mut server.client()).0, 200);

    let (mut waiting, hold) = (clients(5), exhaust());
    knock(&server, &mut waiting);
    assert_eq!(get(&mut before).0, 200, "it has seen them, for some");
    server.shutdown.graceful();
    assert_eq!(rest(&mut before), "");
    drop(hold);
    waiting.iter_mut().for_each(|client| assert_eq!(response(client).0, 200));
    server.ended_gracefully();
}

/// Sockets that are not yet connected, but will need no further descriptor for that.
fn clients(n: usize) -> Vec<TcpStream> {
    (0..n)
        .map(|_| {
            let client = TcpStream::from(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
        .collect()
}

fn knock(server: &Running, clients: &mut [TcpStream]) {
    for client in clients {
        socket2::SockRef::from(&*client).connect(&server.address().into()).unwrap();
        client.write_all(GET).unwrap();
    }
}

/// All descriptors that are left.
fn exhaust() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// What this process has used up.
fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}
