//! Groups of routes: middleware, state and options, on the wire.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::future;
use gearshift::middleware::{Next, from_fn, from_sync, map_request, map_response};
use gearshift::tower::{HandlerFuture, HandlerService};
use gearshift::{
    App, Backend, Body, OnDisconnect, Request, Response, RouteOptions, Router, Runtime, StatusCode,
    body_limit, http, on_disconnect, sync, timeout,
};
use http_body_util::Limited;
use test_support::backend::{begins_with_head, few_workers};
use test_support::client::Answer;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::wait_until;
use tower_layer::layer_fn;
use tower_service::Service;

pub(crate) const AREA: Area = (
    "groups",
    &[
        ("middleware_of_both_kinds_runs_around_handlers_of_both_kinds", both_kinds),
        ("a_middleware_that_waits_keeps_the_policy_of_the_route", keeps_policy),
        ("a_middleware_that_waits_is_dropped_with_its_handler", is_dropped),
        ("a_route_may_wait_longer_or_shorter_than_the_setting", times),
        ("a_route_has_its_own_limit_for_bodies", bodies),
        ("handlers_and_middleware_share_the_state_that_the_stop_sees", state),
        ("periodic_calls_have_the_state_and_the_runtime", periodic),
        ("a_router_behind_a_layer_has_the_parameters_of_its_request", params_behind_layers),
        ("a_nested_fallback_has_the_parameters_of_its_prefix", nested_fallbacks),
        ("the_errors_of_a_body_have_their_status_behind_a_layer", body_errors_behind_layers),
    ],
);

async fn waiting(request: Request, next: Next) -> Response {
    request.runtime().sleep(Duration::from_millis(1)).await;
    next.run(request).await.append_header("x-order", "waiting")
}

