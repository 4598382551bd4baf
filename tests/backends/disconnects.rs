//! Peers that leave while a handler runs, and handlers that exceed their timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future;
use gearshift::{
    Backend, CancelToken, OnDisconnect, Request, Response, Router, Runtime, blocking, on_disconnect, sync,
};
use socket2::SockRef;
use test_support::backend::{begins_with_head, blocks, concurrency, few_workers};
use test_support::client::Client;
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "disconnects",
    &[
        ("a_waiting_handler_is_dropped_when_its_peer_resets", |backend| leaves(backend, reset)),
        ("a_waiting_handler_is_dropped_when_its_peer_closes", |backend| leaves(backend, drop)),
        ("a_waiting_handler_is_dropped_when_its_peer_closes_after_a_half_close", |backend| {
            leaves(backend, |client| {
                client.half_close();
                std::thread::sleep(Duration::from_millis(300));
            });
        }),
        ("a_waiting_handler_with_an_unread_body_is_dropped", leaves_unread),
        ("a_waiting_handler_whose_body_a_task_reads_is_dropped", leaves_reading),
        ("a_handler_is_detached_if_its_route_says_so", detached),
        ("a_handler_is_left_alone_if_its_route_says_so", ignored),
        ("the_setting_applies_to_a_route_without_a_policy", setting),
        ("a_half_closed_peer_gets_its_late_response", half_closed),
        ("a_half_closed_http_1_0_peer_is_not_probed", half_closed_old),
        ("a_stream_is_dropped_when_its_peer_resets", stream),
        ("a_token_cancels_a_handler_in_place", token_in_place),
        ("a_token_cancels_a_job", token_in_a_job),
        ("a_token_cancels_a_job_of_an_async_handler", token_in_an_async_job),
        ("a_token_cancels_a_task", token_in_a_task),
        ("a_token_is_not_cancelled_while_the_peer_is_there", token_is_silent),
        ("requests_whose_peers_have_left_are_not_started", abandoned),
        ("handler_timeout_answers_503", late),
        ("handler_timeout_does_not_include_the_body", late_body),
        ("handler_timeout_includes_a_body_that_was_given_up", late_without_body),
        ("handler_timeout_does_not_include_the_response_body", late_stream),
    ],
);

