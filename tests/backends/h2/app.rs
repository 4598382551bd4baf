//! The application of the tests of HTTP/2, what its handlers report, and the servers that run it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::stream;
use gearshift::{
    Backend, Body, BodyError, Bytes, Config, HeaderMap, HeaderValue, OnDisconnect, Request, Response, Router,
    Runtime, Stats, StatusCode, on_disconnect, sync, timeout,
};
use test_support::backend::few_workers;
use test_support::server::{Launched, Running};
use test_support::{app as common, wait_until};

const NEVER: Duration = Duration::from_secs(600);

/// Facts about the handlers of a server.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) begun: AtomicUsize,
    pub(super) dropped: AtomicUsize,
    pub(super) done: AtomicUsize,
    pub(super) cancelled: AtomicUsize,
    pub(super) after: AtomicUsize,
    /// The number of bytes that a streamed response has produced.
    pub(super) produced: AtomicU64,
    /// Whether handlers of `/gate` may answer.
    pub(super) is_open: AtomicBool,
    pub(super) body: Mutex<Option<String>>,
}

impl Seen {
    pub(super) fn count(value: &AtomicUsize) -> usize {
        value.load(Ordering::SeqCst)
    }

    pub(super) fn expect(&self, what: &str, value: &AtomicUsize, n: usize) {
        wait_until(what, || Seen::count(value) >= n);
        assert_eq!(Seen::count(value), n, "{what}");
    }

    pub(super) fn expect_begun(&self, n: usize) {
        self.expect("the handlers have begun", &self.begun, n);
    }

    pub(super) fn expect_dropped(&self, n: usize) {
        self.expect("the handlers are dropped", &self.dropped, n);
    }

