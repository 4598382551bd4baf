//! The cases of stopping that hold on every blocking backend; the tests of each say what `BACKEND` is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::{
    App, Backend, Bind, Config, Report, Request, Router, ServeError, Server, Shutdown, sync,
};

use super::rig::{GET, PATIENCE, Running, get, hello, response, rest};
use super::{BACKEND, settings};

/// How often a stop is repeated whose races do not show each time.
const OFTEN: usize = 30;

fn patient() -> Config {
    let mut config = settings();
    config.graceful_timeout = PATIENCE;
    config
}

fn anywhere() -> Bind {
    Bind::Tcp("127.0.0.1:0".into())
}

#[test]
fn a_stop_with_nobody_there_ends_at_once() {
    for _ in 0..OFTEN {
        let server = Running::hello(patient());
        // The server has begun to wait, for some.
        drop(server.client());
        server.shutdown.graceful();
        server.ended_gracefully();
    }
}

#[test]
fn a_stop_right_after_the_start_or_before_it_ends_at_once() {
    for _ in 0..OFTEN {
        let server = Running::hello(patient());
        server.shutdown.graceful();
        server.ended_gracefully();

        let server = Server::bind(&[anywhere()], patient()).unwrap().with_shutdown(Shutdown::new());
        let shutdown = server.shutdown();
        shutdown.graceful();
        let began = Instant::now();
        assert_eq!(BACKEND.serve(server, App::new(hello)).unwrap(), Report::default());
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn a_stop_lets_go_of_idle_and_silent_connections_at_once() {
    for _ in 0..OFTEN {
        let server = Running::hello(patient());
        let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
        clients[..5].iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
        server.shutdown.graceful();
        clients.iter_mut().for_each(|client| assert_eq!(rest(client), ""));
        server.ended_gracefully();
    }
}

#[test]
fn a_stop_ends_while_clients_leave() {
    for _ in 0..OFTEN {
        let server = Running::hello(patient());
        let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
        let leaving = thread::spawn(move || clients.into_iter().for_each(drop));
        server.shutdown.graceful();
        server.ended_gracefully();
        leaving.join().unwrap();
    }
}

#[test]
fn a_stop_ends_under_load_and_cuts_no_response() {
    for _ in 0..OFTEN {
        let server = Running::hello(patient());
        let (say, said) = mpsc::channel();
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let (mut client, say) = (server.client(), say.clone());
                thread::spawn(move || {
                    while answered(&mut client) {
                        let _ = say.send(());
                    }
                })
            })
            .collect();
        (0..100).for_each(|_| said.recv_timeout(PATIENCE).unwrap());
        server.shutdown.graceful();
        server.ended_gracefully();
        loads.into_iter().for_each(|load| load.join().unwrap());
    }
}

/// Sends a request: whether it was answered, in full. If not, not one byte may come.
fn answered(client: &mut TcpStream) -> bool {
    let mut first = [0];
    if client.write_all(GET).is_err() || !matches!(client.read(&mut first), Ok(1)) {
        return false;
    }
    assert_eq!(response(&mut first.chain(client)), (200, "hi".into()));
    true
}

#[test]
fn who_waits_to_be_accepted_is_served_beyond_the_number_of_connections() {
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let mut config = patient();
    config.max_connections = 1;
    config.header_timeout = 10 * PATIENCE;
    let server = Running::with(config, move |_| {
        Router::new().get("/", sync(|_| "hi")).get(
            "/slow",
            sync(move |_| {
                begin.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
                "done"
            }),
        )
    });
    let mut slow = server.client();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    // More than are accepted in a turn.
    let mut waiting: Vec<_> = (0..200).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.write_all(GET).unwrap());
    let mut silent: Vec<_> = (0..100).map(|_| server.client()).collect();
    server.shutdown.graceful();
    release.send(()).unwrap();
    assert_eq!(response(&mut slow), (200, "done".into()));
    for client in &mut waiting {
        assert_eq!(response(client), (200, "hi".into()));
        assert_eq!(rest(client), "");
    }
    silent.iter_mut().for_each(|client| assert_eq!(rest(client), ""));
    assert!(TcpStream::connect(server.address()).is_err(), "who comes later is refused");
    let report = server.ended_gracefully();
    assert_eq!((report.finished, report.cut), (201, 0));
}

#[test]
fn what_is_to_be_done_at_the_end_is_done_when_nobody_is_there() {
    let stopped = Arc::new(AtomicBool::new(false));
    let stops = stopped.clone();
    let app = App::new(hello).on_stop(async move || stops.store(true, SeqCst));
    let server = Running::start(anywhere(), patient(), app);
    let mut client = server.client();
    assert_eq!(get(&mut client).0, 200);
    assert!(!stopped.load(SeqCst));
    server.shutdown.graceful();
    server.ended_gracefully();
    assert!(stopped.load(SeqCst));
}