/// Sets a flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The stages that a handler has reached.
#[derive(Clone, Default)]
struct Seen {
    begun: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Seen {
    fn begin(&self) -> Flag {
        self.begun.store(true, Ordering::SeqCst);
        Flag(self.dropped.clone())
    }

    fn expect_begun(&self) {
        wait_until("the handler has begun", || self.begun.load(Ordering::SeqCst));
        assert!(!self.dropped.load(Ordering::SeqCst));
    }

    fn expect_dropped(&self) {
        wait_until("the handler is dropped", || self.dropped.load(Ordering::SeqCst));
    }
}

/// Closes the connection with a reset.
fn reset(client: Client) {
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
}

/// A server whose handler never ends.
fn pending(backend: Backend, seen: &Seen) -> Running {
    let seen = seen.clone();
    Running::start(backend, begins_with_head(backend), move |_| {
        Router::new().any("/", move |request: Request| {
            let flag = seen.begin();
            async move {
                let _both = (flag, request);
                future::pending::<()>().await;
            }
        })
    })
}

fn leaves(backend: Backend, leave: fn(Client)) {
    let seen = Seen::default();
    let server = pending(backend, &seen);
    let mut client = server.client();
    client.send_get("/");
    seen.expect_begun();
    leave(client);
    seen.expect_dropped();
}

fn leaves_unread(backend: Backend) {
    let seen = Seen::default();
    let server = pending(backend, &seen);
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345");
    seen.expect_begun();
    reset(client);
    seen.expect_dropped();
}

/// The system tells of a reset once, and the task that reads the body learns it first.
fn leaves_reading(backend: Backend) {
    for leave in [drop, reset] {
        let (seen, reading) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let (told, begun) = (seen.clone(), reading.clone());
        let server = Running::start(backend, begins_with_head(backend), move |_| {
            Router::new().post("/", move |mut request: Request| {
                let (flag, begun, runtime) = (told.begin(), begun.clone(), request.runtime().clone());
                let reads = async move {
                    while let Some(Ok(_)) = request.body_mut().chunk().await {
                        begun.store(true, Ordering::SeqCst);
                    }
                };
                runtime.spawn(reads).detach();
                async move {
                    let _flag = flag;
                    future::pending::<()>().await;
                }
            })
        });
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345");
        wait_until("the task reads", || reading.load(Ordering::SeqCst));
        leave(client);
        seen.expect_dropped();
    }
}

/// A server whose handler waits for a second. The policy is set for the route or in the settings.
fn second(backend: Backend, seen: &Seen, policy: OnDisconnect, by_setting: bool) -> Running {
    let seen = seen.clone();
    let mut config = few_workers(backend);
    if by_setting {
        config.on_disconnect = policy;
    }
    Running::start(backend, config, move |runtime| {
        let handler = move |_: Request| {
            let (flag, runtime, done) = (seen.begin(), runtime.clone(), seen.done.clone());
            async move {
                runtime.sleep(Duration::from_secs(1)).await;
                done.store(true, Ordering::SeqCst);
                drop(flag);
            }
        };
        match by_setting {
            true => Router::new().get("/", handler),
            false => Router::new().get("/", on_disconnect(policy, handler)),
        }
    })
}

fn goes_on(backend: Backend, policy: OnDisconnect, by_setting: bool) {
    let seen = Seen::default();
    let server = second(backend, &seen, policy, by_setting);
    let mut client = server.client();
    client.send_get("/");
    seen.expect_begun();
    reset(client);
    seen.expect_dropped();
    assert!(seen.done.load(Ordering::SeqCst), "the handler ran to its end");
    assert_eq!(server.get("/").status, 200);
}

fn detached(backend: Backend) {
    goes_on(backend, OnDisconnect::Detach, false);
}

fn ignored(backend: Backend) {
    goes_on(backend, OnDisconnect::Ignore, false);
}

fn setting(backend: Backend) {
    goes_on(backend, OnDisconnect::Detach, true);
}

fn half_closed(backend: Backend) {
    let server = Running::demo(backend);
    let mut client = server.client();
    client.send_get("/sleep/1200");
    client.half_close();
    let mut asked = 0;
    let answer = loop {
        let answer = client.answer();
        match answer.status {
            100 => asked += 1,
            _ => break answer,
        }
    };
    assert_eq!(answer.said(), (200, "ok".into()));
    assert!((1..=3).contains(&asked), "the peer was probed {asked} times");
    client.expect_end();
}

fn half_closed_old(backend: Backend) {
    let server = Running::demo(backend);
    let mut client = server.client();
    client.send("GET /sleep/600 HTTP/1.0\r\n\r\n");
    client.half_close();
    assert_eq!(client.answer().said(), (200, "ok".into()));
    client.expect_end();
}

fn stream(backend: Backend) {
    let seen = Seen::default();
    let told = seen.clone();
    let server = Running::start(backend, few_workers(backend), move |_| {
        one(sync(move |_| {
            let flag = told.begin();
            gearshift::Body::from_stream(futures_lite::stream::poll_fn(move |_| {
                let _flag = &flag;
                std::task::Poll::<Option<Result<gearshift::Bytes, std::io::Error>>>::Pending
            }))
        }))
    });
    let mut client = server.client();
    client.send_get("/");
    seen.expect_begun();
    reset(client);
    seen.expect_dropped();
}

/// Waits until the token is cancelled.
fn until_cancelled(token: &CancelToken, seen: &Seen) {
    let flag = seen.begin();
    let end = Instant::now() + PATIENCE;
    while !token.is_cancelled() {
        assert!(Instant::now() < end, "the token is not cancelled");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(flag);
}

fn token_told(server: &Running, seen: &Seen, leave: fn(Client)) {
    let mut client = server.client();
    client.send_get("/");
    seen.expect_begun();
    leave(client);
    seen.expect_dropped();
}

fn token_in_place(backend: Backend) {
    // An event loop that a handler blocks cannot watch the peer.
    if !blocks(backend) {
        return token_in_a_job(backend);
    }
    for leave in [drop, reset] {
        let seen = Seen::default();
        let told = seen.clone();
        let server = Running::start(backend, few_workers(backend), move |_| {
            one(sync(move |request: Request| until_cancelled(&request.cancel_token(), &told)))
        });
        token_told(&server, &seen, leave);
    }
}

fn token_in_a_job(backend: Backend) {
    for leave in [drop, reset] {
        let seen = Seen::default();
        let told = seen.clone();
        let server = Running::start(backend, few_workers(backend), move |_| {
            one(blocking(move |request: Request| {
                until_cancelled(&request.cancel_token(), &told);
            }))
        });
        token_told(&server, &seen, leave);
    }
}

fn token_in_an_async_job(backend: Backend) {
    for leave in [drop, reset] {
        let seen = Seen::default();
        let told = seen.clone();
        let server = Running::start(backend, few_workers(backend), move |_| {
            one(move |request: Request| {
                let (runtime, told) = (request.runtime().clone(), told.clone());
                async move { runtime.blocking(move || until_cancelled(&request.cancel_token(), &told)).await }
            })
        });
        token_told(&server, &seen, leave);
    }
}

fn token_in_a_task(backend: Backend) {
    let seen = Seen::default();
    let told = seen.clone();
    let server = Running::start(backend, few_workers(backend), move |runtime: Runtime| {
        one(move |request: Request| {
            let (token, flag) = (request.cancel_token(), told.begin());
            runtime
                .spawn(async move {
                    token.cancelled().await;
                    drop(flag);
                })
                .detach();
            future::pending::<()>()
        })
    });
    token_told(&server, &seen, reset);
}

fn token_is_silent(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        one(sync(|request: Request| {
            let token = request.cancel_token();
            let told = (0..100).any(|_| token.is_cancelled());
            format!("{told}")
        }))
    });
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "false");
    }
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(3));
    client.half_close();
    for _ in 0..3 {
        assert_eq!(client.answer().text(), "false");
    }
}

