//! HTTP/2 on the event loops, and HTTP/1.1 alone on the backends whose threads block. The peer is the client of the
//! crate `h2`, a list of frames, and, where they are installed, curl, nghttp, h2load and gRPC for Python.

mod grpc;
mod peer;
mod programs;
mod raw;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use futures_lite::stream;
use gearshift::{
    Backend, Body, BodyError, Bytes, Config, HeaderMap, HeaderValue, OnDisconnect, Phase, Request, Response,
    Router, Runtime, Stats, StatusCode, TlsConfig, http, on_disconnect, sync, timeout,
};
use h2::Reason;
use h2::client::Builder;
use http::Method;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, app as common, logs, wait_until};

use crate::tls::peer::{connect as connect_tls, shake_hands};
use crate::tls::pki::{Authority, Certified};
use peer::{Peer, answer, read_all, request, run, send_all, with};
use raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING,
    PREFACE, RST_STREAM, Raw, SETTINGS, frame, get, reset, section, settings, window_update,
};

/// The tests of the backends that speak HTTP/2.
pub(crate) const AREA: Area = (
    "h2",
    &[
        ("answers_a_preface_without_tls", prior_knowledge),
        ("takes_the_preface_byte_by_byte", chopped_preface),
        ("is_negotiated_over_tls", negotiated),
        ("needs_the_negotiation_over_tls", not_negotiated),
        ("can_be_switched_off", switched_off),
        ("refuses_a_preface_behind_a_request", late_preface),
        ("begins_after_the_header_of_a_proxy", proxy_header),
        ("answers_requests_in_the_order_of_their_ends", interleaved),
        ("answers_many_requests_at_once", many),
        ("refuses_requests_beyond_the_limit_of_streams", too_many_streams),
        ("takes_a_body_as_the_handler_reads_it", upload),
        ("sends_a_body_as_the_peer_takes_it", download),
        ("takes_the_largest_and_the_smallest_settings", extreme_settings),
        ("gives_the_window_of_unread_bodies_back", unread),
        ("sends_a_large_head", large_head),
        ("echoes_a_body_while_it_arrives", echo),
        ("passes_trailers_both_ways", trailers),
        ("frames_responses_without_a_body", bodiless),
        ("leaves_fields_of_a_connection_out", fields_of_a_connection),
        ("joins_the_crumbs_of_a_cookie", cookies),
        ("refuses_heads_as_http_1_does", refused_heads),
        ("resets_the_stream_of_a_malformed_request", malformed),
        ("refuses_bodies_as_http_1_does", refused_bodies),
        ("resets_a_stream_whose_length_is_wrong", wrong_length),
        ("cuts_a_response_whose_length_is_wrong", wrong_response),
        ("sends_100_continue_when_the_body_is_asked_for", expectation),
        ("has_no_tunnels_and_no_upgrades", upgrades),
        ("drops_the_handler_of_a_stream_that_is_reset", reset_handler),
        ("drops_the_handlers_of_a_connection_that_ends", lost_handler),
        ("leaves_a_handler_alone_if_its_route_says_so", ignored),
        ("detaches_a_handler_if_its_route_says_so", detached),
        ("drops_a_streamed_response_that_is_reset", reset_response),
        ("answers_a_panic_with_500_on_its_stream_alone", panics),
        ("ends_a_late_handler_on_its_stream_alone", late_handler),
        ("ends_a_late_body_on_its_stream_alone", late_body),
        ("does_not_count_the_wait_for_the_body_as_time_of_the_handler", slow_body),
        ("cuts_a_response_that_the_peer_takes_byte_by_byte", slow_reader),
        ("cuts_a_connection_whose_peer_does_not_read", no_reader),
        ("holds_few_pieces_of_a_response_for_a_peer_that_does_not_read", crumbs),
        ("runs_tasks_after_a_response", after),
        ("logs_each_request", access_log),
        ("counts_requests_and_responses", statistics),
        ("counts_the_latency_of_each_route", histograms),
        ("logs_handlers_that_stall_their_loop", stalls),
        ("closes_a_connection_without_requests", idle),
        ("closes_a_connection_without_a_first_request", silent),
        ("closes_a_connection_of_age", age),
        ("closes_a_connection_after_its_last_request", last_request),
        ("refuses_requests_of_a_peer_that_is_deaf_to_goaway", deaf_to_goaway),
        ("closes_a_connection_if_a_handler_says_so", close),
        ("finishes_requests_during_a_stop", stop),
        ("answers_the_first_request_during_a_stop", stop_before_the_first),
        ("cuts_requests_at_a_forced_stop", forced_stop),
        ("ends_a_connection_that_resets_requests_at_once", reset_flood),
        ("ends_a_connection_that_resets_many_requests", slow_reset_flood),
        ("ends_a_connection_whose_requests_run_on", ignored_reset_flood),
        ("keeps_a_connection_that_resets_few_requests", few_resets),
        ("does_not_keep_a_connection_alive_for_pings", pings),
        ("answers_settings_and_pings", settings_flood),
        ("ends_a_connection_with_an_endless_head", endless_head),
        ("ends_a_connection_that_breaks_the_protocol", broken),
        ("survives_garbage", garbage),
        ("serves_curl", programs::curl),
        ("serves_nghttp", programs::nghttp),
        ("serves_h2load", programs::h2load),
        ("serves_grpc", grpc::python),
        ("passes_the_cases_of_httpwg", programs::httpwg),
        ("fails_a_body_with_malformed_trailers", malformed_trailers),
    ],
);

/// The tests of the backends that speak HTTP/1.1 alone.
pub(crate) const WITHOUT: Area = (
    "no_h2",
    &[
        ("a_preface_is_refused_with_505", refused_preface),
        ("http_1_1_is_negotiated_over_tls", only_http1),
        ("curl_falls_back_to_http_1_1", programs::fallback),
    ],
);

const NEVER: Duration = Duration::from_secs(600);

/// Facts about the handlers of a server.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    dropped: AtomicUsize,
    done: AtomicUsize,
    cancelled: AtomicUsize,
    after: AtomicUsize,
    /// The number of bytes that a streamed response has produced.
    produced: AtomicU64,
    /// Whether handlers of `/gate` may answer.
    is_open: AtomicBool,
    body: Mutex<Option<String>>,
}

impl Seen {
    fn count(value: &AtomicUsize) -> usize {
        value.load(Ordering::SeqCst)
    }

