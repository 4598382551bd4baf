//! Peers that end their sending side and want their responses: nothing but these is sent to them, and they slow nobody.

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_lite::stream;
use gearshift::{Backend, Body, Bytes, CancelToken, Request, Router, Runtime, blocking, sync};
use test_support::PATIENCE;
use test_support::backend::{blocks, few_workers};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "half_closed",
    &[
        ("a_stream_has_nothing_but_its_chunks", stream_alone),
        ("a_stream_that_polls_its_token_has_nothing_but_its_chunks", stream_with_token),
        ("a_response_after_a_polled_token_is_whole", |backend| after_token(backend, "/whole")),
        ("a_stream_after_a_polled_token_is_whole", |backend| after_token(backend, "/streamed")),
        ("a_crowd_of_peers_slows_down_no_request_afterwards", |backend| after_a_crowd(backend, requests)),
        ("a_crowd_of_peers_slows_down_no_crowd_afterwards", |backend| after_a_crowd(backend, half_closing)),
    ],
);

/// Longer than a peer that has ended its side is left without a question.
const LONG: Duration = Duration::from_millis(350);
/// A pause between two looks at a token.
const STEP: Duration = Duration::from_millis(10);

/// A stream of two pieces. Before each of them it waits for [`LONG`], and looks at `token` while it waits.
fn pieces(runtime: Runtime, token: Option<CancelToken>) -> Body {
    Body::from_stream(stream::unfold(0, move |n| {
        let (runtime, token) = (runtime.clone(), token.clone());
        async move {
            let began = Instant::now();
            while n < 2 && began.elapsed() < LONG {
                runtime.sleep(STEP).await;
                if token.as_ref().is_some_and(CancelToken::is_cancelled) {
                    return None;
                }
            }
            (n < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"piece ")), n + 1))
        }
    }))
}

/// Sends a request and ends its side.
fn ask(server: &Running, path: &str) -> Client {
    let mut client = server.client();
    client.send_get(path);
    client.half_close();
    client
}

fn expect_chunks(backend: Backend, has_token: bool) {
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let stream = move |request: Request| {
            let token = has_token.then(|| request.cancel_token());
            pieces(runtime.clone(), token)
        };
        Router::new().get("/", sync(stream))
    });
    let mut client = ask(&server, "/");
    // The client takes no byte that is not part of the head or of a chunk.
    assert_eq!(client.answer().said(), (200, "piece piece ".into()));
    client.expect_end();
}

fn stream_alone(backend: Backend) {
    expect_chunks(backend, false);
}

fn stream_with_token(backend: Backend) {
    expect_chunks(backend, true);
}

/// Looks at a token for [`LONG`].
fn poll(token: &CancelToken) -> bool {
    let began = Instant::now();
    while began.elapsed() < LONG {
        if token.is_cancelled() {
            return true;
        }
        std::thread::sleep(STEP);
    }
    false
}

fn after_token(backend: Backend, path: &str) {
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let whole = |request: Request| poll(&request.cancel_token()).to_string();
        let streamed = move |request: Request| {
            let token = request.cancel_token();
            poll(&token);
            pieces(runtime.clone(), Some(token))
        };
        // An event loop that a handler blocks cannot look at the peer.
        match blocks(backend) {
            true => Router::new().get("/whole", sync(whole)).get("/streamed", sync(streamed)),
            false => Router::new().get("/whole", blocking(whole)).get("/streamed", blocking(streamed)),
        }
    });
    let mut client = ask(&server, path);
    // Questions to the peer are interim responses, and precede the response.
    let answer = loop {
        let answer = client.answer();
        if answer.status != 100 {
            break answer;
        }
    };
    let expected = if path == "/whole" { "false" } else { "piece piece " };
    assert_eq!(answer.said(), (200, expected.into()));
    client.expect_end();
}

/// Clients that end their side while a request holds a thread.
const CROWD: usize = 60;
/// How often the two servers are measured in turn.
const ROUNDS: usize = 9;
/// How many times as long a round may take as on the server without a disturbance.
const FACTOR: u32 = 8;

fn app(runtime: Runtime, begin: mpsc::Sender<()>) -> Router {
    Router::new().get("/", sync(|_| "fine")).get("/slow", move |_: Request| {
        begin.send(()).expect("the test waits");
        let sleep = runtime.sleep(Duration::from_millis(300));
        async move {
            sleep.await;
            "slow"
        }
    })
}

/// Requests on one connection.
fn requests(server: &Running) {
    let mut client = server.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").text(), "fine");
    }
}

/// Requests of peers that end their side.
fn half_closing(server: &Running) {
    for _ in 0..3 {
        let mut crowd: Vec<_> = (0..CROWD).map(|_| ask(server, "/")).collect();
        crowd.iter_mut().for_each(expect_fine);
    }
}

/// Reads the answer to the last request of a connection. Questions to the peer may precede it.
fn expect_fine(client: &mut Client) {
    let mut answer = client.answer();
    while answer.status == 100 {
        answer = client.answer();
    }
    assert_eq!(answer.text(), "fine");
    client.expect_end();
}

/// Lets a crowd end its side while a request holds a thread, and compares the time of `round` after that with the same
/// on a server that had neither.
fn after_a_crowd(backend: Backend, round: fn(&Running)) {
    let mut config = few_workers(backend);
    if config.threads.is_some() {
        config.threads = Some(1);
    }
    let (begin, begun) = mpsc::channel();
    let start = || {
        let (config, begin) = (config.clone(), begin.clone());
        Running::start(backend, config, |runtime| app(runtime, begin))
    };
    let servers = [start(), start()];
    let mut slow = servers[1].client();
    slow.send_get("/slow");
    begun.recv_timeout(PATIENCE).expect("the slow request begins");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| ask(&servers[1], "/")).collect();
    assert_eq!(slow.answer().text(), "slow");
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, took) in servers.iter().zip(&mut took) {
            let began = Instant::now();
            round(server);
            took.push(began.elapsed());
        }
    }
    took.iter_mut().for_each(|rounds| rounds.sort());
    let [alone, after] = took.map(|rounds| rounds[ROUNDS / 2]);
    assert!(after < FACTOR * alone, "a round takes {after:?}, without the crowd {alone:?}");
    crowd.iter_mut().for_each(expect_fine);
}