#[test]
fn what_is_to_be_done_at_the_end_may_fail_or_hang_for_a_while() {
    let server =
        Running::start(anywhere(), patient(), App::new(hello).on_stop(async || panic!("on purpose")));
    server.shutdown.graceful();
    server.ended_gracefully();

    let mut config = settings();
    config.graceful_timeout = Duration::from_millis(50);
    let server = Running::start(anywhere(), config, App::new(hello).on_stop(std::future::pending));
    server.shutdown.graceful();
    server.ended_gracefully();

    let server = Running::start(anywhere(), patient(), App::new(hello).on_stop(std::future::pending));
    server.shutdown.graceful();
    server.shutdown.force();
    let began = Instant::now();
    server.ended().unwrap();
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn an_application_that_never_starts_can_be_stopped() {
    for force in [false, true] {
        let mut config = patient();
        if !force {
            config.graceful_timeout = Duration::from_millis(50);
        }
        let stops = Arc::new(AtomicUsize::new(0));
        let counted = stops.clone();
        let app = App::start(|_| std::future::pending::<Result<Router, _>>()).on_stop(async move || {
            counted.fetch_add(1, SeqCst);
        });
        let server = Running::start(anywhere(), config, app);
        match force {
            false => server.shutdown.graceful(),
            true => server.shutdown.force(),
        }
        let began = Instant::now();
        assert_eq!(server.ended().unwrap(), Report::default());
        assert!(began.elapsed() < PATIENCE / 2);
        assert_eq!(stops.load(SeqCst), 0, "what never started has nothing to stop");
    }
}

#[test]
fn an_application_that_starts_within_the_grace_period_serves_who_has_come() {
    let (release, released) = mpsc::channel::<()>();
    let app = App::start(async move |runtime| {
        runtime.blocking(move || released.recv()).await?;
        Ok(hello(runtime))
    });
    let server = Running::start(anywhere(), patient(), app);
    let mut client = server.client();
    client.write_all(GET).unwrap();
    server.shutdown.graceful();
    release.send(()).unwrap();
    assert_eq!(response(&mut client), (200, "hi".into()));
    assert_eq!(rest(&mut client), "");
    server.ended_gracefully();
}

#[test]
fn a_graceful_stop_lets_go_of_who_is_idle_and_finishes_what_is_in_flight() {
    let (begin, begun) = mpsc::channel();
    let server = Running::with(settings(), move |runtime| {
        Router::new().get("/", sync(|_| "hi")).get("/slow", move |_: Request| {
            let (begin, runtime) = (begin.clone(), runtime.clone());
            async move {
                begin.send(()).unwrap();
                runtime.sleep(Duration::from_millis(100)).await;
                "done"
            }
        })
    });
    let _silent = server.client();
    let mut idle = server.client();
    assert_eq!(get(&mut idle).0, 200);
    let mut slow = server.client();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    server.shutdown.graceful();
    assert_eq!(response(&mut slow), (200, "done".into()));
    assert_eq!(rest(&mut slow), "");
    assert_eq!(rest(&mut idle), "");
    let report = server.ended().unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
}

#[test]
fn what_outlasts_the_grace_period_is_cut() {
    let (begin, begun) = mpsc::channel();
    let mut config = settings();
    config.graceful_timeout = Duration::from_millis(50);
    let server = Running::with(config, move |_| {
        Router::new().get("/", move |_: Request| {
            begin.send(()).unwrap();
            std::future::pending::<&str>()
        })
    });
    let mut client = server.client();
    client.write_all(GET).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    server.shutdown.graceful();
    assert_eq!(rest(&mut client), "");
    assert_eq!(server.ended().unwrap().cut, 1);
}

#[test]
fn forcing_ends_a_wait_for_a_body() {
    let (begin, begun) = mpsc::channel();
    let server = Running::with(settings(), move |_| {
        sync(move |request: Request| {
            begin.send(()).unwrap();
            let _ = request.into_body().reader().read_to_end(&mut Vec::new());
            "never sent"
        })
    });
    let mut client = server.client();
    client.write_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    server.shutdown.force();
    server.ended().unwrap();
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn background_tasks_are_waited_for_and_then_dropped() {
    for (task, expected) in [(Duration::from_millis(100), true), (10 * PATIENCE, false)] {
        let (say, said) = mpsc::channel();
        let mut config = settings();
        config.graceful_timeout = Duration::from_millis(500);
        let server = Running::with(config, move |runtime| {
            let sleep = runtime.sleep(task);
            runtime
                .spawn(async move {
                    sleep.await;
                    say.send(()).unwrap();
                })
                .detach();
            sync(|_| "hi")
        });
        assert_eq!(get(&mut server.client()).0, 200);
        server.shutdown.graceful();
        server.ended().unwrap();
        assert_eq!(said.recv_timeout(PATIENCE).is_ok(), expected);
    }
}

#[test]
fn an_application_that_does_not_start_is_an_error() {
    let server = Server::bind(&[Bind::Tcp("127.0.0.1:0".into())], settings()).unwrap();
    let app = App::start(async |_| Err::<Router, _>("no database".into()));
    assert!(
        matches!(BACKEND.serve(server, app), Err(ServeError::Start(error)) if error.to_string() == "no database")
    );
}