    fn expect(&self, what: &str, value: &AtomicUsize, n: usize) {
        wait_until(what, || Seen::count(value) >= n);
        assert_eq!(Seen::count(value), n, "{what}");
    }

    fn expect_begun(&self, n: usize) {
        self.expect("the handlers have begun", &self.begun, n);
    }

    fn expect_dropped(&self, n: usize) {
        self.expect("the handlers are dropped", &self.dropped, n);
    }

    /// Waits for the end of `n` handlers of `/read`, none of which may have read a whole body.
    fn expect_no_body(&self, n: usize) {
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
async fn gate(seen: &Seen, runtime: &Runtime) {
    while !seen.is_open.load(Ordering::SeqCst) {
        runtime.sleep(Duration::from_millis(2)).await;
    }
}

fn app(seen: &Arc<Seen>) -> Router {
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

const LARGE: usize = 8 << 20;
const MEDIUM: usize = 200_000;
const PIECE: usize = 16 << 10;
const PIECES: usize = LARGE / PIECE;

/// Settings whose timeouts are too long to matter.
fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.body_timeout) = (NEVER, NEVER, NEVER);
    (config.handler_timeout, config.write_timeout) = (NEVER, NEVER);
    config
}

fn start(backend: Backend, change: impl FnOnce(&mut Config)) -> (Running, Arc<Seen>) {
    let mut config = patient(backend);
    change(&mut config);
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    (Running::start(backend, config, move |_| app(&shared)), seen)
}

fn serve(backend: Backend) -> (Running, Arc<Seen>) {
    start(backend, |_| {})
}

fn is_goaway(frame: &Frame) -> bool {
    frame.kind == GOAWAY
}

/// The code of the last `GOAWAY`.
fn last_goaway(frames: &[Frame]) -> Option<u32> {
    frames.iter().rev().find(|frame| is_goaway(frame)).map(Frame::code)
}

// How a connection begins.

fn prior_knowledge(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let hello = peer.get("/").await;
        assert_eq!(hello.said(), (200, "hello"));
        assert_eq!(hello.field("content-length"), Some("5"));
        assert_eq!(hello.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(hello.field("server"), Some("gearshift"));
        assert!(hello.field("date").is_some() && hello.field("connection").is_none());
        assert_eq!(peer.get("/who").await.text(), "HTTP/2.0 http test Some(127.0.0.1)");
        assert_eq!(peer.get("/missing").await.status, 404);
        assert_eq!(peer.post("/text", "posted").await.said(), (200, "posted"));
        peer.ended().await.expect("an end in order");
    });
    assert_eq!(server.get("/").text(), "hello", "HTTP/1.1 is spoken at the same address");
}

fn chopped_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut raw = Raw(server.client());
    for byte in [PREFACE, &settings(&[]), &get(1, "/")].concat() {
        raw.send([byte]);
    }
    let head = raw.expect("a response", |frame| frame.kind == HEADERS);
    assert_eq!(head.stream, 1);
    let body = raw.expect("its body", |frame| frame.kind == DATA);
    assert_eq!((body.payload.as_slice(), body.flags), (&b"hello"[..], END_STREAM));
}

/// A server with TLS, and the settings of clients that offer these protocols.
fn with_tls(
    backend: Backend,
    change: impl FnOnce(&mut Config),
) -> (Running, impl Fn(&[&[u8]]) -> Arc<gearshift::rustls::ClientConfig>) {
    let authority = Authority::new();
    let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
    let tls = TlsConfig::from_pem(pem, key_pem).expect("a certificate and its key");
    let mut config = patient(backend);
    config.tls = Some(tls);
    change(&mut config);
    let server = Running::start(backend, config, |_| {
        app(&Arc::default()).get(
            "/alpn",
            sync(|request: Request| {
                let alpn = request.tls().and_then(|tls| tls.alpn()).unwrap_or(b"-");
                format!("{:?} {}", request.version(), String::from_utf8_lossy(alpn))
            }),
        )
    });
    let client = move |protocols: &[&[u8]]| {
        let mut client =
            Arc::unwrap_or_clone(crate::tls::peer::client(&authority, crate::tls::peer::VERSIONS[1], None));
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(client)
    };
    (server, client)
}

/// The protocol that a server negotiates.
fn negotiate(server: &Running, client: &Arc<gearshift::rustls::ClientConfig>) -> Option<Vec<u8>> {
    let mut peer = connect_tls(server.addr(), client, "localhost");
    shake_hands(&mut peer).expect("a handshake");
    peer.socket.conn.alpn_protocol().map(<[u8]>::to_vec)
}

fn negotiated(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    assert_eq!(negotiate(&server, &client(&[b"http/1.1", b"h2"])).as_deref(), Some(&b"h2"[..]));
    assert_eq!(negotiate(&server, &client(&[b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let mut old = connect_tls(server.addr(), &client(&[b"http/1.1"]), "localhost");
    assert_eq!(old.get("/alpn").text(), "HTTP/1.1 http/1.1");
    // The frames over TLS, and the end of the session.
    let mut new = connect_tls(server.addr(), &client(&[b"h2"]), "localhost");
    new.send([PREFACE, &settings(&[]), &get(1, "/alpn")].concat());
    let mut received = Vec::new();
    wait_until("the response", || {
        received.extend(new.exactly(1).expect("a byte"));
        received.ends_with(b"HTTP/2.0 h2")
    });
    server.shutdown().graceful();
    new.send(frame(SETTINGS, ACK, 0, &[]));
    // The connection ends with GOAWAY and `close_notify`, although the peer does not reply to the PING.
    let rest = crate::tls::peer::read_to_end(&mut new);
    assert!(rest.1, "the session is ended in order");
}

fn not_negotiated(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let mut peer = connect_tls(server.addr(), &client(protocols), "localhost");
        peer.send(PREFACE);
        assert_eq!(peer.answer().status, 505);
    }
}

fn switched_off(backend: Backend) {
    let off = |config: &mut Config| config.http2.enabled = false;
    let (server, client) = with_tls(backend, off);
    assert_eq!(negotiate(&server, &client(&[b"h2", b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let (server, _) = start(backend, off);
    let mut peer = server.client();
    peer.send(PREFACE);
    assert_eq!(peer.answer().said(), (505, "the version is not supported".to_owned()));
}

fn late_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut peer = server.client();
    assert_eq!(peer.get("/").status, 200);
    peer.send(PREFACE);
    assert_eq!(peer.answer().status, 505);
}

fn proxy_header(backend: Backend) {
    let (server, _) =
        start(backend, |config| config.proxy_protocol_from = "127.0.0.1".parse().expect("a network"));
    let mut raw = Raw(server.client());
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
    raw.send([header, PREFACE, &settings(&[]), &get(1, "/who")].concat());
    let body = raw.expect("a response", |frame| frame.kind == DATA);
    assert_eq!(String::from_utf8_lossy(&body.payload), "HTTP/2.0 http test Some(192.0.2.7)");
}

// Streams.

fn interleaved(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let slow = peer.send(request(Method::GET, "/gate")).await;
        let (held, mut body) = peer.begin(request(Method::POST, "/held")).await;
        send_all(&mut body, Bytes::from_static(b"half "), false).await.expect("the server reads");
        seen.expect_begun(2);
        assert_eq!(peer.get("/").await.text(), "hello");
        assert_eq!(peer.get("/large").await.body.len(), LARGE);
        send_all(&mut body, Bytes::from_static(b"done"), true).await.expect("the server reads");
        assert_eq!(Seen::count(&seen.done), 0);
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(slow).await.expect("a response").text(), "waited");
        assert_eq!(answer(held).await.expect("a response").text(), "9");
    });
}

fn many(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut responses = Vec::new();
        for n in 0..300_usize {
            let path = ["/", "/medium", "/field/x-n"][n % 3];
            let head = with(request(Method::GET, path), "x-n", "n");
            responses.push((path, tokio::spawn(answer(peer.send(head).await))));
        }
        for (path, response) in responses {
            let answer = response.await.expect("a task").expect("a response");
            let expected = if path == "/medium" { MEDIUM } else { answer.text().len() };
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, expected), "{path}");
        }
    });
}