    /// Waits for the end of `n` handlers of `/read`, none of which may have read a whole body.
    pub(super) fn expect_no_body(&self, n: usize) {
        self.expect_dropped(n);
        let body = lock(&self.body).take();
        assert!(body.is_none_or(|body| !body.starts_with("Ok")), "the handler sees a whole body");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a handler until it is dropped.
struct Waiting(Arc<Seen>);

impl Waiting {
    fn begin(seen: &Arc<Seen>) -> Waiting {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        Waiting(seen.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until the gate is open.
pub(super) async fn gate(seen: &Seen, runtime: &Runtime) {
    while !seen.is_open.load(Ordering::SeqCst) {
        runtime.sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn app(seen: &Arc<Seen>) -> Router {
    let waits = |seen: &Arc<Seen>| {
        let seen = seen.clone();
        move |request: Request| {
            let (seen, waiting) = (seen.clone(), Waiting::begin(&seen));
            async move {
                let token = request.cancel_token();
                let watch = seen.clone();
                request
                    .runtime()
                    .spawn(async move {
                        token.cancelled().await;
                        watch.cancelled.fetch_add(1, Ordering::SeqCst);
                    })
                    .detach();
                gate(&seen, request.runtime()).await;
                seen.done.fetch_add(1, Ordering::SeqCst);
                drop(waiting);
                "waited"
            }
        }
    };
    let (gated, left, rest, short) = (waits(seen), waits(seen), waits(seen), waits(seen));
    let (produced, held, read, after, sent) =
        (seen.clone(), seen.clone(), seen.clone(), seen.clone(), seen.clone());
    let crumbs = seen.clone();
    Router::new()
        .get("/", sync(|_| "hello"))
        .get(
            "/who",
            sync(|request: Request| {
                let client = request.client();
                let (scheme, host) = (client.scheme(), client.host().unwrap_or("-"));
                format!("{:?} {scheme} {host} {:?}", request.version(), request.peer().map(|peer| peer.ip()))
            }),
        )
        .get(
            "/field/{name}",
            sync(|request: Request| {
                let name = request.param("name").unwrap_or_default().into_owned();
                let values: Vec<_> = request.headers().get_all(&name).map(String::from_utf8_lossy).collect();
                values.join("|")
            }),
        )
        .get("/gate", gated)
        .get("/ignore", on_disconnect(OnDisconnect::Ignore, left))
        .get("/detach", on_disconnect(OnDisconnect::Detach, rest))
        .get("/short", timeout(Duration::from_millis(20), short))
        .get("/large", sync(|_| vec![b'x'; LARGE]))
        .get("/medium", sync(|_| vec![b'x'; MEDIUM]))
        .get(
            "/pieces",
            sync(move |_| {
                let seen = produced.clone();
                let pieces = std::iter::repeat_with(move || {
                    seen.produced.fetch_add(PIECE as u64, Ordering::SeqCst);
                    Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PIECE]))
                });
                Response::new(Body::from_stream(stream::iter(pieces.take(PIECES))))
            }),
        )
        .get(
            "/crumbs",
            sync(move |_| {
                let seen = crumbs.clone();
                let crumbs = std::iter::repeat_with(move || {
                    seen.produced.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(Bytes::from_static(b"x"))
                });
                Response::new(Body::from_stream(stream::iter(crumbs)))
            }),
        )
        .get(
            "/begun",
            sync(move |_| {
                let waiting = Waiting::begin(&sent);
                let first = stream::once(Ok::<_, Infallible>(Bytes::from_static(b"begun")));
                let rest = stream::poll_fn(move |_| {
                    let _ = &waiting;
                    std::task::Poll::Pending
                });
                Response::new(Body::from_stream(futures_lite::StreamExt::chain(first, rest)))
            }),
        )
        .post("/length", async |request: Request| {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(piece) = body.chunk().await {
                length += piece?.len();
            }
            Ok::<_, BodyError>(length.to_string())
        })
        .post("/text", async |request: Request| request.text().await)
        .post("/held", move |request: Request| {
            let (seen, waiting) = (held.clone(), Waiting::begin(&held));
            async move {
                gate(&seen, request.runtime()).await;
                drop(waiting);
                Ok::<_, BodyError>(request.into_body().bytes(LARGE).await?.len().to_string())
            }
        })
        .post("/read", move |request: Request| {
            let (seen, waiting) = (read.clone(), Waiting::begin(&read));
            async move {
                let outcome = request.into_body().bytes(LARGE).await;
                *lock(&seen.body) = Some(format!("{:?}", outcome.map(|body| body.len())));
                drop(waiting);
                "read"
            }
        })
        .post("/unread", sync(|_| "unread"))
        .post("/echo", sync(|request: Request| Response::new(request.into_body())))
        .post("/held-echo", sync(|request: Request| Response::new(request.into_body().holding_thread())))
        .post("/trailers", async |request: Request| {
            let mut body = request.into_body();
            let mut data = Vec::new();
            while let Some(piece) = body.chunk().await {
                data.extend_from_slice(&piece?);
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            let body = Body::from(data).with_trailers(async move {
                let mut all = HeaderMap::new();
                all.insert("x-sum", trailers.get("x-sum").cloned().unwrap_or(HeaderValue::from_static("-")));
                all.insert("content-type", HeaderValue::from_static("no/trailer"));
                Some(Ok(all))
            });
            Ok::<_, BodyError>(Response::new(body))
        })
        .get(
            "/status/{code}",
            sync(|request: Request| {
                let code = request.parse_param("code").unwrap_or(500_u16);
                Response::text("a body").with_status(StatusCode::from_u16(code).expect("a status"))
            }),
        )
        .get(
            "/wrong",
            sync(|_| {
                let pieces = [Ok::<_, Infallible>(Bytes::from_static(b"short"))];
                Response::new(Body::from_stream(stream::iter(pieces))).with_header("content-length", 10)
            }),
        )
        .get(
            "/fields",
            sync(|_| {
                Response::text("fields")
                    .with_header("connection", "x-hop")
                    .with_header("keep-alive", "timeout=5")
                    .with_header("transfer-encoding", "gzip")
                    .with_header("x-kept", "yes")
            }),
        )
        .get("/h2/stall", sync(|_| std::thread::sleep(Duration::from_millis(60))))
        .get("/h2/waits", async |request: Request| request.runtime().sleep(Duration::from_millis(60)).await)
        .get("/h2/stall-later", async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            std::thread::sleep(Duration::from_millis(60));
        })
        .get(
            "/large-head",
            sync(|_| {
                let value = HeaderValue::try_from("v".repeat(1000)).expect("a value");
                (0..100).fold(Response::text("large"), |response, _| {
                    response.append_header("x-large", value.clone())
                })
            }),
        )
        .get("/close", sync(|_| Response::text("last").with_header("connection", "close")))
        .get("/upgrade", sync(|_| Response::upgrade(HeaderValue::from_static("loud"), async |_| ())))
        .get("/panic", sync(|_| -> &'static str { panic!("a handler panics, {}", common::ON_PURPOSE) }))
        .get("/panic-later", async |request: Request| -> &'static str {
            request.runtime().sleep(Duration::from_millis(1)).await;
            panic!("a handler panics, {}", common::ON_PURPOSE)
        })
        .get(
            "/after",
            sync(move |_| {
                let seen = after.clone();
                Response::text("first").after(async move {
                    seen.after.fetch_add(1, Ordering::SeqCst);
                })
            }),
        )
        .get(
            "/stats",
            sync(|request: Request| {
                let Stats { requests_in_flight, requests_served, .. } = request.runtime().stats();
                format!("{requests_in_flight} {requests_served}")
            }),
        )
}

pub(super) const LARGE: usize = 8 << 20;
pub(super) const MEDIUM: usize = 200_000;
pub(super) const PIECE: usize = 16 << 10;
const PIECES: usize = LARGE / PIECE;

/// Settings whose timeouts are too long to matter.
pub(super) fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.body_timeout) = (NEVER, NEVER, NEVER);
    (config.handler_timeout, config.write_timeout) = (NEVER, NEVER);
    config
}

pub(super) fn start(backend: Backend, change: impl FnOnce(&mut Config)) -> (Running, Arc<Seen>) {
    let mut config = patient(backend);
    change(&mut config);
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    (Running::start(backend, config, move |_| app(&shared)), seen)
}

pub(super) fn serve(backend: Backend) -> (Running, Arc<Seen>) {
    start(backend, |_| {})
}

pub(super) fn launch(backend: Backend) -> (Launched, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    (Launched::start(backend, patient(backend), move |_| app(&shared)), seen)
}
