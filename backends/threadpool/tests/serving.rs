//! Real requests over loopback: what has to do with who waits where. HTTP itself is tested elsewhere.

#[path = "../../blocking/tests/cases/rig.rs"]
mod rig;
#[path = "../../blocking/tests/cases/serving.rs"]
mod serving;
#[path = "../../blocking/tests/cases/stopping.rs"]
mod stopping;

use std::io::Write;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use gearshift_core::{Backend, Config, Router, ServeError, sync};
use gearshift_threadpool::ThreadPool;
use rig::{GET, PATIENCE, Running, response};

const BACKEND: ThreadPool = ThreadPool;

fn settings() -> Config {
    let mut config = Config::default();
    config.threads = Some(2);
    config
}

#[test]
fn settings_it_cannot_honour_are_refused() {
    let mut config = settings();
    config.workers = Some(1);
    assert!(BACKEND.check(&config).is_ok());
    config.workers = Some(2);
    assert!(matches!(BACKEND.check(&config), Err(ServeError::Setting { backend: "threadpool", .. })));
}

#[test]
fn requests_overlap_on_as_many_workers_as_there_are() {
    let meeting = Arc::new(Barrier::new(2));
    let server = Running::with(settings(), move |_| {
        sync(move |_| {
            // Nobody gets past this alone.
            meeting.wait();
            thread::current().name().unwrap_or_default().to_owned()
        })
    });
    let (mut one, mut other) = (server.client(), server.client());
    one.write_all(GET).unwrap();
    other.write_all(GET).unwrap();
    let mut names = [response(&mut one).1, response(&mut other).1];
    names.sort();
    assert_eq!(names, ["worker-0", "worker-1"]);
}

#[test]
fn a_handler_that_does_not_return_is_left_behind() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (begin, begun) = mpsc::channel();
    let mut config = settings();
    config.graceful_timeout = Duration::from_millis(50);
    let server = Running::with(config, move |_| {
        sync(move |_| {
            begin.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            "late"
        })
    });
    let mut client = server.client();
    client.write_all(GET).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    server.shutdown.graceful();
    assert_eq!(server.ended().unwrap().cut, 1);
    drop(release);
}

#[test]
fn at_a_stop_who_waits_to_be_accepted_does_not_wait_for_room() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (begin, begun) = mpsc::channel();
    let mut config = settings();
    config.graceful_timeout = PATIENCE;
    config.max_connections = 1;
    let server = Running::with(config, move |_| {
        Router::new().get("/", sync(|_| "hi")).get(
            "/slow",
            sync(move |_| {
                begin.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
                "late"
            }),
        )
    });
    let mut slow = server.client();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let mut waiting: Vec<_> = (0..10).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.write_all(GET).unwrap());
    server.shutdown.graceful();
    waiting.iter_mut().for_each(|client| assert_eq!(response(client).0, 200));
    release.send(()).unwrap();
    assert_eq!(response(&mut slow).0, 200);
    server.ended_gracefully();
}