fn too_many_streams(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_streams = 2);
    let mut raw = Raw::connect(server.addr(), &[]);
    let first = raw.expect("settings", |frame| frame.kind == SETTINGS);
    assert!(first.payload.windows(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]), "{first:?}");
    raw.send([get(1, "/gate"), get(3, "/gate"), get(5, "/gate")].concat());
    let refused = raw.expect("the refusal", |frame| frame.kind == RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (5, Reason::REFUSED_STREAM.into()));
    seen.expect_begun(2);
    seen.is_open.store(true, Ordering::SeqCst);
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.push(raw.expect("a response", |frame| frame.kind == DATA).stream);
    }
    raw.send(get(7, "/"));
    assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).stream, 7);
}

// Bodies.

fn upload(backend: Backend) {
    const WINDOW: usize = 100_000;
    let (server, seen) = start(backend, |config| config.http2.stream_window = WINDOW as u32);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/held")).await;
        // The window of the server admits so much, and no more while the handler does not read.
        let mut sent = 0;
        wait_for_settings(&mut peer).await;
        body.reserve_capacity(LARGE);
        while sent < WINDOW {
            let room = match body.capacity() {
                0 => poll_fn(|cx| body.poll_capacity(cx)).await.expect("open").expect("room"),
                room => room,
            };
            sent += room;
            body.send_data(vec![0; room].into(), false).expect("the window has room");
            body.reserve_capacity(LARGE);
        }
        assert_eq!(sent, WINDOW);
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello", "another request is not delayed");
        assert_eq!(body.capacity(), 0);
        seen.is_open.store(true, Ordering::SeqCst);
        send_all(&mut body, vec![0; LARGE - WINDOW].into(), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), LARGE.to_string());
    });
}

/// Waits until the settings of the server have arrived: they precede every response.
async fn wait_for_settings(peer: &mut Peer) {
    assert_eq!(peer.get("/").await.status, 200);
}

fn download(backend: Backend) {
    const WINDOW: u32 = 70_000;
    let (server, seen) = serve(backend);
    run(async {
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(1 << 20);
        let mut peer = Peer::connect_with(server.addr(), &builder).await;
        let response = peer.send(request(Method::GET, "/pieces")).await.await.expect("a response");
        let mut body = response.into_body();
        let mut received = 0;
        while received < WINDOW as usize {
            received += body.data().await.expect("a piece").expect("it arrives").len();
        }
        assert_eq!(received, WINDOW as usize);
        // The other request has been answered after all that the window admits.
        assert_eq!(peer.get("/").await.text(), "hello");
        let produced = seen.produced.load(Ordering::SeqCst);
        let most = u64::from(WINDOW) + 64 * 1024 + 2 * PIECE as u64;
        assert!(produced <= most, "{produced} of {most} bytes were produced");
        body.flow_control().release_capacity(received).expect("the bytes were received");
        let (rest, _) = read_all(body).await.expect("the rest");
        assert_eq!(received + rest.len(), LARGE);
    });
}

fn extreme_settings(backend: Backend) {
    use gearshift::Http2;
    for (window, streams, buffer) in
        [(Http2::FRAME, 1, Http2::FRAME), (Http2::MAX_WINDOW, u32::MAX, Http2::MAX_WINDOW)]
    {
        let (server, _) = start(backend, |config| {
            let http2 = &mut config.http2;
            (http2.stream_window, http2.max_streams, http2.send_buffer) = (window, streams, buffer as usize);
            http2.connection_window = window.max(Http2::MIN_CONNECTION_WINDOW);
            http2.max_resets = streams;
        });
        run(async {
            let mut peer = Peer::connect(server.addr()).await;
            assert_eq!(peer.get("/").await.text(), "hello");
            let body = vec![b'x'; 200_000];
            let (response, mut stream) = peer.begin(request(Method::POST, "/echo")).await;
            let sent = body.clone();
            let sending = tokio::spawn(async move { send_all(&mut stream, sent.into(), true).await });
            let echo = answer(response).await.expect("a response");
            sending.await.expect("a task").expect("the server reads");
            assert!(echo.status == 200 && echo.body == body, "{window}");
        });
    }
}

/// Bodies that no handler reads fill the window of the connection several times.
fn unread(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        wait_for_settings(&mut peer).await;
        for _ in 0..20 {
            let (response, mut body) = peer.begin(request(Method::POST, "/unread")).await;
            // The server may reset the stream after its response, before it has the whole body.
            let _ = send_all(&mut body, vec![0; 200_000].into(), true).await;
            assert_eq!(response.await.expect("a response").status(), 200);
        }
        assert_eq!(peer.post("/length", vec![0; LARGE]).await.text(), LARGE.to_string());
    });
}

