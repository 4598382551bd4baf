//! `Response::after`, which runs once a response is on the wire, and scopes, which end with a request.

use std::future::pending;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gearshift::{Backend, Body, IntoResponse, Request, Response, Router, Runtime, StatusCode, sync};
use test_support::backend::{begins_tasks_in_order, few_workers};
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::wait_until;

use crate::waits::{EACH, SLEEPS};

pub(crate) const AREA: Area = (
    "after",
    &[
        ("after_runs_once_the_response_is_on_the_wire", once),
        ("after_delays_no_later_request", delays_nobody),
        ("after_runs_in_the_order_of_the_responses", in_order),
        ("after_runs_when_the_last_byte_of_a_stream_is_sent", streamed),
        ("after_runs_when_the_peer_leaves_before_its_response", left),
        ("a_server_that_stops_waits_for_after", drained),
        ("tasks_of_a_scope_run_at_once_and_give_their_output", scope_outputs),
        ("a_scope_is_joined", scope_joined),
        ("a_scope_ends_with_a_handler_that_returns_early", scope_early),
        ("a_scope_ends_with_a_handler_whose_peer_leaves", scope_left),
    ],
);

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().expect("no thread panics with the lock").push(what.into());
}

fn notes(log: &Log) -> Vec<String> {
    log.lock().expect("no thread panics with the lock").clone()
}

/// Waits until `open` is set, without holding a thread.
async fn until(runtime: &Runtime, open: &AtomicBool) {
    while !open.load(Ordering::SeqCst) {
        runtime.sleep(Duration::from_millis(2)).await;
    }
}

fn once(backend: Backend) {
    let (count, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (a, b) = (count.clone(), counted.clone());
    let server = Running::start(backend, few_workers(backend), move |_| {
        Router::new()
            .get(
                "/sync",
                sync(move |_| {
                    let count = a.clone();
                    Response::text("ok").after(async move {
                        count.fetch_add(1, Ordering::SeqCst);
                    })
                }),
            )
            .post("/async", move |request: Request| {
                let count = b.clone();
                async move {
                    let body = request.into_body().bytes(100).await?;
                    Ok::<_, gearshift::BodyError>(body.into_response().after(async move {
                        count.fetch_add(1, Ordering::SeqCst);
                    }))
                }
            })
    });
    let mut client = server.client();
    for n in 1..=3 {
        assert_eq!(client.get("/sync").text(), "ok");
        wait_until("the work after the response has run", || count.load(Ordering::SeqCst) == n);
    }
    client.send("POST /async HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    client.send("body");
    assert_eq!(client.answer().text(), "body");
    wait_until("the work after the response has run", || counted.load(Ordering::SeqCst) == 1);
    assert_eq!(count.load(Ordering::SeqCst), 3, "the work of the first route does not run again");
}

/// A server whose `/` has work after its response. The work waits until the returned flag is set, and logs that it has
/// begun and ended.
fn waiting(backend: Backend) -> (Running, Arc<AtomicBool>, Log) {
    let (open, log) = (Arc::new(AtomicBool::new(false)), Log::default());
    let (may, said) = (open.clone(), log.clone());
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        Router::new().get("/fine", sync(|_| "fine")).get(
            "/",
            sync(move |_| {
                let (runtime, may, said) = (runtime.clone(), may.clone(), said.clone());
                Response::text("ok").after(async move {
                    note(&said, "begun");
                    until(&runtime, &may).await;
                    note(&said, "ended");
                })
            }),
        )
    });
    (server, open, log)
}

fn delays_nobody(backend: Backend) {
    let (server, open, log) = waiting(backend);
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "ok");
    wait_until("the work has begun", || notes(&log) == ["begun"]);
    for _ in 0..5 {
        assert_eq!(client.get("/fine").text(), "fine", "the same connection goes on");
        assert_eq!(server.get("/fine").text(), "fine", "another connection is served");
    }
    assert_eq!(notes(&log), ["begun"]);
    open.store(true, Ordering::SeqCst);
    wait_until("the work has ended", || notes(&log) == ["begun", "ended"]);
}

fn in_order(backend: Backend) {
    let log = Log::default();
    let said = log.clone();
    let server = Running::start(backend, few_workers(backend), move |_| {
        Router::new().get(
            "/{n}",
            sync(move |request: Request| {
                let n = request.param("n").unwrap_or_default().into_owned();
                let (first, second) = ((said.clone(), n.clone()), (said.clone(), n));
                Response::text("ok")
                    .after(async move { note(&first.0, format!("{} first", first.1)) })
                    .after(async move { note(&second.0, format!("{} second", second.1)) })
            }),
        )
    });
    let mut client = server.client();
    let requests: String = (0..3).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for _ in 0..3 {
        assert_eq!(client.answer().text(), "ok");
    }
    wait_until("all work has run", || notes(&log).len() == 6);
    let mut expected: Vec<_> = (0..3).flat_map(|n| [format!("{n} first"), format!("{n} second")]).collect();
    let mut found = notes(&log);
    // The work begins in order, but several threads may run it.
    if !begins_tasks_in_order(backend) {
        expected.sort();
        found.sort();
    }
    assert_eq!(found, expected);
}

