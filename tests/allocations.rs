//! A request on a sync route allocates nothing on the preferred backend once the connection is warm, and almost nothing
//! on the others. This is a separate program, because it counts the allocations of the whole process.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use gearshift::{Backend, Config, TestServer};
use libtest_mimic::{Arguments, Trial};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests before the count begins: buffers and pools get their sizes.
const WARM_UP: usize = 500;
/// Requests that are counted.
const COUNTED: usize = 2000;
/// How often they are counted at most. An executor that moves tasks between threads may bring the connection to a
/// thread that has no buffers yet; a request that allocates does so in each count.
const COUNTS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Only what one test does is to be counted.
    arguments.test_threads = Some(1);
    let trials = Backend::available()
        .iter()
        .flat_map(|&backend| {
            let trial = |name: &str, request: &'static [u8], answers| {
                Trial::test(format!("{backend}::{name}"), move || {
                    expect_few(backend, request, answers);
                    Ok(())
                })
            };
            [
                trial("a_keep_alive_request_allocates_almost_nothing", GET, 1),
                trial("an_echo_of_a_small_body_allocates_almost_nothing", POST, 1),
                trial("pipelined_requests_allocate_almost_nothing", PIPELINED, 16),
            ]
        })
        .chain([Trial::test("the_count_counts", || {
            let region = Region::new(ALLOCATOR);
            drop(std::hint::black_box(Box::new(1_u64)));
            assert_eq!(region.change().allocations, 1);
            Ok(())
        })])
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: test\r\nAccept: */*\r\nUser-Agent: test\r\n\r\n";
const POST: &[u8] = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 13\r\n\r\nHello, World!";
const PIPELINED: &[u8] = &repeated::<{ GET.len() * 16 }>(GET);

const fn repeated<const N: usize>(once: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    let mut at = 0;
    while at < N {
        all[at] = once[at % once.len()];
        at += 1;
    }
    all
}

/// The number of allocations that [`COUNTED`] turns of a connection may take.
///
/// A queue of tasks allocates a block for every 31 tasks. Where threads block, a turn also allocates what its handler
/// shares with the connection.
fn allowed(backend: Backend) -> usize {
    let is_preferred = Backend::default().is_some_and(|preferred| preferred.name() == backend.name());
    let in_queues = if is_preferred { 0 } else { COUNTED / 16 };
    let in_turns = if backend.threads_block() { COUNTED } else { 0 };
    in_queues + in_turns
}

/// Settings with one thread, so that all requests find the buffers that the warm-up has left, where the backend has
/// such a setting.
fn small(backend: Backend) -> Config {
    let mut config = Config::default();
    config.threads = Some(1);
    if backend.check(&config).is_err() {
        (config.threads, config.workers) = (None, Some(1));
    }
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    config
}

/// Sends the same bytes again and again on one connection, and counts what that costs.
fn expect_few(backend: Backend, request: &[u8], answers: usize) {
    let config = small(backend);
    let server = TestServer::with_config(backend, config, demo::app()).expect("the server starts");
    let mut client = TcpStream::connect(server.addr()).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has timeouts");
    // This side allocates nothing from here on.
    let mut room = [0; 16 * 1024];
    ask(&mut client, request, answers, WARM_UP, &mut room);
    let allowed = allowed(backend);
    let mut last = Stats::default();
    let is_few = (0..COUNTS).any(|_| {
        let region = Region::new(ALLOCATOR);
        ask(&mut client, request, answers, COUNTED, &mut room);
        last = region.change();
        last.allocations <= allowed && last.deallocations <= allowed && last.reallocations == 0
    });
    assert!(
        is_few,
        "{} allocations, {} reallocations and {} deallocations in {COUNTED} times {answers} requests, in the last of \
         {COUNTS} counts; {allowed} are allowed",
        last.allocations, last.reallocations, last.deallocations
    );
}

fn ask(client: &mut TcpStream, request: &[u8], answers: usize, times: usize, room: &mut [u8]) {
    const BODY: &[u8] = b"\r\n\r\nHello, World!";
    for _ in 0..times {
        client.write_all(request).expect("the server reads");
        let (mut len, mut ends) = (0, 0);
        while ends < answers {
            let n = client.read(&mut room[len..]).expect("the server answers");
            assert_ne!(n, 0, "the connection ended");
            len += n;
            ends = room[..len].windows(BODY.len()).filter(|bytes| *bytes == BODY).count();
        }
    }
}