/// The head needs several frames.
fn large_head(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut builder = Builder::new();
        let builder = builder.max_header_list_size(1 << 20);
        let mut peer = Peer::connect_with(server.addr(), builder).await;
        let answer = peer.get("/large-head").await;
        assert_eq!((answer.said(), answer.fields.get_all("x-large").iter().count()), ((200, "large"), 100));
        assert_eq!(peer.get("/").await.text(), "hello");
    });
}

fn echo(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/echo")).await;
        send_all(&mut body, Bytes::from_static(b"first"), false).await.expect("the server reads");
        let mut echo = response.await.expect("a response").into_body();
        assert_eq!(echo.data().await.expect("a piece").expect("it arrives"), "first");
        let sending = tokio::spawn(async move { send_all(&mut body, vec![7; LARGE].into(), true).await });
        let (rest, _) = read_all(echo).await.expect("the rest");
        assert!(rest.len() == LARGE && rest.iter().all(|byte| *byte == 7));
        sending.await.expect("a task").expect("the server reads");
    });
}

fn trailers(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for (has_trailers, expected) in [(true, "7"), (false, "-")] {
            let (response, mut body) = peer.begin(request(Method::POST, "/trailers")).await;
            send_all(&mut body, Bytes::from_static(b"data"), !has_trailers).await.expect("the server reads");
            if has_trailers {
                let mut fields = HeaderMap::new();
                fields.insert("x-sum", HeaderValue::from_static("7"));
                body.send_trailers(fields).expect("the server reads");
            }
            let answer = answer(response).await.expect("a response");
            assert_eq!((answer.said(), answer.field("content-length")), ((200, "data"), None));
            let trailers = answer.trailers.expect("trailers");
            assert_eq!(trailers.get("x-sum").map(HeaderValue::as_bytes), Some(expected.as_bytes()));
            assert_eq!(trailers.len(), 1, "{trailers:?}");
        }
        // A field that is no trailer.
        let (response, mut body) = peer.begin(request(Method::POST, "/trailers")).await;
        let mut fields = HeaderMap::new();
        fields.insert("authorization", HeaderValue::from_static("x"));
        body.send_trailers(fields).expect("the server reads");
        let refused = answer(response).await.expect("a response");
        assert_eq!(refused.said(), (400, "a trailer field is not allowed as such"));
    });
}

fn bodiless(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for (method, path, status, length) in [
            (Method::HEAD, "/", 200, Some("5")),
            (Method::HEAD, "/large", 200, Some("8388608")),
            (Method::HEAD, "/pieces", 200, None),
            (Method::GET, "/status/204", 204, None),
            (Method::GET, "/status/205", 205, Some("0")),
            (Method::GET, "/status/304", 304, None),
            (Method::OPTIONS, "/", 204, None),
        ] {
            let response = peer.send(request(method.clone(), path)).await.await.expect("a response");
            let is_end = response.body().is_end_stream();
            assert_eq!(response.status(), status, "{method} {path}");
            let given = response.headers().get("content-length").map(|value| value.to_str().unwrap_or("?"));
            assert_eq!((given, is_end), (length, true), "{method} {path}");
        }
    });
}

fn fields_of_a_connection(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let answer = peer.get("/fields").await;
        assert_eq!((answer.said(), answer.field("x-kept")), ((200, "fields"), Some("yes")));
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
            assert_eq!(answer.field(name), None);
        }
    });
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("X", "y")]
    {
        let mut raw = Raw::connect(server.addr(), &[]);
        let head = section("GET", "/", &[(name, value)]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
        let refused = raw.expect(name, |frame| frame.stream == 1 || is_goaway(frame));
        assert_eq!(refused.code(), u32::from(Reason::PROTOCOL_ERROR), "{name}: {refused:?}");
    }
}

fn cookies(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut head = request(Method::GET, "/field/cookie");
        for crumb in ["a=1", "b=2"] {
            head = with(head, "cookie", crumb);
        }
        let response = peer.send(head).await;
        assert_eq!(answer(response).await.expect("a response").text(), "a=1; b=2");
        let head = with(request(Method::GET, "/field/host"), "host", "test");
        let response = peer.send(head).await;
        assert_eq!(answer(response).await.expect("a response").text(), "test");
    });
}

fn refused_heads(backend: Backend) {
    let (server, _) = start(backend, |config| {
        let limits = &mut config.limits;
        (limits.request_line, limits.field_line, limits.fields, limits.head) = (100, 200, 10, 480);
    });
    let long = "x".repeat(120);
    let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| (name, "")).into();
    for (method, path, fields, status, text) in [
        ("GET", "/%zz", vec![], 400, "the request target is not valid for its method"),
        ("GET", "*", vec![], 400, "the request target is not valid for its method"),
        ("GET", &format!("/{}", &long[..100]), vec![], 414, "the request line is too long"),
        ("GET", "/", many, 431, "there are too many header fields"),
        (
            "GET",
            "/",
            vec![("a", &long[..]), ("b", &long), ("c", &long), ("d", &long)],
            431,
            "the header fields are too large",
        ),
        ("GET", "/", vec![("expect", "tea")], 417, "the expectation cannot be met"),
        ("HEAD", "/", vec![("expect", "tea")], 417, ""),
        ("GET", "/", vec![("host", "test")], 200, "hello"),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &section(method, path, &fields)));
        let head = raw.expect(text, |frame| frame.kind == HEADERS);
        let shown = format!("{method} {path} {fields:?}");
        assert_eq!(head.flags & END_STREAM != 0, text.is_empty(), "{shown}");
        if !text.is_empty() {
            let body = raw.expect(text, |frame| frame.kind == DATA);
            assert_eq!(String::from_utf8_lossy(&body.payload), text, "{shown}");
        }
        // The status is a literal, or one of the static table of HPACK.
        let in_table = [(200, 0x88), (400, 0x8c)].into_iter().find(|(known, _)| *known == status);
        match in_table {
            Some((_, index)) => assert_eq!(head.payload[0], index, "{shown}"),
            None => assert_ne!(head.payload[0] & 0x80, 0x80, "{shown}"),
        }
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

