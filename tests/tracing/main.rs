//! The spans of connections and requests on every backend, in a separate process: a process has one subscriber.
//!
//! `cargo test --test tracing -- mio::` runs the cases of one backend.

mod collector;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::{AsyncReadExt, stream};
use gearshift::hyper::Executor;
use gearshift::trace::TraceContext;
use gearshift::{
    Backend, Body, Bytes, Config, HeaderValue, OnDisconnect, Request, Response, Router, Runtime, Stream,
    blocking, on_disconnect, sync,
};
use hyper::rt::Executor as _;
use libtest_mimic::{Arguments, Trial};
use test_support::app::{self, ON_PURPOSE};
use test_support::backend::{blocks, few_workers};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::{self, Area, Only};
use test_support::wait_until;

use collector::{TARGET, closed, path_of_event, requests};

const AREAS: [Area; 1] = [(
    "tracing",
    &[
        ("each_request_has_a_span_with_method_route_and_status", fields),
        ("a_request_of_an_unknown_method_or_without_a_route_has_a_span", unknown),
        ("a_router_that_another_one_calls_does_not_record_its_route", routers),
        ("a_connection_is_the_parent_of_its_requests", connection),
        ("spans_of_handlers_that_overlap_on_a_thread_are_apart", overlapping),
        ("tasks_jobs_and_the_work_after_a_response_carry_the_span", carried),
        ("a_streamed_body_is_polled_inside_of_the_span", streamed),
        ("a_handler_whose_peer_has_left_keeps_its_span", detached),
        ("a_trace_is_read_and_passed_on", traceparent),
        ("the_requests_of_a_connection_of_http_2_have_separate_spans", streams),
    ],
)];

/// Handlers overlap at their waits on one thread.
const ONLY: [Only; 2] = [
    ("tracing", "spans_of_handlers_that_overlap_on_a_thread_are_apart", is_event_loop),
    ("tracing", "the_requests_of_a_connection_of_http_2_have_separate_spans", is_event_loop),
];

fn is_event_loop(backend: Backend) -> bool {
    !blocks(backend)
}

