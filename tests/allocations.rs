//! A request on a sync route allocates nothing, once the connection is warm. A program of its own, since it counts
//! the allocations of the whole process.

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

/// Backends on which a request is to cost none.
const NONE: [&str; 1] = ["mio"];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Only what one test does is to be counted.
    arguments.test_threads = Some(1);
    let trials = NONE
        .iter()
        .filter_map(|name| name.parse::<Backend>().ok())
        .flat_map(|backend| {
            let trial = |name: &str, request: &'static [u8], answers| {
                Trial::test(format!("{backend}::{name}"), move || {
                    expect_none(backend, request, answers);
                    Ok(())
                })
            };
            [
                trial("a_keep_alive_request_allocates_nothing", GET, 1),
                trial("an_echo_of_a_small_body_allocates_nothing", POST, 1),
                trial("pipelined_requests_allocate_nothing", PIPELINED, 16),
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

/// Sends the same bytes again and again on one connection, and counts what that costs.
fn expect_none(backend: Backend, request: &[u8], answers: usize) {
    let mut config = Config::default();
    config.workers = Some(1);
    let server = TestServer::with_config(backend, config, demo::app()).expect("the server starts");
    let mut client = TcpStream::connect(server.addr()).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has timeouts");
    // This side allocates nothing from here on.
    let mut room = [0; 16 * 1024];
    ask(&mut client, request, answers, WARM_UP, &mut room);
    let region = Region::new(ALLOCATOR);
    ask(&mut client, request, answers, COUNTED, &mut room);
    let Stats { allocations, reallocations, deallocations, .. } = region.change();
    assert_eq!(
        (allocations, reallocations, deallocations),
        (0, 0, 0),
        "in {COUNTED} times {answers} requests"
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