fn malformed(backend: Backend) {
    let (server, seen) = serve(backend);
    let connect =
        [0, 7, b':', b'm', b'e', b't', b'h', b'o', b'd', 7, b'C', b'O', b'N', b'N', b'E', b'C', b'T'];
    for (head, what) in [
        (section("GET", "/gate", &[("host", "other")]), "two hosts"),
        (section("GET", "/gate", &[("x", " a")]), "a space before a value"),
        (section("GET", "/gate", &[("x", "a\t")]), "a tab behind a value"),
        (section("GET", "", &[]), "no path"),
        (section("GET", "/gate", &[(":path", "/")]), "two paths"),
        (section("GET", "/gate", &[(":status", "200")]), "a field of responses"),
        (connect.to_vec(), "a CONNECT without an authority"),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
        let reset = raw.expect(what, |frame| frame.kind == RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (1, Reason::PROTOCOL_ERROR.into()), "{what}");
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
    seen.expect_begun(0);
}

fn refused_bodies(backend: Backend) {
    let (server, _) = start(backend, |config| config.limits.body = 1000);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let announced = with(request(Method::POST, "/length"), "content-length", "1001");
        let (response, _body) = peer.begin(announced).await;
        assert_eq!(answer(response).await.expect("a response").said(), (413, "the body is too large"));
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        send_all(&mut body, vec![0; 1001].into(), false).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").said(), (413, "the body is too large"));
        assert_eq!(peer.post("/length", vec![0; 1000]).await.said(), (200, "1000"));
    });
}

fn wrong_length(backend: Backend) {
    let (server, seen) = serve(backend);
    for (n, body) in ["too short", "much too long"].into_iter().enumerate() {
        let mut raw = Raw::connect(server.addr(), &[]);
        let head = section("POST", "/read", &[("content-length", "11")]);
        raw.send(frame(HEADERS, END_HEADERS, 1, &head));
        raw.send(frame(DATA, END_STREAM, 1, body.as_bytes()));
        let reset = raw.expect(body, |frame| frame.stream == 1);
        assert_eq!((reset.kind, reset.code()), (RST_STREAM, Reason::PROTOCOL_ERROR.into()), "{body}");
        seen.expect_no_body(n + 1);
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

fn malformed_trailers(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(frame(HEADERS, END_HEADERS, 1, &section("POST", "/read", &[])));
    raw.send(frame(DATA, 0, 1, b"data"));
    seen.expect_begun(1);
    let capital = [&[0, 1][..], b"X", &[1], b"y"].concat();
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &capital));
    let reset = raw.expect("a reset", |frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert_eq!(reset.code(), u32::from(Reason::PROTOCOL_ERROR));
    seen.expect_no_body(1);
}

fn wrong_response(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let response = peer.send(request(Method::GET, "/wrong")).await;
        let error = answer(response).await.expect_err("the body is too short");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(peer.get("/").await.text(), "hello");
    });
}

fn expectation(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let expecting =
            |path| with(with(request(Method::POST, path), "expect", "100-continue"), "content-length", "4");
        let (mut response, mut body) = peer.begin(expecting("/held")).await;
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello");
        let early = poll_fn(|cx| std::task::Poll::Ready(response.poll_informational(cx))).await;
        assert!(early.is_pending(), "the body is not asked for yet");
        seen.is_open.store(true, Ordering::SeqCst);
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.expect("an interim response");
        assert_eq!(interim.expect("it arrives").status(), StatusCode::CONTINUE);
        send_all(&mut body, Bytes::from_static(b"body"), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), "4");
        // A handler that does not read the body.
        let (response, _body) = peer.begin(expecting("/unread")).await;
        assert_eq!(answer(response).await.expect("a response").text(), "unread");
        let (mut response, mut body) = peer.begin(expecting("/echo")).await;
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.expect("an interim response");
        assert_eq!(interim.expect("it arrives").status(), StatusCode::CONTINUE);
        send_all(&mut body, Bytes::from_static(b"echo"), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), "echo");
    });
}

fn upgrades(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let refused = peer.get("/upgrade").await;
        assert_eq!((refused.status.as_u16(), refused.field("upgrade")), (426, None));
        let connect = http::Request::builder().method(Method::CONNECT).uri("test:80");
        let response = peer.send(connect.body(()).expect("a valid request")).await;
        let refused = answer(response).await.expect("a response");
        assert_eq!(refused.said(), (501, "a tunnel needs HTTP/1.1"));
        assert_eq!(peer.get("/status/101").await.status, 500, "no interim response of a handler");
    });
}

// The end of an exchange.

fn reset_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        let (given_up, mut body) = peer.begin(request(Method::GET, "/gate")).await;
        seen.expect_begun(2);
        body.send_reset(Reason::CANCEL);
        seen.expect_dropped(1);
        seen.expect("the token is cancelled", &seen.cancelled, 1);
        assert_eq!(Seen::count(&seen.done), 0);
        drop(given_up);
        assert_eq!(peer.get("/").await.text(), "hello");
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
    });
}

fn lost_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    for close in [|client: Client| drop(client), |client: Client| client.half_close()] {
        let before = Seen::count(&seen.begun);
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send([get(1, "/gate"), get(3, "/begun")].concat());
        raw.expect("a piece", |frame| frame.kind == DATA && frame.payload == b"begun");
        seen.expect_begun(before + 2);
        close(raw.0);
        seen.expect_dropped(before + 2);
    }
}

fn ignored(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/ignore"));
    seen.expect_begun(1);
    drop(raw);
    // A connection that began later is served, and the handler still waits.
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
    assert_eq!((Seen::count(&seen.dropped), Seen::count(&seen.done)), (0, 0));
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handler is done", &seen.done, 1);
}

fn detached(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send([get(1, "/detach"), get(3, "/gate")].concat());
    seen.expect_begun(2);
    raw.send([reset(1), reset(3)].concat());
    seen.expect_dropped(1);
    seen.expect("the tokens are cancelled", &seen.cancelled, 2);
    drop(raw);
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handler is done", &seen.done, 1);
}

fn reset_response(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/begun"));
    raw.expect("a piece", |frame| frame.kind == DATA);
    raw.send(reset(1));
    seen.expect_dropped(1);
    raw.send(get(3, "/"));
    assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
}

fn panics(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        for path in ["/panic", "/panic-later"] {
            assert_eq!(peer.get(path).await.status, 500);
        }
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
        assert_eq!(peer.get("/").await.text(), "hello", "the connection stays open");
    });
}

// Deadlines.

fn late_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        assert_eq!(peer.get("/short").await.status, 503);
        seen.expect_dropped(1);
        seen.expect("the token is cancelled", &seen.cancelled, 1);
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
        assert_eq!(peer.get("/").await.text(), "hello", "the connection stays open");
    });
}