/// On a blocking backend, requests wait for a thread, and a peer may leave in the meantime.
fn abandoned(backend: Backend) {
    let begun = Arc::new(AtomicUsize::new(0));
    let begins = begun.clone();
    const CLIENTS: usize = 64;
    let workers = concurrency(backend).expect("this backend blocks");
    let slow = Duration::from_millis(400);
    let server = Running::start(backend, few_workers(backend), move |_| {
        Router::new().get("/quick", sync(|_| "quick")).get(
            "/slow",
            sync(move |_| {
                begins.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(slow);
            }),
        )
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get("/slow"));
    wait_until("the first have begun", || begun.load(Ordering::SeqCst) == workers);
    for (nth, client) in clients.into_iter().enumerate() {
        match nth % 2 {
            0 => drop(client),
            _ => reset(client),
        }
    }
    let began = Instant::now();
    assert_eq!(server.get("/quick").text(), "quick");
    let (took, begun) = (began.elapsed(), begun.load(Ordering::SeqCst));
    assert!(begun <= 2 * workers, "{begun} handlers have begun");
    let all = slow * (CLIENTS / workers) as u32;
    assert!(took < all / 2, "a new client waited {took:?}, and all handlers take {all:?}");
}

fn late(backend: Backend) {
    let mut config = begins_with_head(backend);
    config.handler_timeout = Duration::from_millis(300);
    let seen = Seen::default();
    let told = seen.clone();
    let server = Running::start(backend, config, move |_| {
        Router::new().get("/fine", async |_: Request| "fine").any("/", move |request: Request| {
            let flag = told.begin();
            async move {
                let _both = (flag, request);
                future::pending::<()>().await;
            }
        })
    });
    for request in [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n123",
        "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ] {
        let began = Instant::now();
        let mut client = server.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, 503, "to {request:?}");
        assert!(answer.closes());
        assert!(began.elapsed() >= Duration::from_millis(300));
        client.expect_end();
        seen.expect_dropped();
    }
    assert_eq!(server.get("/fine").text(), "fine");
}

fn late_body(backend: Backend) {
    let mut config = few_workers(backend);
    config.handler_timeout = Duration::from_millis(300);
    let server = Running::start(backend, config, |_| test_support::app::app());
    let mut client = server.client();
    client.send("POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.answer().said(), (200, "xxxxxxxx".into()));
}

fn late_without_body(backend: Backend) {
    let mut config = begins_with_head(backend);
    config.handler_timeout = Duration::from_millis(100);
    (config.body_timeout, config.min_rate) = (Duration::from_millis(100), 0);
    let seen = Seen::default();
    let told = seen.clone();
    let server = Running::start(backend, config, move |_| {
        Router::new().post("/", move |mut request: Request| {
            let flag = told.begin();
            async move {
                let read = future::poll_once(request.body_mut().chunk()).await;
                assert!(read.is_none(), "the body has not arrived");
                let _both = (flag, request);
                future::pending::<()>().await;
            }
        })
    });
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().status, 503);
    seen.expect_dropped();
}

fn late_stream(backend: Backend) {
    let mut config = few_workers(backend);
    config.handler_timeout = Duration::from_millis(200);
    let server = Running::start(backend, config, |runtime: Runtime| {
        one(sync(move |_| {
            let runtime = runtime.clone();
            let pieces = futures_lite::stream::unfold(0, move |n| {
                let runtime = runtime.clone();
                async move {
                    runtime.sleep(Duration::from_millis(100)).await;
                    (n < 5).then(|| (Ok::<_, std::io::Error>(gearshift::Bytes::from_static(b"x")), n + 1))
                }
            });
            Response::new(gearshift::Body::from_stream(pieces))
        }))
    });
    assert_eq!(server.get("/").said(), (200, "xxxxx".into()));
}
