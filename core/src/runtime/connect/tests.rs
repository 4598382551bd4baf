use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

use super::*;
use crate::runtime::clock::ManualClock;
use crate::runtime::config::Config;
use crate::runtime::handle::{Engine, EngineStats, Work};
use crate::runtime::offload::Job;
use crate::runtime::shutdown::Shutdown;

/// What an address does with an attempt.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Refuses,
    AcceptsAfter(Duration),
    Never,
}

/// A network of addresses, each with its reply, and a clock that only the test moves.
#[derive(Clone)]
struct Network {
    clock: ManualClock,
    replies: Arc<HashMap<SocketAddr, Reply>>,
    /// The addresses that were tried, with the time since the start.
    tried: Arc<Mutex<Vec<(SocketAddr, Duration)>>>,
    /// One reference for each attempt that has not been dropped.
    running: Arc<()>,
    start: Instant,
}

/// Ready once the clock has reached the time.
struct Sleep(ManualClock, Instant);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.now() >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Engine for Network {
    fn backend(&self) -> &'static str {
        "test"
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(Sleep(self.clock.clone(), until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        let Endpoint::Tcp(address) = to else { panic!("not a TCP address") };
        let now = self.clock.now();
        self.tried.lock().unwrap().push((address, now - self.start));
        let (reply, running, clock) = (self.replies[&address], self.running.clone(), self.clock.clone());
        Box::pin(async move {
            let _running = running;
            match reply {
                Reply::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
                Reply::AcceptsAfter(time) => {
                    Sleep(clock, now + time).await;
                    Ok(Stream::new(futures_lite::io::Cursor::new(address.to_string().into_bytes())))
                }
                Reply::Never => std::future::pending().await,
            }
        })
    }

    fn spawn(&self, _: BoxFuture<()>) {}

    fn offload(&self, _: Work, _: Job) {}

    fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
}

/// Tries addresses with these replies until an attempt succeeds or all fail. Returns the outcome, the time that it
/// took, and when each address was tried, in milliseconds.
fn connect(replies: &[(&str, Reply)]) -> (io::Result<Stream>, u128, Vec<(String, u128)>) {
    let replies: Vec<_> = replies.iter().map(|(text, reply)| (text.parse().unwrap(), *reply)).collect();
    let clock = ManualClock::new(0);
    let network = Network {
        start: clock.now(),
        clock: clock.clone(),
        replies: Arc::new(replies.iter().copied().collect()),
        tried: Arc::default(),
        running: Arc::default(),
    };
    let runtime = Runtime::new(network.clone(), &Config::default(), Shutdown::new());
    let addresses = replies.iter().map(|(address, _)| *address).collect();
    let mut attempts = Attempts::new(&runtime, addresses, "the test");
    let mut cx = Context::from_waker(Waker::noop());
    let outcome = loop {
        match attempts.poll(&mut cx) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => clock.advance(Duration::from_millis(1)),
        }
    };
    drop((attempts, runtime));
    assert_eq!(Arc::strong_count(&network.running), 1, "an attempt outlives its caller");
    let tried = network.tried.lock().unwrap();
    let tried = tried.iter().map(|(address, at)| (address.to_string(), at.as_millis())).collect();
    (outcome, (clock.now() - network.start).as_millis(), tried)
}

const AT_ONCE: Reply = Reply::AcceptsAfter(Duration::ZERO);

#[test]
fn the_families_alternate() {
    let addresses = |text: &str| -> Vec<SocketAddr> {
        text.split(' ').map(|address| address.parse().expect("an address")).collect()
    };
    for (given, expected) in [
        ("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"),
        ("1.1.1.1:1 2.2.2.2:1 [::1]:1 [::2]:1", "1.1.1.1:1 [::1]:1 2.2.2.2:1 [::2]:1"),
        ("1.1.1.1:1 2.2.2.2:1", "1.1.1.1:1 2.2.2.2:1"),
        ("1.1.1.1:1", "1.1.1.1:1"),
    ] {
        assert_eq!(interleaved(addresses(given)), addresses(expected));
    }
    assert_eq!(interleaved(Vec::new()), Vec::new());
}

#[test]
fn an_address_that_does_not_answer_delays_the_next_one_only() {
    let (outcome, took, tried) =
        connect(&[("1.1.1.1:1", Reply::Never), ("2.2.2.2:1", Reply::Never), ("3.3.3.3:1", AT_ONCE)]);
    outcome.expect("the last address accepts");
    let expected = [("1.1.1.1:1", 0), ("2.2.2.2:1", 250), ("3.3.3.3:1", 500)];
    assert_eq!(tried, expected.map(|(address, at)| (address.to_owned(), at)));
    assert_eq!(took, 500);
}

#[test]
fn a_failure_begins_the_next_attempt_at_once() {
    let (outcome, took, tried) =
        connect(&[("1.1.1.1:1", Reply::Refuses), ("2.2.2.2:1", Reply::Refuses), ("3.3.3.3:1", AT_ONCE)]);
    outcome.expect("the last address accepts");
    assert_eq!((tried.len(), took), (3, 0));
}

#[test]
fn the_first_connection_wins() {
    let after = |ms| Reply::AcceptsAfter(Duration::from_millis(ms));
    let (outcome, took, tried) =
        connect(&[("1.1.1.1:1", after(400)), ("2.2.2.2:1", after(100)), ("3.3.3.3:1", AT_ONCE)]);
    let mut stream = outcome.expect("an address accepts");
    let mut said = String::new();
    let read = futures_lite::AsyncReadExt::read_to_string(&mut stream, &mut said);
    futures_lite::future::block_on(read).expect("the stream is in memory");
    assert_eq!((said.as_str(), took, tried.len()), ("2.2.2.2:1", 350, 2));
}

#[test]
fn addresses_that_do_not_answer_are_given_up() {
    let (outcome, took, _) = connect(&[("1.1.1.1:1", Reply::Never), ("2.2.2.2:1", Reply::Never)]);
    let error = outcome.expect_err("no address answers");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "connecting to 2.2.2.2:1: no answer within 10s");
    assert_eq!(took, (ATTEMPT_DELAY + MAX_ATTEMPT).as_millis());
    let (outcome, took, _) = connect(&[]);
    assert_eq!(outcome.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    assert_eq!(took, 0);
}