fn late_body(backend: Backend) {
    let (server, seen) = start(backend, |config| config.body_timeout = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        send_all(&mut body, Bytes::from_static(b"begun"), false).await.expect("the server reads");
        let late = answer(response).await.expect("a response");
        assert_eq!(late.said(), (408, "the body came too slowly"));
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
    });
}

/// The wait for the body lasts longer than the handler may take.
fn slow_body(backend: Backend) {
    let (server, _) = start(backend, |config| config.handler_timeout = Duration::from_millis(100));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        for _ in 0..4 {
            // Each pause ends with the timeout of another handler, which began at the same time.
            assert_eq!(peer.get("/gate").await.status, 503);
            send_all(&mut body, Bytes::from_static(b"x"), false).await.expect("the server reads");
        }
        body.send_data(Bytes::new(), true).expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").said(), (200, "4"));
    });
}

/// The peer admits a byte at a time, faster than the timeout, and slower than the minimum rate.
fn slow_reader(backend: Backend) {
    let (server, _) = start(backend, |config| {
        config.write_timeout = Duration::from_millis(100);
        config.min_rate = 1_000_000;
    });
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, 1)]);
    raw.send(get(1, "/large"));
    let mut received = 0;
    let reset = loop {
        let frame = raw.expect("the end of the stream", |frame| matches!(frame.kind, DATA | RST_STREAM));
        if frame.kind == RST_STREAM {
            break frame;
        }
        received += frame.payload.len();
        raw.send(window_update(1, 1));
    };
    assert_eq!((reset.stream, reset.code()), (1, Reason::INTERNAL_ERROR.into()));
    assert!(received < LARGE);
    // A peer that takes the whole response is not late.
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/large").await.body.len(), LARGE) });
}

fn no_reader(backend: Backend) {
    let (server, seen) = start(backend, |config| config.write_timeout = Duration::from_millis(100));
    const MAX: u32 = (1 << 31) - 1;
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, MAX)]);
    raw.send(window_update(0, MAX - 65_535));
    for stream in 0..10 {
        raw.send(get(2 * stream + 1, "/large"));
    }
    raw.send(get(21, "/begun"));
    seen.expect_begun(1);
    // The socket of the peer takes what the system has room for.
    seen.expect_dropped(1);
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
    drop(raw);
}

// After the response.

/// Pieces of one byte cost much more memory than a byte each.
fn crumbs(backend: Backend) {
    const STREAMS: u32 = 20;
    /// The buffers of the system have room for less than half as many, as frames. Without a limit, the server holds more
    /// than that many beside them: 64 Ki for each response.
    const MOST: u64 = 1_000_000;
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    raw.send(window_update(0, (1 << 31) - 65_536));
    for n in 0..STREAMS {
        raw.send(get(2 * n + 1, "/crumbs"));
    }
    raw.send(get(2 * STREAMS + 1, "/gate"));
    seen.expect_begun(1);
    let produced = seen.produced.load(Ordering::SeqCst);
    assert!(produced < MOST, "{produced} pieces");
    // All responses go on as the peer reads.
    let mut streams: Vec<_> = (0..STREAMS).map(|n| 2 * n + 1).collect();
    while !streams.is_empty() {
        let data = raw.expect("a piece", |frame| frame.kind == DATA);
        assert_eq!(data.payload, b"x");
        streams.retain(|stream| *stream != data.stream);
    }
    while seen.produced.load(Ordering::SeqCst) <= produced {
        raw.expect("a piece", |frame| frame.kind == DATA);
    }
}

fn after(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for n in 1..=3 {
            assert_eq!(peer.get("/after").await.text(), "first");
            seen.expect("the task runs", &seen.after, n);
        }
    });
    // The peer admits no byte, and leaves.
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
    raw.send(get(1, "/after"));
    raw.expect("a head", |frame| frame.kind == HEADERS);
    assert_eq!(Seen::count(&seen.after), 3);
    raw.send(reset(1));
    seen.expect("the task runs", &seen.after, 4);
}

fn access_log(backend: Backend) {
    let (server, seen) = start(backend, |config| config.access_log = true);
    let mut raw = Raw::connect(server.addr(), &[]);
    let client = raw.0.socket.local_addr().expect("a connected socket");
    let lines = || {
        let lines = logs::lines(logs::ACCESS, &format!("{client} "));
        let parts = |line: &String| {
            let (_, rest) = line.split_once("] ").expect("a line");
            let (request, rest) = rest.rsplit_once("\" ").expect("a line");
            let mut words = rest.split(' ');
            let (status, bytes) = (words.next().unwrap_or("-"), words.next().unwrap_or("-"));
            let end = if words.next_back() == Some("cut") { " cut" } else { "" };
            format!("{}\" {status} {bytes}{end}", request)
        };
        lines.iter().map(parts).collect::<Vec<_>>()
    };
    let mut expected = Vec::new();
    let mut expect = |line: &str| {
        expected.push(line.to_owned());
        wait_until(line, || lines().len() >= expected.len());
        assert_eq!(lines(), expected);
    };
    raw.send(get(1, "/gate"));
    seen.expect_begun(1);
    raw.send(get(3, "/?q"));
    expect("\"GET /?q HTTP/2.0\" 200 5");
    raw.send(get(5, "/begun"));
    raw.expect("a piece", |frame| frame.kind == DATA && frame.stream == 5);
    raw.send(reset(5));
    expect("\"GET /begun HTTP/2.0\" 200 5 cut");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 7, &section("GET", "/%zz", &[])));
    expect("\"-\" 400 46");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 9, &section("GET", "/", &[("host", "other")])));
    expect("\"GET / HTTP/2.0\" - 0");
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 11, &section("HEAD", "/", &[])));
    expect("\"HEAD / HTTP/2.0\" 200 0");
    seen.is_open.store(true, Ordering::SeqCst);
    expect("\"GET /gate HTTP/2.0\" 200 6");
    seen.is_open.store(false, Ordering::SeqCst);
    raw.send(get(13, "/gate"));
    seen.expect_begun(3);
    drop(raw);
    expect("\"GET /gate HTTP/2.0\" - 0");
}

fn statistics(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting =
            [peer.send(request(Method::GET, "/gate")).await, peer.send(request(Method::GET, "/gate")).await];
        seen.expect_begun(2);
        // The request that asks is in flight as well.
        assert_eq!(peer.get("/stats").await.text(), "3 0");
        assert_eq!(peer.get("/stats").await.text(), "3 1");
        seen.is_open.store(true, Ordering::SeqCst);
        for response in waiting {
            assert_eq!(answer(response).await.expect("a response").text(), "waited");
        }
        assert_eq!(peer.get("/stats").await.text(), "1 4");
    });
}

