//! Many connections at once: idle, silent, slow and greedy peers delay no other.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gearshift::{Backend, Config};
use test_support::backend::few_workers;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "crowd",
    &[
        ("idle_connections_hold_up_nothing", idle),
        ("silent_connections_hold_up_nothing", silent),
        ("half_sent_heads_hold_up_nothing", half_sent),
        ("a_peer_that_sends_without_a_pause_starves_nobody", greedy),
        ("a_peer_that_does_not_read_holds_up_nobody", deaf),
        ("many_connections_are_all_answered", many),
    ],
);

/// An upper bound on the time of a request that nothing delays. Whatever could delay it here lasts far longer.
const AT_ONCE: Duration = Duration::from_secs(5);

fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.keep_alive = Duration::from_secs(600);
    config.header_timeout = Duration::from_secs(600);
    config
}

fn expect_answer_at_once(server: &Running) {
    let began = Instant::now();
    assert_eq!(server.get("/plaintext").text(), "Hello, World!");
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
}

fn idle(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..200).map(|_| server.client()).collect();
    for client in &mut crowd {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    expect_answer_at_once(&server);
    for client in &mut crowd {
        assert_eq!(client.get("/async").status, 200, "the connection is still open");
    }
}

fn silent(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..50).map(|_| server.client()).collect();
    expect_answer_at_once(&server);
    for client in &mut crowd {
        assert_eq!(client.get("/plaintext").status, 200, "the connection is still open");
    }
}

fn half_sent(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut crowd {
        client.send("GET /plaintext HTTP/1.1\r\nHost:");
    }
    expect_answer_at_once(&server);
    for client in &mut crowd {
        client.send(" test\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
}

fn greedy(backend: Backend) {
    let mut config = few_workers(backend);
    if config.threads.is_some() {
        config.threads = Some(1);
    }
    let server = Running::start(backend, config, |_| demo::app());
    let stop = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicUsize::new(0));
    let (greedy, stopped, took) = (server.client().socket, stop.clone(), taken.clone());
    let reader = greedy.try_clone().expect("a socket can be shared");
    let asking = std::thread::spawn(move || {
        let batch = "GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n".repeat(256);
        let mut greedy = greedy;
        while !stopped.load(Ordering::Relaxed) && greedy.write_all(batch.as_bytes()).is_ok() {}
        let _ = greedy.shutdown(std::net::Shutdown::Both);
    });
    let reading = std::thread::spawn(move || {
        let (mut reader, mut room) = (reader, vec![0; 64 * 1024]);
        while let Ok(n @ 1..) = reader.read(&mut room) {
            took.fetch_add(n, Ordering::Relaxed);
        }
    });
    wait_until("the greedy peer is being served", || taken.load(Ordering::Relaxed) > 100_000);
    let mut other = server.client();
    for _ in 0..20 {
        let (began, before) = (Instant::now(), taken.load(Ordering::Relaxed));
        assert_eq!(other.get("/plaintext").status, 200);
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
        wait_until("the greedy peer is served as well", || taken.load(Ordering::Relaxed) > before);
    }
    expect_answer_at_once(&server);
    stop.store(true, Ordering::Relaxed);
    asking.join().expect("the thread does not panic");
    reading.join().expect("the thread does not panic");
}

fn deaf(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| demo::app());
    let mut deaf = server.client();
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    expect_answer_at_once(&server);
    for _ in 0..4 {
        let answer = deaf.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body.ends_with(b"chunk 99999\n"));
    }
}

fn many(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..100).map(|_| server.client()).collect();
    for _ in 0..3 {
        crowd.iter_mut().for_each(|client| client.send_get("/plaintext"));
        crowd.iter_mut().for_each(|client| client.send_get("/async"));
        for client in &mut crowd {
            assert_eq!(client.answer().text(), "Hello, World!");
            assert_eq!(client.answer().text(), "Hello, World!");
        }
    }
}
