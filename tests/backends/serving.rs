//! Whole servers: kinds of handlers side by side, connections that are used again, and requests that overlap or not.

use std::future::poll_fn;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use gearshift::{App, Backend, Config, Endpoint, Request, Router, Runtime, Server, blocking, compute, sync};
use test_support::PATIENCE;
use test_support::backend::{concurrency, few_workers};
use test_support::client::Client;
use test_support::server::{Launched, Running, any_port, one};
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "serving",
    &[
        ("every_kind_of_handler_answers_on_many_connections", every_kind),
        ("a_connection_is_used_again", used_again),
        ("idle_and_silent_connections_together_hold_up_nobody", idle_and_silent),
        ("more_pipelined_requests_than_a_turn_allows_are_all_answered", pipelined),
        ("a_peer_that_has_stopped_sending_is_answered_and_closed_at_once", half_closed),
        ("large_bodies_pass_both_ways", large),
        ("a_server_says_when_it_serves", says_when_it_serves),
        ("requests_never_overlap_on_one_thread", never_overlap),
        ("requests_overlap_on_all_threads_of_a_pool", overlap),
        ("requests_that_block_among_quick_ones_overlap_on_all_threads_of_a_pool", overlap_among_quick),
        ("late_wake_ups_of_handlers_keep_no_thread_of_a_pool_from_its_work", late_wake_ups),
    ],
);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const LARGE: usize = 8 << 20;

fn app(runtime: Runtime) -> Router {
    let sleeper = runtime;
    Router::new()
        .get("/", sync(|_| "hello"))
        .get("/large", sync(|_| vec![b'x'; LARGE]))
        .get("/blocking", blocking(|_| "blocked"))
        .get("/compute", compute(|_| "computed"))
        .get("/slow", move |_: Request| {
            let sleep = sleeper.sleep(Duration::from_millis(100));
            async move {
                sleep.await;
                "slow"
            }
        })
        .post("/length", async |request: Request| {
            let body = request.into_body().bytes(2 * LARGE).await?;
            let is_intact = body.iter().all(|byte| *byte == b'y');
            Ok::<_, gearshift::BodyError>(format!("{} {is_intact}", body.len()))
        })
}

fn says_when_it_serves(backend: Backend) {
    let server = Server::bind(&[any_port()], few_workers(backend)).expect("a free port");
    let Some(&Endpoint::Tcp(addr)) = server.endpoints().next() else { panic!("it has a TCP address") };
    let (sender, said) = mpsc::channel();
    let server = server.on_serving(move |runtime| sender.send(runtime.backend()).expect("the test waits"));
    let (shutdown, (start, may_start)) = (server.shutdown(), mpsc::channel::<()>());
    let app = App::start(move |runtime: Runtime| async move {
        let wait = runtime.blocking(move || may_start.recv());
        wait.await?;
        Ok(one(sync(|_| "hi")))
    });
    let thread = thread::spawn(move || backend.serve(server, app));
    let mut client = Client::connect(addr);
    client.send(GET);
    assert!(said.try_recv().is_err(), "the application has not started");
    start.send(()).expect("the application waits");
    assert_eq!(said.recv_timeout(PATIENCE), Ok(backend.name()));
    assert_eq!(client.answer().said(), (200, "hi".into()));
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");

    // The function of a server that does not start is not called.
    let (sender, said) = mpsc::channel();
    let server = Server::bind(&[any_port()], few_workers(backend)).expect("a free port");
    let server = server.on_serving(move |_| sender.send(()).expect("the test waits"));
    let fails = App::start(|_| async { Err::<Router, _>("no database".into()) });
    assert!(backend.serve(server, fails).is_err());
    assert!(said.recv().is_err());
}

fn every_kind(backend: Backend) {
    let server = Running::serve(backend, app);
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = server.client();
            thread::spawn(move || {
                for path in ["/", "/blocking", "/", "/compute", "/", "/slow", "/", "/"] {
                    let expected = match path {
                        "/blocking" => "blocked",
                        "/compute" => "computed",
                        "/slow" => "slow",
                        _ => "hello",
                    };
                    assert_eq!(client.get(path).said(), (200, expected.into()));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
    server.stop();
}

fn used_again(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), app);
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(client.get("/").said(), (200, "hello".into()));
    }
}

fn idle_and_silent(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), app);
    let _silent: Vec<_> = (0..200).map(|_| server.client()).collect();
    let mut idle: Vec<_> = (0..200).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_eq!(server.get("/").said(), (200, "hello".into()));
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
}

fn pipelined(backend: Backend) {
    const REQUESTS: usize = 2000;
    let server = Running::start(backend, few_workers(backend), app);
    let mut client = server.client();
    let mut writer = client.socket.try_clone().expect("a socket can be shared");
    let writing = thread::spawn(move || writer.write_all(&GET.repeat(REQUESTS)));
    for _ in 0..REQUESTS {
        assert_eq!(client.answer().status, 200);
    }
    writing.join().expect("the writer does not panic").expect("the server reads");
    assert_eq!(client.get("/").status, 200);
}

