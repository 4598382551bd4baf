//! The driver, one poll at a time.
//!
//! The transport is scripted, the clock is manual, and each test polls the future of the connection itself. A test can
//! therefore check the state between any two polls.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use gearshift_core::clock::{Clock, ManualClock};
use gearshift_core::{
    Answer, Body, BodyError, BoxFuture, Bytes, Config, Driving, Endpoint, Engine, EngineStats, Handler, Job,
    ReadBuffer, Report, Request, Response, Runtime, Service, Shutdown, Stream, Transport, Work, WriteQueue,
    drive,
};

/// The result of one read.
enum Read {
    Bytes(&'static str),
    /// `WouldBlock`. The read after it returns the next result.
    Nothing,
    /// The end of the peer's sending side.
    End,
}

/// The state that a test shares with its transport.
#[derive(Default)]
struct Script {
    /// The results of the next reads. After them, reads find nothing.
    reads: VecDeque<Read>,
    /// The number of bytes that can still be written.
    room: usize,
    written: Vec<u8>,
    /// The maximum length of the write queue.
    max_queued: usize,
    deadline: Option<Instant>,
    is_shut: bool,
    is_closed: bool,
    /// The waker of the last write.
    writer: Option<Waker>,
    /// Whether the system has reported the end of the peer's sending side.
    has_unread_end: bool,
    /// A write without room forces this shutdown and fails.
    force: Option<Shutdown>,
}

/// A transport that follows a script.
struct Scripted(Arc<Mutex<Script>>, ManualClock);

impl Drop for Scripted {
    fn drop(&mut self) {
        // A failed assertion poisons the lock.
        if let Ok(mut told) = self.0.lock() {
            told.is_closed = true;
        }
    }
}

impl Scripted {
    /// Fails if the deadline has passed, otherwise is pending.
    fn wait<T>(&self) -> Poll<io::Result<T>> {
        match self.0.lock().unwrap().deadline {
            Some(at) if at <= self.1.now() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }
}

impl Transport for Scripted {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        match self.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
            read => Poll::Ready(read),
        }
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        match self.0.lock().unwrap().reads.pop_front() {
            Some(Read::Bytes(text)) => {
                into.extend(text.as_bytes());
                Ok(text.len())
            }
            Some(Read::End) => Ok(0),
            Some(Read::Nothing) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<()>> {
        let mut script = self.0.lock().unwrap();
        script.max_queued = script.max_queued.max(from.len());
        script.writer = Some(cx.waker().clone());
        while !from.is_empty() && script.room > 0 {
            let n = from.front().len().min(script.room);
            script.written.extend_from_slice(&from.front()[..n]);
            script.room -= n;
            from.sent(n);
        }
        if from.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some(shutdown) = script.force.take() {
            drop(script);
            shutdown.force();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        drop(script);
        self.wait()
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().is_shut = true;
        Poll::Ready(Ok(()))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn has_unread_end(&self) -> bool {
        self.0.lock().unwrap().has_unread_end
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        self.0.lock().unwrap().deadline = at;
    }

    fn into_stream(self) -> io::Result<Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An engine whose timers and tasks do nothing.
struct NoEngine {
    threads_block: bool,
}

impl Engine for NoEngine {
    fn backend(&self) -> &'static str {
        "nowhere"
    }

    fn sleep(&self, _: Instant) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn connect(&self, _: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(pending())
    }

    fn spawn(&self, _: BoxFuture<()>) {}

    fn offload(&self, _: Work, _: Job) {}

    fn threads_block(&self) -> bool {
        self.threads_block
    }

    fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
}

/// A waker that counts its wake-ups.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection with its script, clock and service.
struct Rig {
    script: Arc<Mutex<Script>>,
    clock: ManualClock,
    service: Arc<Service>,
    wakes: Arc<WakeCount>,
    driving: Option<Driving<Scripted>>,
}

impl Rig {
    fn new(config: Config, handler: impl Handler, reads: impl IntoIterator<Item = Read>) -> Self {
        Rig::of(false, config, handler, reads)
    }

    /// Creates a connection of a blocking backend.
    fn blocking(config: Config, handler: impl Handler, reads: impl IntoIterator<Item = Read>) -> Self {
        Rig::of(true, config, handler, reads)
    }

    fn of(
        threads_block: bool,
        config: Config,
        handler: impl Handler,
        reads: impl IntoIterator<Item = Read>,
    ) -> Self {
        let clock = ManualClock::new(0);
        let (shutdown, runtime) = (Shutdown::new(), NoEngine { threads_block });
        let runtime = Runtime::new(runtime, &config, shutdown.clone());
        let time = Clock::Manual(clock.clone());
        let service = Service::new(Arc::new(handler), config, shutdown, runtime, time);
        let script = Script { reads: reads.into_iter().collect(), room: usize::MAX, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let driving = Some(drive(Scripted(script.clone(), clock.clone()), None, &service));
        Rig { script, clock, service, wakes: Arc::default(), driving }
    }

    /// Polls the connection. Returns whether it has ended.
    fn poll(&mut self) -> bool {
        let Some(driving) = &mut self.driving else { return true };
        let waker = Waker::from(self.wakes.clone());
        match Pin::new(driving).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => false,
            Poll::Ready(()) => {
                self.driving = None;
                true
            }
        }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.script.lock().unwrap().written).into_owned()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";

/// A future that is pending once.
async fn pending_once() {
    let mut polled = false;
    poll_fn(|_| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// A body that fails with the given error, or is always pending.
struct Source(Option<&'static str>);

impl futures_core::Stream for Source {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.map_or(Poll::Pending, |error| Poll::Ready(Some(Err(error))))
    }
}

/// Answers according to the path. A request with a body is answered with a description of the body.
fn handler(request: Request) -> Answer {
    match request.path() {
        "/stream" => Answer::Ready(Response::new(Body::from_stream(Source(None)))),
        "/broken" => Answer::Ready(Response::new(Body::from_stream(Source(Some("broken"))))),
        "/never" => Answer::Later(Box::pin(pending()), None),
        "/last" => Answer::Ready(Response::text("last").with_header("Connection", "close")),
        _ if request.body().is_empty() => Answer::Ready(Response::text("x".repeat(1000))),
        _ => Answer::Later(
            Box::pin(async {
                let read = request.into_body().bytes(1000).await;
                pending_once().await;
                Response::text(format!("{read:?} {}", "y".repeat(1000)))
            }),
            None,
        ),
    }
}

/// The handler of most tests, see [`handler`].
struct Plain;

impl Handler for Plain {
    fn call(&self, request: Request) -> Answer {
        handler(request)
    }
}

#[test]
fn a_peer_that_ends_its_sending_side_after_its_body_is_answered() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let reads = [Read::Bytes(head), Read::Nothing, Read::Bytes("abc"), Read::End];
    let mut rig = Rig::new(Config::default(), Plain, reads);
    assert!(!rig.poll());
    assert!(!rig.poll(), "the body is read, and the handler waits");
    assert!(rig.poll());
    assert!(rig.written().contains("abc"), "{}", rig.written());
}

#[test]
fn the_close_lingers_for_a_peer_that_sends_after_the_last_response() {
    let last = "GET /last HTTP/1.1\r\nHost: a\r\n\r\n";
    // The read before the lingering close finds a request. The lingering close reads until the end.
    let reads = [Read::Bytes(last), Read::Bytes(GET), Read::Nothing, Read::End];
    let mut rig = Rig::new(Config::default(), Plain, reads);
    assert!(!rig.poll());
    assert!(rig.script.lock().unwrap().is_shut);
    assert!(rig.poll());
}

#[test]
fn the_wait_for_a_body_does_not_change_the_deadline_of_a_write() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let reads = [Read::Bytes(requests), Read::Nothing, Read::Bytes("a"), Read::Nothing, Read::Bytes("bc")];
    let mut config = Config::default();
    config.write_timeout = Duration::from_secs(20);
    config.body_timeout = Duration::from_secs(15);
    config.min_rate = 0;
    let mut rig = Rig::new(config, Plain, reads);
    rig.script.lock().unwrap().room = 100;
    let start = rig.clock.now();
    assert!(!rig.poll());
    assert_eq!(rig.script.lock().unwrap().deadline, Some(start + Duration::from_secs(15)));
    rig.clock.advance(Duration::from_secs(10));
    assert!(!rig.poll());
    assert_eq!(rig.script.lock().unwrap().deadline, Some(start + Duration::from_secs(20)));
    assert!(!rig.poll());
    assert_eq!(rig.script.lock().unwrap().deadline, Some(start + Duration::from_secs(20)));
    rig.clock.advance(Duration::from_secs(10));
    assert!(rig.poll(), "the peer has received nothing before the deadline of the write");
}

#[test]
fn a_stream_that_fails_does_not_discard_the_responses_before_it() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /broken HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::new(Config::default(), Plain, [Read::Bytes(requests)]);
    assert!(rig.poll());
    assert!(rig.written().contains(&"x".repeat(1000)));
    assert!(!rig.written().ends_with("0\r\n\r\n"), "the broken response has no last chunk");
}

#[test]
fn a_stream_that_is_cut_is_not_reported_as_finished() {
    let mut rig = Rig::new(Config::default(), Plain, [Read::Bytes(STREAM)]);
    assert!(!rig.poll());
    rig.service.shutdown().graceful();
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert!(rig.poll());
    let report = Report::of(&rig.service);
    assert_eq!((report.finished, report.cut), (0, 1));
}

#[test]
fn a_stream_that_is_pending_before_100_continue_is_flushed_and_can_be_cut() {
    let expects = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
        Expect: 100-continue\r\n\r\n";
    let mut rig = Rig::new(Config::default(), Plain, [Read::Bytes(expects)]);
    assert!(!rig.poll());
    assert!(rig.written().contains(&"x".repeat(1000)), "the earlier response is sent");
    rig.service.shutdown().force();
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn a_forced_stop_wakes_a_connection_whose_handler_is_pending() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::blocking(Config::default(), Plain, [Read::Bytes(never)]);
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
    assert!(rig.poll());
}

#[test]
fn a_request_counts_as_cut_if_a_forced_stop_ends_a_write_before_its_response() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::blocking(Config::default(), Plain, [Read::Bytes(requests)]);
    {
        let mut script = rig.script.lock().unwrap();
        script.room = 10;
        script.force = Some(rig.service.shutdown().clone());
    }
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn responses_to_requests_with_bodies_do_not_exceed_the_output_limit() {
    let body_and_head = "abcPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let first = [Read::Bytes(&body_and_head[3..]), Read::Nothing];
    let reads = first.into_iter().chain((0..50).flat_map(|_| [Read::Bytes(body_and_head), Read::Nothing]));
    let mut config = Config::default();
    config.limits.output = 2_000;
    config.limits.pipeline = 1000;
    let mut rig = Rig::new(config, Plain, reads);
    rig.script.lock().unwrap().room = 0;
    for _ in 0..200 {
        assert!(!rig.poll());
    }
    let max_queued = rig.script.lock().unwrap().max_queued;
    assert!((1_000..4_000).contains(&max_queued), "{max_queued}");
}

#[test]
fn the_response_for_a_late_handler_has_the_deadline_of_a_write() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut config = Config::default();
    config.handler_timeout = Duration::from_secs(5);
    let mut rig = Rig::new(config, Plain, [Read::Bytes(never)]);
    rig.script.lock().unwrap().room = 20;
    assert!(!rig.poll());
    rig.clock.advance(Duration::from_secs(5));
    assert!(!rig.poll(), "the peer has received only the beginning");
    rig.script.lock().unwrap().room = usize::MAX;
    rig.poll();
    let written = rig.written();
    assert!(written.starts_with("HTTP/1.1 503 ") && written.contains("\r\n\r\n"), "{written}");
}

/// The reads of a request with a body of 6 bytes, of which 3 arrive with the head.
fn small_body(rest: impl IntoIterator<Item = Read>) -> Vec<Read> {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
    [Read::Bytes(head), Read::Nothing].into_iter().chain(rest).collect()
}

#[test]
fn a_small_body_is_awaited_before_its_request_holds_a_thread() {
    let mut rig = Rig::blocking(Config::default(), Plain, small_body([Read::Bytes("def")]));
    assert!(!rig.poll());
    assert!(!rig.driving.as_ref().unwrap().is_handling());
    assert!(!rig.poll(), "the body is complete, and the handler waits");
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert!(!rig.poll());
    assert!(rig.written().contains("abcdef"), "{}", rig.written());
}

#[test]
fn a_body_beyond_the_buffer_is_read_by_its_handler() {
    let mut config = Config::default();
    config.body_buffer = 5;
    let mut rig = Rig::blocking(config, Plain, small_body([Read::Bytes("def")]));
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert!(!rig.poll());
    assert!(!rig.poll());
    assert!(rig.written().contains("abcdef"), "{}", rig.written());
}

#[test]
fn a_handler_gets_the_error_of_an_incomplete_body_on_every_backend() {
    let stops: [(fn() -> Option<Read>, &str); 2] =
        [(|| Some(Read::End), "Incomplete"), (|| None, "TimedOut")];
    for threads_block in [false, true] {
        for (stop, error) in stops {
            let mut config = Config::default();
            config.body_timeout = Duration::from_secs(5);
            let mut rig = Rig::of(threads_block, config, Plain, small_body(stop()));
            assert!(!rig.poll());
            rig.clock.advance(Duration::from_secs(6));
            (0..4).for_each(|_| {
                rig.poll();
            });
            assert!(rig.written().contains(error), "{threads_block}: {}", rig.written());
        }
    }
}

#[test]
fn a_chunked_body_is_awaited_up_to_the_buffer_and_its_errors_reach_the_handler() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for (rest, said) in [("3\r\ndef\r\n0\r\n\r\n", "abcdef"), ("x\r\n", "Malformed(ChunkSize)")] {
        for body_buffer in [0, 4, 100] {
            let mut config = Config::default();
            config.body_buffer = body_buffer;
            let reads = [Read::Bytes(head), Read::Nothing, Read::Bytes(rest)];
            let mut rig = Rig::blocking(config, Plain, reads);
            assert!(!rig.poll());
            assert_eq!(rig.driving.as_ref().unwrap().is_handling(), body_buffer == 0);
            (0..4).for_each(|_| {
                rig.poll();
            });
            assert!(rig.written().contains(said), "{body_buffer}: {}", rig.written());
        }
    }
}

#[test]
fn the_body_of_a_request_that_expects_100_continue_is_not_buffered() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let reads = [Read::Bytes(head), Read::Nothing, Read::Bytes("abc")];
    let mut rig = Rig::blocking(Config::default(), Plain, reads);
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert!(rig.written().starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{}", rig.written());
}

#[test]
fn a_peer_that_has_ended_its_sending_side_is_probed_if_its_request_waited_long_for_a_thread() {
    for (waited, is_probed) in [(0, false), (50, false), (100, true), (5_000, true)] {
        let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut rig = Rig::blocking(Config::default(), Plain, [Read::Bytes(never), Read::End]);
        rig.script.lock().unwrap().has_unread_end = true;
        rig.service.found_idle();
        rig.clock.advance(Duration::from_millis(waited));
        assert!(!rig.poll());
        assert_eq!(rig.driving.as_ref().unwrap().is_handling(), !is_probed, "{waited} ms");
        assert_eq!(rig.written().starts_with("HTTP/1.1 100 Continue\r\n\r\n"), is_probed, "{waited} ms");
    }
}

#[test]
fn the_time_in_which_a_connection_waits_for_a_thread_does_not_count_as_the_peers() {
    for is_thread_idle in [false, true] {
        let mut config = Config::default();
        config.write_timeout = Duration::from_secs(20);
        config.min_rate = 1_000;
        let mut rig = Rig::blocking(config, Plain, [Read::Bytes(GET)]);
        rig.script.lock().unwrap().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(Duration::from_secs(60));
        if is_thread_idle {
            rig.service.found_idle();
        }
        rig.script.lock().unwrap().room = 100;
        assert_eq!(
            rig.poll(),
            is_thread_idle,
            "100 bytes in 60 s are below the minimum rate only if the peer needed 60 s"
        );
    }
}

#[test]
fn the_deadline_of_a_head_that_arrives_during_a_stop_does_not_end_the_response() {
    let mut config = Config::default();
    config.header_timeout = Duration::from_secs(10);
    let (begin, rest) = GET.split_at(5);
    let mut rig = Rig::new(config, Plain, [Read::Bytes(begin), Read::Nothing, Read::Nothing]);
    assert!(!rig.poll());
    {
        let mut script = rig.script.lock().unwrap();
        script.reads = [Read::Bytes(rest)].into();
        script.room = 100;
    }
    rig.service.shutdown().graceful();
    rig.clock.advance(Duration::from_secs(11));
    assert!(!rig.poll(), "the peer has received only the beginning of the response");
    rig.script.lock().unwrap().room = usize::MAX;
    assert!(rig.poll());
    assert!(rig.written().ends_with(&"x".repeat(1000)), "{}", rig.written());
}

/// A handler that keeps the bodies of its requests. Its response to a request with a body is pending, or is a stream
/// that is pending.
struct KeepBodies(Arc<Mutex<Vec<Body>>>);

impl Handler for KeepBodies {
    fn call(&self, request: Request) -> Answer {
        if request.body().is_empty() {
            return handler(request);
        }
        let is_stream = request.path() == "/stream";
        self.0.lock().unwrap().push(request.into_body());
        match is_stream {
            true => Answer::Ready(Response::new(Body::from_stream(Source(None)))),
            false => Answer::Later(Box::pin(pending()), None),
        }
    }
}

#[test]
fn a_write_wakes_the_driver_while_another_task_reads_the_body() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let reads = [Read::Bytes(requests), Read::Bytes("abc")];
    let mut rig = Rig::new(Config::default(), KeepBodies(bodies.clone()), reads);
    rig.script.lock().unwrap().room = 100;
    assert!(!rig.poll());
    let mut body = bodies.lock().unwrap().pop().unwrap();
    let read = http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(Waker::noop()));
    assert!(read.is_ready());
    let writer = rig.script.lock().unwrap().writer.take().unwrap();
    writer.wake();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_body_that_another_task_reads_ends_with_its_connection() {
    for path in ["/", "/stream"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let reads = [Read::Bytes(request.leak()), Read::Nothing];
        let mut rig = Rig::new(Config::default(), KeepBodies(bodies.clone()), reads);
        assert!(!rig.poll());
        let mut body = bodies.lock().unwrap().pop().unwrap();
        let reader = Arc::new(WakeCount::default());
        let waker = Waker::from(reader.clone());
        let mut read = || http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(&waker));
        assert!(read().is_pending());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert!(rig.script.lock().unwrap().is_closed, "{path}");
        assert_eq!(reader.0.load(Ordering::SeqCst), 1, "{path}");
        assert!(matches!(read(), Poll::Ready(Some(Err(BodyError::Gone)))), "{path}");
    }
}

#[test]
fn a_peer_that_dribbles_to_a_handler_is_slow_although_its_thread_is_never_idle() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n";
    let mut config = Config::default();
    config.body_buffer = 0;
    config.body_timeout = Duration::from_secs(20);
    config.min_rate = 1_000;
    let mut rig = Rig::blocking(config, Plain, [Read::Bytes(head), Read::Nothing]);
    assert!(!rig.poll());
    for _ in 0..6 {
        rig.clock.advance(Duration::from_secs(10));
        rig.script.lock().unwrap().reads.extend([Read::Bytes("a"), Read::Nothing]);
        rig.poll();
    }
    assert!(rig.written().contains("TimedOut"), "{}", rig.written());
}

#[test]
fn a_question_does_not_read_beyond_what_is_read_ahead() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let many = format!("{never}{}", GET.repeat(200));
    let mut rig = Rig::blocking(Config::default(), Plain, [Read::Bytes(many.leak()), Read::Bytes(GET)]);
    rig.script.lock().unwrap().has_unread_end = true;
    rig.clock.advance(Duration::from_secs(1));
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert_eq!(rig.script.lock().unwrap().reads.len(), 1);
}