/// The responses of two routes alternate on the thread.
fn histograms(backend: Backend) {
    let mut config = patient(backend);
    config.route_histograms = 10;
    let (seen, (tell, told)) = (Arc::new(Seen::default()), mpsc::channel());
    let shared = seen.clone();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime).expect("the test waits");
        app(&shared)
    });
    let runtime = told.recv().expect("the application has started");
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting =
            [peer.send(request(Method::GET, "/gate")).await, peer.send(request(Method::GET, "/gate")).await];
        seen.expect_begun(2);
        for path in ["/", "/missing", "/"] {
            peer.get(path).await;
        }
        seen.is_open.store(true, Ordering::SeqCst);
        for response in waiting {
            answer(response).await.expect("a response");
        }
    });
    let counts = || {
        let routes = runtime.stats().routes;
        let mut counts: Vec<_> = routes.iter().map(|route| (route.route, route.count())).collect();
        counts.sort();
        counts
    };
    wait_until("all requests are counted", || counts() == [("(none)", 1), ("/", 2), ("/gate", 2)]);
}

fn stalls(backend: Backend) {
    let (server, _) = start(backend, |config| config.stall_threshold = Duration::from_millis(20));
    let lines = |route: &str| {
        let lines = logs::lines(logs::STALL, &format!("{route} has held up"));
        lines.iter().filter(|line| line.contains(&format!("({backend})"))).count()
    };
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for path in ["/h2/stall", "/h2/stall-later", "/h2/waits"] {
            assert_eq!(peer.get(path).await.status, 200);
        }
    });
    wait_until("the stalls are logged", || lines("/h2/stall") > 0 && lines("/h2/stall-later") > 0);
    assert_eq!(lines("/h2/waits"), 0, "a handler that waits is logged");
}

// The end of a connection.

fn idle(backend: Backend) {
    let (server, seen) = start(backend, |config| config.keep_alive = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        seen.expect_begun(1);
        // Another connection is idle for as long, and ends.
        let mut other = Peer::connect(server.addr()).await;
        assert_eq!(other.get("/").await.text(), "hello");
        other.closed().await.expect("an end in order");
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
}

fn silent(backend: Backend) {
    let (server, _) = start(backend, |config| config.header_timeout = Duration::from_millis(50));
    // Nothing behind the preface; no request; a part of a request.
    for bytes in [
        PREFACE[..20].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &settings(&[])].concat(),
        [PREFACE, &settings(&[]), &get(1, "/")[..12]].concat(),
    ] {
        let mut raw = Raw(server.client());
        raw.send(&bytes);
        let frames = raw.rest();
        if bytes.len() > PREFACE.len() {
            assert_eq!(last_goaway(&frames), Some(0), "{frames:?}");
        }
    }
}

fn age(backend: Backend) {
    let (server, _) = start(backend, |config| config.max_age = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        assert_eq!(peer.get("/").await.text(), "hello");
        peer.closed().await.expect("an end in order");
    });
}

fn last_request(backend: Backend) {
    let (server, _) = start(backend, |config| config.max_requests = Some(2));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for _ in 0..2 {
            assert_eq!(peer.get("/large").await.body.len(), LARGE);
        }
        peer.closed().await.expect("an end in order");
    });
}

/// A peer that does not reply to the `PING` behind `GOAWAY`, and sends further requests.
fn deaf_to_goaway(backend: Backend) {
    let (server, seen) = start(backend, |config| {
        (config.max_requests, config.linger) = (Some(2), Duration::from_millis(50));
        config.http2.max_resets = 3;
    });
    let mut raw = Raw::connect(server.addr(), &[]);
    // The connection is never without a request.
    raw.send([get(1, "/gate"), get(3, "/")].concat());
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    let mut next = (5..).step_by(2);
    let end = loop {
        assert!(Instant::now() < deadline, "the connection takes requests for ever");
        // The replies pace the peer.
        let frame = raw.try_frame_of(&[DATA, RST_STREAM, GOAWAY]).expect("a reply");
        match frame.kind {
            RST_STREAM => {
                assert_eq!(frame.code(), u32::from(Reason::REFUSED_STREAM));
                refused += 1;
            }
            GOAWAY if frame.code() == 0 => continue,
            GOAWAY => break frame,
            _ => assert_eq!(refused, 0, "a request is answered after another was refused"),
        }
        raw.send(get(next.next().expect("a stream"), "/"));
    };
    assert_eq!((Some(end.code()), refused), (CALM, 3));
    seen.expect_dropped(1);
}

fn close(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        seen.expect_begun(1);
        let last = peer.get("/close").await;
        assert_eq!((last.said(), last.field("connection")), ((200, "last"), None));
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
}

fn launch(backend: Backend) -> (Launched, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    (Launched::start(backend, patient(backend), move |_| app(&shared)), seen)
}

fn stop(backend: Backend) {
    let (server, seen) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut idle = Peer::connect(server.addr()).await;
        assert_eq!(idle.get("/").await.text(), "hello");
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        let (length, mut body) = peer.begin(request(Method::POST, "/length")).await;
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello");
        server.shutdown().graceful();
        idle.closed().await.expect("an end in order");
        send_all(&mut body, vec![0; LARGE].into(), true).await.expect("the server reads");
        assert_eq!(answer(length).await.expect("a response").text(), LARGE.to_string());
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
    let report = server.ended_gracefully();
    assert_eq!((report.finished, report.cut), (2, 0));
}

fn stop_before_the_first(backend: Backend) {
    let (server, _) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        // The connection is accepted, and its settings were exchanged.
        poll_fn(|cx| peer.send.poll_ready(cx)).await.expect("open");
        wait_until("the connection is accepted", || {
            Client::connect(server.addr()).get("/stats").status == 200
        });
        server.shutdown().graceful();
        assert_eq!(peer.get("/").await.text(), "hello");
        peer.closed().await.expect("an end in order");
    });
    server.ended_gracefully();
}

fn forced_stop(backend: Backend) {
    let (server, seen) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let _waiting = [
            peer.send(request(Method::GET, "/gate")).await,
            peer.send(request(Method::GET, "/gate")).await,
            peer.send(request(Method::GET, "/begun")).await,
        ];
        seen.expect_begun(3);
        server.shutdown().force();
        seen.expect_dropped(3);
        drop(peer.closed().await);
    });
    assert_eq!(server.shutdown().phase(), Phase::Forced);
    let report = server.ended().expect("the server ends without an error");
    assert_eq!((report.finished, report.cut), (0, 3));
}