fn half_closed(backend: Backend) {
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout) = (10 * PATIENCE, 10 * PATIENCE);
    let server = Launched::start(backend, config, app);
    // There are so many that for some of them the server reads the request and the end at once.
    let mut clients: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(GET);
        client.half_close();
    }
    for client in &mut clients {
        // On a busy machine a request can wait so long for a thread that the server probes the peer first.
        assert_eq!(client.final_answer().status, 200);
        client.expect_end();
    }
}

fn large(backend: Backend) {
    let server = Running::serve(backend, app);
    let mut client = server.client();
    assert_eq!(client.get("/large").body.len(), LARGE);
    client.send(format!("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n"));
    client.send(vec![b'y'; LARGE]);
    assert_eq!(client.answer().said(), (200, format!("{LARGE} true")));
    assert_eq!(client.get("/").text(), "hello");
    server.stop();
}

fn never_overlap(backend: Backend) {
    let running = Arc::new(AtomicUsize::new(0));
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let (running, runtime) = (running.clone(), runtime.clone());
            async move {
                let others = running.fetch_add(1, Ordering::SeqCst);
                runtime.sleep(Duration::from_millis(5)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                others.to_string()
            }
        })
    });
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().said(), (200, "0".into())));
}

/// How often all threads have to meet, each with so many requests.
const ROUNDS: usize = 50;
const PER_THREAD: usize = 8;

/// The deadline of a connection ends the wait of a worker too. Without deadlines, only wake-ups do.
fn without_deadlines(backend: Backend) -> Config {
    let hour = Duration::from_secs(3600);
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.write_timeout) = (hour, hour, hour);
    config
}

fn overlap(backend: Backend) {
    let threads = concurrency(backend).expect("a pool has a number of threads");
    let meeting = Arc::new(Barrier::new(threads));
    let server = Running::start(backend, without_deadlines(backend), move |_| {
        one(sync(move |_| {
            // No handler passes the barrier before all threads run one.
            meeting.wait();
            thread::current().name().unwrap_or_default().to_owned()
        }))
    });
    let expected: Vec<_> = (0..threads).map(|n| format!("worker-{n}")).collect();
    // A wake-up that gets lost leaves a thread asleep, and the others at the barrier.
    for _ in 0..ROUNDS {
        let mut clients: Vec<_> = (0..PER_THREAD * threads).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.send(GET));
        let mut names: Vec<_> = clients.iter_mut().map(|client| Client::answer(client).text()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, expected);
    }
}

/// A worker of a pool that runs quick requests wakes no other worker. Then a request blocks it, and others wait.
fn overlap_among_quick(backend: Backend) {
    let threads = concurrency(backend).expect("a pool has a number of threads");
    let meeting = Arc::new(Barrier::new(threads));
    let server = Running::start(backend, without_deadlines(backend), move |_| {
        let meet = move |_: Request| {
            meeting.wait();
            "met"
        };
        Router::new().get("/", sync(|_| "quick")).get("/meet", sync(meet))
    });
    let mut quick: Vec<_> = (0..PER_THREAD * threads).map(|_| server.client()).collect();
    let mut blocking: Vec<_> = (0..threads).map(|_| server.client()).collect();
    for _ in 0..ROUNDS {
        for _ in 0..PER_THREAD {
            quick.iter_mut().for_each(|client| client.send(GET));
            quick.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "quick"));
        }
        quick.iter_mut().for_each(|client| client.send(GET));
        blocking.iter_mut().for_each(|client| client.send_get("/meet"));
        blocking.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "met"));
        quick.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "quick"));
    }
}

/// A handler may leave a waker behind that is woken much later. The thread then looks for work once for nothing.
fn late_wake_ups(backend: Backend) {
    const LATE: usize = 10;
    let threads = concurrency(backend).expect("a pool has a number of threads");
    let meeting = Arc::new(Barrier::new(threads));
    let left = Arc::new(Mutex::new(Vec::new()));
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (all_left, holding) = (left.clone(), released);
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let leave = move |_: Request| {
            meeting.wait();
            let waker = runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
            all_left.lock().expect("no handler panics").push(waker);
            "left"
        };
        let hold = move |_: Request| {
            let _ = begin.send(());
            let _ = holding.lock().expect("no handler panics").recv();
            "held"
        };
        Router::new().get("/leave", sync(leave)).get("/hold", sync(hold)).get("/", sync(|_| "hi"))
    });
    let mut clients: Vec<_> = (0..threads).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get("/leave"));
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "left"));
    thread::sleep(Duration::from_millis(50));
    let wakers = std::mem::take(&mut *left.lock().expect("no handler panics"));
    for waker in wakers.iter().flat_map(|waker| std::iter::repeat_n(waker, LATE)) {
        waker.wake_by_ref();
        thread::sleep(Duration::from_millis(2));
    }

    let (last, held) = clients.split_last_mut().expect("a pool has threads");
    for client in held.iter_mut() {
        client.send_get("/hold");
        begun.recv_timeout(PATIENCE).expect("a thread is free");
    }
    assert_eq!(last.get("/").text(), "hi");
    held.iter().for_each(|_| release.send(()).expect("the server runs"));
    held.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "held"));
}