fn both_kinds(backend: Backend) {
    let inner = Router::new()
        .get("/sync", sync(|_| "sync"))
        .get("/async", async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            "async"
        })
        .post("/echo", sync(Request::into_body))
        .wrap(map_response(|response| response.append_header("x-order", "inner")));
    let refuse = |request: Request| match request.header("x-refuse") {
        None => Ok(request),
        Some(_) => Err(StatusCode::FORBIDDEN),
    };
    let server = Running::start(backend, few_workers(backend), move |_| {
        Router::new()
            .wrap(from_sync(|request, next| {
                next.call(request).map(|response| response.append_header("x-order", "outer"))
            }))
            .wrap(from_fn(waiting))
            .wrap(map_request(refuse))
            .nest("/in", inner)
    });
    let mut client = server.client();
    let order = |answer: &Answer| answer.fields_called("x-order").collect::<Vec<_>>().join(" ");
    for (path, text) in [("/in/sync", "sync"), ("/in/async", "async")] {
        let answer = client.get(path);
        assert_eq!((answer.text(), order(&answer)), (text.to_owned(), "inner waiting outer".to_owned()));
    }
    let body = "x".repeat(200_000);
    client.send(format!(
        "POST /in/echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.answer();
    assert_eq!((answer.text().len(), order(&answer)), (body.len(), "inner waiting outer".to_owned()));
    client.send("GET /in/sync HTTP/1.1\r\nHost: test\r\nX-Refuse: 1\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, order(&answer)), (403, "waiting outer".to_owned()));
    client.send("DELETE /in/sync HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(order(&answer), "inner waiting outer");
}

/// The stages that a handler has reached.
#[derive(Clone, Default)]
struct Seen {
    begun: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

/// Sets a flag when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A server with middleware that waits around a handler that waits for `go`. The peer of the handler has left.
fn leave(backend: Backend, policy: Option<OnDisconnect>, go: &Arc<AtomicBool>) -> (Running, Seen) {
    let (seen, go) = (Seen::default(), go.clone());
    let told = seen.clone();
    let handler = move |request: Request| {
        let (seen, go) = (told.clone(), go.clone());
        async move {
            let _dropped = SetOnDrop(seen.dropped.clone());
            seen.begun.store(true, Ordering::SeqCst);
            while !go.load(Ordering::SeqCst) {
                request.runtime().sleep(Duration::from_millis(1)).await;
            }
            seen.done.store(true, Ordering::SeqCst);
        }
    };
    let server = Running::start(backend, begins_with_head(backend), move |_| {
        let router = match policy {
            Some(policy) => Router::new().get("/", on_disconnect(policy, handler)),
            None => Router::new().get("/", handler),
        };
        Router::new().nest("/in", router.wrap(from_fn(waiting))).wrap(from_fn(waiting))
    });
    let mut client = server.client();
    client.send_get("/in");
    wait_until("the handler has begun", || seen.begun.load(Ordering::SeqCst));
    drop(client);
    (server, seen)
}

fn keeps_policy(backend: Backend) {
    let go = Arc::new(AtomicBool::new(false));
    let (_server, seen) = leave(backend, Some(OnDisconnect::Detach), &go);
    // A handler without a policy, whose peer leaves later, is dropped.
    let (_other, other) = leave(backend, None, &go);
    wait_until("the other handler is dropped", || other.dropped.load(Ordering::SeqCst));
    assert!(!other.done.load(Ordering::SeqCst) && !seen.dropped.load(Ordering::SeqCst));
    go.store(true, Ordering::SeqCst);
    wait_until("the detached handler ends", || seen.done.load(Ordering::SeqCst));
}

fn is_dropped(backend: Backend) {
    let (server, seen) = leave(backend, None, &Arc::default());
    wait_until("the handler is dropped", || seen.dropped.load(Ordering::SeqCst));
    assert!(!seen.done.load(Ordering::SeqCst));
    assert_eq!(server.get("/none").status, 404);
}

fn times(backend: Backend) {
    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);
    let mut config = few_workers(backend);
    config.handler_timeout = SHORT;
    let server = Running::start(backend, config, |_| {
        let longer = async |request: Request| {
            request.runtime().sleep(3 * SHORT).await;
            "late"
        };
        let never = async |_: Request| future::pending::<()>().await;
        let mut options = RouteOptions::default();
        options.timeout = Some(LONG);
        let patient = Router::new()
            .get("/late", longer)
            .get("/never", timeout(SHORT, never))
            .with_options(options)
            .wrap(from_fn(waiting));
        Router::new().get("/late", longer).get("/own", timeout(LONG, longer)).nest("/patient", patient)
    });
    // The options of a request do not apply to the next one of its connection.
    let mut client = server.client();
    assert_eq!(client.get("/own").said(), (200, "late".into()));
    assert_eq!(client.get("/patient/late").said(), (200, "late".into()));
    assert_eq!(client.get("/late").status, 503);
    assert_eq!(server.get("/patient/never").status, 503);
}

fn bodies(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        let read = async |request: Request| request.text().await.map(|text| text.len().to_string());
        let mut options = RouteOptions::default();
        options.body_limit = Some(3 << 20);
        let large = Router::new().post("/", read).post("/small", body_limit(10, read)).with_options(options);
        Router::new().post("/", read).nest("/large", large)
    });
    for (path, len, status) in [
        ("/", 2 << 20, 200),
        ("/", (2 << 20) + 1, 413),
        ("/large", 3 << 20, 200),
        ("/large", (3 << 20) + 1, 413),
        ("/large/small", 10, 200),
        ("/large/small", 11, 413),
    ] {
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len}\r\n\r\n"));
        // The server may refuse the body before it has received it.
        let _ = client.socket.write_all("x".repeat(len).as_bytes());
        assert_eq!(client.answer().status, status, "{len} bytes for {path}");
    }
}