fn main() -> ExitCode {
    app::silence_panics_on_purpose();
    collector::keep();
    assert!(gearshift::trace::on_request(|span, request| {
        // The span is not entered yet.
        if request.path().ends_with("/hook") {
            tracing::info!(target: TARGET, parent: None, "hook of {}: {}", request.path(), span.is_disabled());
        }
    }));
    assert!(!gearshift::trace::on_request(|_, _| {}));
    let trials = suite::cases(&AREAS, &ONLY).into_iter().map(|case| {
        Trial::test(case.full_name(), move || {
            case.run();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A server for the paths `/BACKEND/TEST/...`, which no other test uses.
fn start(
    backend: Backend,
    config: Config,
    routes: impl FnOnce(Router) -> Router + Send + 'static,
) -> Running {
    Running::start(backend, config, move |_: Runtime| {
        Router::new().nest(&format!("/{backend}"), routes(Router::new()))
    })
}

fn event(request: &Request, what: &str) {
    tracing::info!(target: TARGET, "{what} of {}", request.path());
}

fn fields(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| {
        router
            .get("/fields/sync/{id}", sync(|request: Request| event(&request, "handler")))
            .get("/fields/async/{id}", async |request: Request| {
                event(&request, "before");
                request.runtime().sleep(Duration::from_millis(1)).await;
                event(&request, "behind");
            })
            .get("/fields/blocking/{id}", blocking(|request: Request| event(&request, "handler")))
            .post("/fields/echo/{id}", sync(|request: Request| Response::new(request.into_body())))
            .get("/fields/panic/{id}", sync(|_| -> &'static str { panic!("{ON_PURPOSE}") }))
    });
    let mut client = server.client();
    let port = client.socket.local_addr().expect("a connected socket").port();
    for (method, kind, status) in [
        ("GET", "sync", "200"),
        ("GET", "async", "200"),
        ("GET", "blocking", "200"),
        ("POST", "echo", "200"),
        ("GET", "panic", "500"),
    ] {
        let path = format!("/{backend}/fields/{kind}/1");
        let more = if method == "POST" { "Content-Length: 2\r\n" } else { "" };
        client
            .send(format!("{method} {path}?secret HTTP/1.1\r\nHost: a\r\nUser-Agent: a test\r\n{more}\r\n"));
        if method == "POST" {
            client.send("ok");
        }
        assert_eq!(client.answer().status.to_string(), status);
        let span = closed(&path);
        let route = format!("/{backend}/fields/{kind}/{{id}}");
        for (name, value) in [
            ("http.request.method", method),
            ("http.route", &route),
            ("http.response.status_code", status),
            ("otel.name", &format!("{method} {route}")),
            ("otel.kind", "server"),
            ("url.scheme", "http"),
            ("network.protocol.version", "1.1"),
            ("client.address", "127.0.0.1"),
            ("user_agent.original", "a test"),
        ] {
            assert_eq!(span.field(name), Some(value), "{name}: {span:?}");
        }
        let (error, otel) = if status == "500" { (Some("500"), Some("ERROR")) } else { (None, None) };
        assert_eq!((span.field("error.type"), span.field("otel.status_code")), (error, otel));
        assert_eq!((span.field("trace_id"), span.field("http.request.method_original")), (None, None));
        assert_eq!(
            span.parent().and_then(|parent| parent.field("network.peer.port").map(str::to_owned)),
            Some(port.to_string())
        );
        let said: &[&str] = match kind {
            "sync" | "blocking" => &["handler"],
            "async" => &["before", "behind"],
            _ => &[],
        };
        for what in said {
            assert_eq!(path_of_event(&format!("{what} of {path}")).as_ref(), Some(&path));
        }
    }
}

fn unknown(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| router.any("/unknown/any", sync(|_| "ok")));
    let mut client = server.client();
    let (any, nowhere) = (format!("/{backend}/unknown/any"), format!("/{backend}/unknown/nowhere"));
    client.send(format!("FOO {any} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.answer().status, 200);
    let span = closed(&any);
    assert_eq!(span.field("http.request.method"), Some("_OTHER"));
    assert_eq!(span.field("http.request.method_original"), Some("FOO"));
    assert_eq!(span.field("otel.name"), Some(format!("HTTP {any}").as_str()));
    assert_eq!(client.get(&nowhere).status, 404);
    let span = closed(&nowhere);
    assert_eq!(span.field("http.route"), None);
    assert_eq!(span.field("otel.name"), Some("GET"));
    assert_eq!(span.field("http.response.status_code"), Some("404"));
}

fn routers(backend: Backend) {
    let path = format!("/{backend}/routers/inner");
    let inner = Router::new().get(&path, sync(|_| "ok"));
    let server = start(backend, few_workers(backend), |router| router.get("/routers/{*rest}", inner));
    assert_eq!(server.get(&path).status, 200);
    let (span, route) = (closed(&path), format!("/{backend}/routers/{{*rest}}"));
    assert_eq!(span.field("http.route"), Some(route.as_str()));
    assert_eq!(span.field("otel.name"), Some(format!("GET {route}").as_str()));
}

fn connection(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| router.get("/connection/{n}", sync(|_| "ok")));
    let mut client = server.client();
    let port = client.socket.local_addr().expect("a connected socket").port().to_string();
    let paths = ["1", "2"].map(|n| format!("/{backend}/connection/{n}"));
    // Two in one turn.
    client.send(paths.each_ref().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat());
    let parents = paths.each_ref().map(|path| {
        assert_eq!(client.answer().status, 200);
        closed(path).parent().expect("a connection")
    });
    for parent in parents {
        assert_eq!((parent.name, parent.is_closed), ("connection", false));
        assert_eq!(parent.field("network.peer.port"), Some(port.as_str()));
        assert_eq!(parent.field("network.peer.address"), Some("127.0.0.1"));
        assert_eq!(parent.field("network.transport"), Some("tcp"));
    }
    drop(client);
    wait_until("the span of the connection is closed", || {
        requests(&paths[0])[0].parent().is_some_and(|parent| parent.is_closed)
    });
}

/// Closed until [`Gate::open`] is called.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Waits, with many polls.
    async fn opened(&self, runtime: &Runtime) {
        while !self.0.load(Ordering::SeqCst) {
            runtime.sleep(Duration::from_millis(1)).await;
        }
    }
}

fn overlapping(backend: Backend) {
    let gate = Gate::default();
    let waits = gate.clone();
    let server = start(backend, few_workers(backend), move |router| {
        router
            .get("/overlapping/wait/{n}", move |request: Request| {
                let gate = waits.clone();
                async move {
                    event(&request, "first");
                    gate.opened(request.runtime()).await;
                    event(&request, "then");
                }
            })
            .get("/overlapping/sync", sync(|request: Request| event(&request, "sync")))
    });
    let paths = ["1", "2", "3"].map(|n| format!("/{backend}/overlapping/wait/{n}"));
    let mut clients: Vec<Client> = paths
        .iter()
        .map(|path| {
            let mut client = server.client();
            client.send_get(path);
            assert_eq!(path_of_event(&format!("first of {path}")).as_ref(), Some(path));
            client
        })
        .collect();
    // A handler beside those that wait. They are not inside of their spans for longer than a poll.
    let sync = format!("/{backend}/overlapping/sync");
    assert_eq!(server.get(&sync).status, 200);
    assert_eq!(path_of_event(&format!("sync of {sync}")).as_ref(), Some(&sync));
    wait_until("no thread is inside of a span", || paths.iter().all(|path| requests(path)[0].is_left()));
    gate.open();
    for (client, path) in clients.iter_mut().zip(&paths) {
        assert_eq!(client.answer().status, 200);
        assert_eq!(path_of_event(&format!("then of {path}")).as_ref(), Some(path));
        closed(path);
    }
}

fn carried(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| {
        router
            .get("/carried/tasks", async |request: Request| {
                let path = request.path().to_owned();
                let say = move |what: &str| tracing::info!(target: TARGET, "{what} of {path}");
                let runtime = request.runtime().clone();
                let (task, scoped, job, sum) = (say.clone(), say.clone(), say.clone(), say.clone());
                let inner = runtime.clone();
                runtime
                    .spawn(async move {
                        task("task");
                        inner.sleep(Duration::from_millis(1)).await;
                        task("rest of the task");
                        inner.spawn(async move { task("task of the task") }).await.expect("the task ends");
                    })
                    .await
                    .expect("the task ends");
                let mut scope = runtime.scope();
                scope.spawn(async move { scoped("scope") }).await.expect("the task ends");
                // The connection of a pool does not belong to the request that opens it.
                let pooled = say.clone();
                Executor::new(&runtime).execute(async move { pooled("pooled connection") });
                runtime.blocking(move || job("blocking")).await;
                runtime.compute(move || sum("compute")).await;
                say("handler");
                Response::new("ok").after(async move { say("after") })
            })
            .get(
                "/carried/sync",
                sync(|request: Request| {
                    let path = request.path().to_owned();
                    let (task, after) = (path.clone(), path);
                    request
                        .runtime()
                        .spawn(async move { tracing::info!(target: TARGET, "task of {task}") })
                        .detach();
                    Response::new("ok")
                        .after(async move { tracing::info!(target: TARGET, "after of {after}") })
                }),
            )
            .get(
                "/carried/upgrade",
                sync(|request: Request| {
                    let path = request.path().to_owned();
                    Response::upgrade(HeaderValue::from_static("quiet"), async move |mut stream: Stream| {
                        let _ = stream.read(&mut [0]).await;
                        tracing::info!(target: TARGET, "upgrade of {path}");
                    })
                }),
            )
    });
    let mut client = server.client();
    let path = format!("/{backend}/carried/tasks");
    assert_eq!(client.get(&path).status, 200);
    for what in
        ["task", "rest of the task", "task of the task", "scope", "blocking", "compute", "handler", "after"]
    {
        assert_eq!(path_of_event(&format!("{what} of {path}")).as_ref(), Some(&path), "{what}");
    }
    assert_eq!(path_of_event(&format!("pooled connection of {path}")), None);
    assert_eq!(closed(&path).field("http.response.status_code"), Some("200"));
    let path = format!("/{backend}/carried/sync");
    assert_eq!(client.get(&path).status, 200);
    for what in ["task", "after"] {
        assert_eq!(path_of_event(&format!("{what} of {path}")).as_ref(), Some(&path), "{what}");
    }
    closed(&path);
    let path = format!("/{backend}/carried/upgrade");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: quiet\r\n\r\n"));
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    drop(client);
    assert_eq!(path_of_event(&format!("upgrade of {path}")).as_ref(), Some(&path));
    assert_eq!(closed(&path).field("http.response.status_code"), Some("101"));
}

fn streamed(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| {
        router.get(
            "/streamed/{n}",
            sync(|request: Request| {
                let (path, runtime) = (request.path().to_owned(), request.runtime().clone());
                let pieces = stream::unfold(0, move |nth| {
                    let (path, runtime) = (path.clone(), runtime.clone());
                    async move {
                        runtime.sleep(Duration::from_millis(1)).await;
                        tracing::info!(target: TARGET, "piece {nth} of {path}");
                        (nth < 2).then(|| (Ok::<_, std::io::Error>(Bytes::from("piece")), nth + 1))
                    }
                });
                Response::new(Body::from_stream(pieces))
            }),
        )
    });
    let paths = ["1", "2"].map(|n| format!("/{backend}/streamed/{n}"));
    let mut clients = paths.each_ref().map(|path| {
        let mut client = server.client();
        client.send_get(path);
        client
    });
    for (client, path) in clients.iter_mut().zip(&paths) {
        assert_eq!(client.answer().text(), "piecepiece");
        for nth in 0..3 {
            assert_eq!(path_of_event(&format!("piece {nth} of {path}")).as_ref(), Some(path));
        }
        assert_eq!(closed(path).field("http.response.status_code"), Some("200"));
    }
}

fn detached(backend: Backend) {
    let gate = Gate::default();
    let waits = gate.clone();
    let server = start(backend, few_workers(backend), move |router| {
        let handler = move |request: Request| {
            let gate = waits.clone();
            async move {
                event(&request, "first");
                let left = request.cancel_token();
                while !left.is_cancelled() {
                    request.runtime().sleep(Duration::from_millis(1)).await;
                }
                gate.opened(request.runtime()).await;
                event(&request, "behind");
            }
        };
        router.get("/detached", on_disconnect(OnDisconnect::Detach, handler))
    });
    let path = format!("/{backend}/detached");
    let mut client = server.client();
    client.send_get(&path);
    assert_eq!(path_of_event(&format!("first of {path}")).as_ref(), Some(&path));
    drop(client);
    gate.open();
    assert_eq!(path_of_event(&format!("behind of {path}")).as_ref(), Some(&path));
    let span = closed(&path);
    // On a blocking backend, the handler itself may find that its peer has left, and still answer.
    assert!(blocks(backend) || span.field("http.response.status_code").is_none(), "{span:?}");
}

fn traceparent(backend: Backend) {
    let server = start(backend, few_workers(backend), |router| {
        let told = |context: Option<TraceContext>| match context {
            None => "none".to_owned(),
            Some(context) => format!("{context} {:?}", context.tracestate()),
        };
        router.get("/traceparent/{n}/hook", sync(move |request: Request| told(request.trace_context())))
    });
    let mut client = server.client();
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    for (n, fields, expected, trace_id) in [
        (
            1,
            format!("Traceparent: {parent}\r\ntracestate: a=1\r\nTraceState: b=2\r\n"),
            format!("{parent} Some(\"a=1,b=2\")"),
            Some(id),
        ),
        (2, format!("traceparent: {parent}\r\ntracestate: a=1,a=2\r\n"), format!("{parent} None"), Some(id)),
        (3, format!("traceparent: {parent}\r\ntraceparent: {parent}\r\n"), "none".into(), None),
        (4, format!("traceparent: {}\r\ntracestate: a=1\r\n", parent.to_uppercase()), "none".into(), None),
        (5, String::new(), "none".into(), None),
    ] {
        let path = format!("/{backend}/traceparent/{n}/hook");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.answer().text(), expected);
        assert_eq!(closed(&path).field("trace_id"), trace_id);
        assert_eq!(path_of_event(&format!("hook of {path}: false")), None);
    }
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, len, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The frame of a GET request without a body. The indices are those of the static table (RFC 7541, A).
fn headers(stream: u8, path: &str) -> Vec<u8> {
    let len = u8::try_from(path.len()).expect("a short path");
    frame(1, 0x5, stream, &[&[0x82, 0x86, 0x04, len], path.as_bytes(), &[0x01, 1, b'a']].concat())
}

fn streams(backend: Backend) {
    let gate = Gate::default();
    let (waits, detached) = (gate.clone(), gate.clone());
    let server = start(backend, few_workers(backend), move |router| {
        let detached = move |request: Request| {
            let gate = detached.clone();
            async move {
                event(&request, "first");
                gate.opened(request.runtime()).await;
                event(&request, "behind");
            }
        };
        router.get("/streams/detached", on_disconnect(OnDisconnect::Detach, detached)).get(
            "/streams/wait/{n}",
            move |request: Request| {
                let gate = waits.clone();
                async move {
                    event(&request, "first");
                    gate.opened(request.runtime()).await;
                    event(&request, "then");
                    let path = request.path().to_owned();
                    Response::new("ok")
                        .after(async move { tracing::info!(target: TARGET, "after of {path}") })
                }
            },
        )
    });
    let paths = ["wait/1", "wait/2", "detached"].map(|rest| format!("/{backend}/streams/{rest}"));
    let mut client = server.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(frame(4, 0, 0, &[]));
    for (path, stream) in paths.iter().zip([1, 3, 5]) {
        client.send(headers(stream, path));
        assert_eq!(path_of_event(&format!("first of {path}")).as_ref(), Some(path));
    }
    wait_until("no thread is inside of a span", || paths.iter().all(|path| requests(path)[0].is_left()));
    // The peer gives the last one up.
    client.send(frame(3, 0, 5, &[0, 0, 0, 8]));
    gate.open();
    let parents = [&paths[0], &paths[1]].map(|path| {
        for what in ["then", "after"] {
            assert_eq!(path_of_event(&format!("{what} of {path}")).as_ref(), Some(path));
        }
        let span = closed(path);
        let route = format!("/{backend}/streams/wait/{{n}}");
        assert_eq!(span.field("http.response.status_code"), Some("200"));
        assert_eq!(span.field("http.route"), Some(route.as_str()));
        assert_eq!(span.field("network.protocol.version"), Some("2"));
        span.parent().expect("a connection").field("network.peer.port").map(str::to_owned)
    });
    let port = client.socket.local_addr().expect("a connected socket").port().to_string();
    assert_eq!(parents, [Some(port.clone()), Some(port)]);
    assert_eq!(path_of_event(&format!("behind of {}", paths[2])).as_ref(), Some(&paths[2]));
    closed(&paths[2]);
}