// Floods.

const CALM: Option<u32> = Some(11);

/// The code of the `GOAWAY` with which the server ends a connection that sends these bytes again and again.
fn flood(server: &Running, bytes: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
    let mut raw = Raw::connect(server.addr(), &[]);
    let sender = raw.0.socket.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        let mut sender = Client::new(sender);
        for n in 0..1_000_000 {
            if std::io::Write::write_all(&mut sender.socket, &bytes(n)).is_err() {
                return;
            }
        }
        let _ = sender.socket.shutdown(std::net::Shutdown::Write);
    });
    let frames = raw.rest();
    drop(raw);
    sending.join().expect("the sender ends");
    last_goaway(&frames)
}

fn reset_flood(backend: Backend) {
    let (server, _) = serve(backend);
    let burst = |n: u32| -> Vec<u8> {
        let pairs = (0..100).map(|at| 2 * (100 * n + at) + 1);
        pairs.flat_map(|stream| [get(stream, "/gate"), reset(stream)].concat()).collect()
    };
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(burst(0));
    let _ = raw.try_send(&burst(1));
    assert_eq!(last_goaway(&raw.rest()), CALM);
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

/// Each request is given up after its handler has begun.
fn slow_reset_flood(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_resets = 20);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..21 {
        raw.send(get(2 * n + 1, "/gate"));
        seen.expect_begun(n as usize + 1);
        raw.send(reset(2 * n + 1));
        seen.expect_dropped(n as usize + 1);
    }
    assert_eq!(last_goaway(&raw.rest()), CALM);
}

fn few_resets(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_resets = 2);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..30 {
        raw.send(get(4 * n + 1, "/gate"));
        seen.expect_begun(n as usize + 1);
        raw.send(reset(4 * n + 1));
        raw.send(get(4 * n + 3, "/"));
        assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

/// Handlers run on that do not depend on the peer. The streams of their requests no longer count.
fn ignored_reset_flood(backend: Backend) {
    const MOST: usize = 4 + 6;
    let (server, seen) = start(backend, |config| {
        (config.http2.max_streams, config.http2.max_resets) = (4, 6);
    });
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..20 * MOST {
        let stream = 2 * u32::try_from(n).expect("a small number") + 1;
        // The reply tells that the server has seen what precedes it.
        let bytes = [get(stream, "/ignore"), reset(stream), frame(PING, 0, 0, &[7; 8])].concat();
        if raw.try_send(&bytes).is_err() {
            break;
        }
        match raw.try_frame_of(&[PING, GOAWAY]) {
            Ok(frame) if !is_goaway(&frame) => {}
            Ok(frame) => {
                assert_eq!(Some(frame.code()), CALM);
                break;
            }
            Err(_) => break,
        }
    }
    seen.expect_begun(MOST);
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handlers are done", &seen.done, MOST);
}

fn pings(backend: Backend) {
    let (server, _) = start(backend, |config| config.keep_alive = Duration::from_millis(50));
    let ping = frame(PING, 0, 0, &[7; 8]);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/"));
    raw.expect("a response", |frame| frame.kind == DATA);
    // The replies pace the peer. The connection ends although it is never silent.
    loop {
        if raw.try_send(&ping).is_err() {
            break;
        }
        match raw.try_frame() {
            Ok(frame) if is_goaway(&frame) => break,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    raw.rest();
}

fn settings_flood(backend: Backend) {
    let (server, _) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    for n in 0..1000_u32 {
        raw.send(settings(&[(INITIAL_WINDOW_SIZE, 65_535 + n)]));
        raw.send(frame(PING, 0, 0, &u64::from(n).to_be_bytes()));
        let pong = raw.expect("a reply", |frame| frame.kind == PING && frame.flags == ACK);
        assert_eq!(pong.payload, u64::from(n).to_be_bytes());
    }
    raw.send(get(1, "/"));
    assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).payload, b"hello");
    // A peer that does not read the replies ends itself, and others are served.
    let mut silent = Raw::connect(server.addr(), &[]);
    silent.0.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let many = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    while silent.try_send(&many).is_ok() {}
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

fn endless_head(backend: Backend) {
    let (server, _) = serve(backend);
    let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat().repeat(100);
    let code = flood(&server, move |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &section("GET", "/", &[])),
        _ => frame(CONTINUATION, 0, 1, &field),
    });
    assert!(matches!(code, Some(1 | 11) | None), "{code:?}");
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

fn broken(backend: Backend) {
    let (server, seen) = serve(backend);
    for (what, bytes) in [
        ("a stream of the server", get(2, "/")),
        ("data of no stream", frame(DATA, 0, 1, b"x")),
        ("a window of 0", window_update(0, 0)),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a frame that is too large", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        let before = Seen::count(&seen.begun);
        raw.send(get(1, "/gate"));
        seen.expect_begun(before + 1);
        let bytes = if what == "data of no stream" { frame(DATA, 0, 3, b"x") } else { bytes };
        raw.send(bytes);
        let code = last_goaway(&raw.rest());
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
        seen.expect_dropped(before + 1);
    }
}

fn garbage(backend: Backend) {
    let (server, _) = serve(backend);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for _ in 0..50 {
        let mut raw = Raw(server.client());
        let mut bytes = [PREFACE, &settings(&[])].concat();
        for _ in 0..20 {
            let payload: Vec<_> = (0..random() % 60).map(|_| random()).collect();
            bytes.extend(frame(random() % 12, random(), u32::from(random() % 6), &payload));
        }
        let _ = raw.try_send(&bytes);
        let _ = raw.0.socket.shutdown(std::net::Shutdown::Write);
        raw.rest();
    }
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
}

// Backends whose threads block.

fn refused_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut peer = server.client();
    peer.send([PREFACE, &settings(&[])].concat());
    let refused = peer.answer();
    assert_eq!(refused.said(), (505, "the version is not supported".to_owned()));
    assert!(refused.closes());
}

fn only_http1(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    assert_eq!(negotiate(&server, &client(&[b"h2", b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let mut peer = connect_tls(server.addr(), &client(&[b"h2"]), "localhost");
    assert!(shake_hands(&mut peer).is_err(), "no protocol is common");
}