fn state(backend: Backend) {
    struct Name(&'static str);
    let (give, given) = mpsc::channel();
    let app = App::start_with_state(async |runtime: Runtime| {
        runtime.sleep(Duration::from_millis(1)).await;
        let router = Router::new()
            .get("/sync", sync(|request| request.state::<Name>().0))
            .get("/async", async |request: Request| {
                let name = request.state::<Name>();
                request.runtime().sleep(Duration::from_millis(1)).await;
                name.0
            })
            .wrap(from_sync(|request, next| {
                let name = request.state::<Name>().0;
                next.call(request).map(move |response| response.with_header("x-state", name))
            }));
        Ok((router, Name("state")))
    })
    .on_stop(move |name: Arc<Name>| async move { give.send(name.0).expect("the test waits") });
    let server = Launched::app(backend, few_workers(backend), app);
    for path in ["/sync", "/async"] {
        let answer = server.client().get(path);
        assert_eq!((answer.text().as_str(), answer.field("x-state")), ("state", Some("state")));
    }
    server.stop();
    assert_eq!(given.recv(), Ok("state"));
}

fn periodic(backend: Backend) {
    #[derive(Default)]
    struct Calls(AtomicUsize);
    let (give, given) = mpsc::channel();
    let app = App::start_with_state(async |_: Runtime| {
        let router = Router::new()
            .get("/", sync(|request| request.state::<Calls>().0.load(Ordering::SeqCst).to_string()));
        Ok((router, Calls::default()))
    })
    .every(Duration::from_millis(2), async |calls: Arc<Calls>, runtime: Runtime| {
        runtime.blocking(move || calls.0.fetch_add(1, Ordering::SeqCst)).await;
    })
    .every(Duration::MAX, async |_, _| panic!("that is a long time"))
    .on_stop(async move |calls: Arc<Calls>| {
        give.send(calls.0.load(Ordering::SeqCst)).expect("the test waits")
    });
    let server = Launched::app(backend, few_workers(backend), app);
    wait_until("the calls go on", || {
        server.client().get("/").text().parse().is_ok_and(|calls: usize| calls > 2)
    });
    server.stop();
    assert!(given.recv().expect("the stop has run") > 2);
}

fn params_behind_layers(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        let id = |request: Request| request.param("id").expect("a parameter").into_owned();
        let inner = Router::new().get("/fixed", sync(|_| "fixed")).get("/users/{id}", sync(id));
        let layer = layer_fn(|service: HandlerService| service);
        let layered = Router::new().any("/{*rest}", inner).layer(layer);
        Router::new().get("/plain/{id}", sync(id)).merge(layered)
    });
    let mut client = server.client();
    for n in 0..10 {
        assert_eq!(client.get(&format!("/users/alice-{n}")).text(), format!("alice-{n}"));
        assert_eq!(client.get("/fixed").text(), "fixed");
        assert_eq!(client.get(&format!("/plain/bob-{n}")).text(), format!("bob-{n}"));
    }
}

fn nested_fallbacks(backend: Backend) {
    let nested = |name: &'static str| {
        let says = move |request: Request| format!("{name} {:?}", request.param("id"));
        Router::new().fallback(sync(says)).wrap(map_response(|response| response))
    };
    let server = Running::start(backend, few_workers(backend), move |_| {
        Router::new()
            .nest("/api", nested("api"))
            .nest("/{id}", nested("tenant"))
            .nest("/v{id}/x", nested("v"))
    });
    let mut client = server.client();
    for (path, text) in
        [("/api/1", "api None"), ("/a%20b", "tenant Some(\"a b\")"), ("/v1/x/y", "v Some(\"1\")")]
    {
        assert_eq!(client.get(path).said(), (200, text.to_owned()), "{path}");
    }
}

/// A service that limits bodies as the layers of tower-http do.
#[derive(Clone)]
struct Limiting(HandlerService);

impl Service<http::Request<Body>> for Limiting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> HandlerFuture {
        self.0.call(request.map(|body| Limited::new(body, 10)))
    }
}

fn body_errors_behind_layers(backend: Backend) {
    let mut config = begins_with_head(backend);
    config.limits.body = 1000;
    config.body_timeout = Duration::from_millis(100);
    let server = Running::start(backend, config, |_| {
        Router::new().post("/", async |request: Request| request.text().await).layer(layer_fn(Limiting))
    });
    for (body, status) in [
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n", 413),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\n0no chunk\r\n", 400),
        ("Content-Length: 2\r\n\r\na", 408),
    ] {
        let mut client = server.client();
        // The handler reads the body, and so its errors, after the head.
        let (head, rest) = body.split_once("\r\n\r\n").expect("a head");
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{head}\r\n\r\n"));
        assert_eq!(client.answer().status, 100);
        client.send(rest);
        assert_eq!(client.answer().status, status, "{body:?}");
    }
}