fn streamed(backend: Backend) {
    let (log, open) = (Log::default(), Arc::new(AtomicBool::new(false)));
    let (said, may) = (log.clone(), open.clone());
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let (runtime, may, said) = (runtime.clone(), may.clone(), said.clone());
            async move {
                let pieces = futures_lite::stream::unfold(0, move |n| {
                    let (runtime, may) = (runtime.clone(), may.clone());
                    async move {
                        if n == 1 {
                            until(&runtime, &may).await;
                        }
                        (n < 2).then(|| (Ok::<_, std::io::Error>("piece".into()), n + 1))
                    }
                });
                Response::new(Body::from_stream(pieces)).after(async move { note(&said, "after") })
            }
        })
    });
    let mut client = server.client();
    client.send_get("/");
    // A part of the response is on the wire, but not all of it.
    let mut first = Vec::new();
    while !first.ends_with(b"piece\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut client.socket, &mut byte).expect("the server sends");
        first.push(byte[0]);
    }
    assert!(notes(&log).is_empty());
    open.store(true, Ordering::SeqCst);
    wait_until("the work after the response has run", || notes(&log) == ["after"]);
    let mut rest = vec![0; b"5\r\npiece\r\n0\r\n\r\n".len()];
    std::io::Read::read_exact(&mut client.socket, &mut rest).expect("the server sends");
    assert_eq!(rest, b"5\r\npiece\r\n0\r\n\r\n");
}

fn left(backend: Backend) {
    const MUCH: usize = 64 << 20;
    let log = Log::default();
    let said = log.clone();
    let server = Running::start(backend, few_workers(backend), move |_| {
        one(sync(move |_| {
            let said = said.clone();
            Response::new(vec![b'x'; MUCH]).after(async move { note(&said, "after") })
        }))
    });
    let mut client = server.client();
    client.send_get("/");
    let mut some = [0; 1024];
    std::io::Read::read_exact(&mut client.socket, &mut some).expect("the response begins");
    assert!(notes(&log).is_empty(), "most of the response waits for the peer");
    drop(client);
    wait_until("the work after the response has run", || notes(&log) == ["after"]);
}

fn drained(backend: Backend) {
    let (server, open, log) = waiting(backend);
    assert_eq!(server.get("/").text(), "ok");
    wait_until("the work has begun", || notes(&log) == ["begun"]);
    server.shutdown().graceful();
    wait_until("the server has stopped accepting", || TcpStream::connect(server.addr()).is_err());
    open.store(true, Ordering::SeqCst);
    server.stop();
    assert_eq!(notes(&log), ["begun", "ended"]);
}

fn scope_outputs(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |runtime| {
        one(move |_: Request| {
            let runtime = runtime.clone();
            async move {
                let mut scope = runtime.scope();
                let tasks: Vec<_> = (0..SLEEPS)
                    .map(|n| {
                        let sleep = runtime.sleep(EACH);
                        scope.spawn(async move {
                            sleep.await;
                            n
                        })
                    })
                    .collect();
                let mut sum = 0;
                for task in tasks {
                    sum += task.await?;
                }
                Ok::<_, ScopeError>(sum.to_string())
            }
        })
    });
    let began = Instant::now();
    assert_eq!(server.get("/").said(), (200, (SLEEPS * (SLEEPS - 1) / 2).to_string()));
    assert!(began.elapsed() < SLEEPS * EACH / 2, "the tasks took {:?}", began.elapsed());
}

/// A task error as a response of 500.
struct ScopeError(gearshift::TaskError);

impl From<gearshift::TaskError> for ScopeError {
    fn from(error: gearshift::TaskError) -> ScopeError {
        ScopeError(error)
    }
}

impl IntoResponse for ScopeError {
    fn into_response(self) -> Response {
        Response::text(self.0.to_string()).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn scope_joined(backend: Backend) {
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done;
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let (runtime, done) = (runtime.clone(), counted.clone());
            async move {
                let mut scope = runtime.scope();
                // The scope cleans up after fewer tasks than this at a time.
                for n in 0..100 {
                    let (sleep, done) = (runtime.sleep(Duration::from_millis(n % 7)), done.clone());
                    let _left_running = scope.spawn(async move {
                        sleep.await;
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                }
                scope.join().await;
                done.load(Ordering::SeqCst).to_string()
            }
        })
    });
    assert_eq!(server.get("/").said(), (200, "100".into()));
}

/// Counts its drop.
struct Ends(Arc<AtomicUsize>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn scope_early(backend: Backend) {
    let ended = Arc::new(AtomicUsize::new(0));
    let ends = ended.clone();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let (runtime, ends) = (runtime.clone(), ends.clone());
            async move {
                let mut scope = runtime.scope();
                for _ in 0..3 {
                    let guard = Ends(ends.clone());
                    let _left_running = scope.spawn(async move {
                        let _guard = guard;
                        pending::<()>().await;
                    });
                }
                Err::<(), _>(StatusCode::CONFLICT)
            }
        })
    });
    assert_eq!(server.get("/").status, 409);
    wait_until("its tasks have ended", || ended.load(Ordering::SeqCst) == 3);
}

fn scope_left(backend: Backend) {
    let (ended, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (ends, begins) = (ended.clone(), begun.clone());
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let (runtime, guard, begins) = (runtime.clone(), Ends(ends.clone()), begins.clone());
            async move {
                let mut scope = runtime.scope();
                let task = scope.spawn(async move {
                    let _guard = guard;
                    begins.fetch_add(1, Ordering::SeqCst);
                    pending::<()>().await;
                });
                task.await.map_err(ScopeError)
            }
        })
    });
    let mut client = server.client();
    client.send_get("/");
    wait_until("its task has begun", || begun.load(Ordering::SeqCst) == 1);
    drop(client);
    wait_until("its task has ended", || ended.load(Ordering::SeqCst) == 1);
}
