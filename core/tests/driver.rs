//! The driver, one step at a time: a transport that does what it is told, a clock that stands still, and a test that
//! polls by hand.

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

/// What the next read finds.
enum Step {
    Bytes(&'static str),
    /// Nothing, this time.
    Nothing,
    End,
}

/// What the test and its transport share.
#[derive(Default)]
struct Told {
    steps: VecDeque<Step>,
    /// How many more bytes can be written.
    room: usize,
    written: Vec<u8>,
    /// The most that ever waited to be written.
    waited: usize,
    deadline: Option<Instant>,
    is_shut: bool,
    is_closed: bool,
    /// Who is woken once there is room.
    writer: Option<Waker>,
    /// Whether the system has reported the end of the peer's side.
    has_unread_end: bool,
    /// Forced by the write that has no room, as a thread is cut that waits.
    force: Option<Shutdown>,
}

struct Script(Arc<Mutex<Told>>, ManualClock);

impl Drop for Script {
    fn drop(&mut self) {
        // A failed assertion poisons the lock.
        if let Ok(mut told) = self.0.lock() {
            told.is_closed = true;
        }
    }
}

impl Script {
    fn stalled<T>(&self) -> Poll<io::Result<T>> {
        match self.0.lock().unwrap().deadline {
            Some(at) if at <= self.1.now() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }
}

impl Transport for Script {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        match self.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stalled(),
            read => Poll::Ready(read),
        }
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        match self.0.lock().unwrap().steps.pop_front() {
            Some(Step::Bytes(text)) => {
                into.extend(text.as_bytes());
                Ok(text.len())
            }
            Some(Step::End) => Ok(0),
            Some(Step::Nothing) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<()>> {
        let mut told = self.0.lock().unwrap();
        told.waited = told.waited.max(from.len());
        told.writer = Some(cx.waker().clone());
        while !from.is_empty() && told.room > 0 {
            let n = from.front().len().min(told.room);
            told.written.extend_from_slice(&from.front()[..n]);
            told.room -= n;
            from.sent(n);
        }
        if from.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some(shutdown) = told.force.take() {
            drop(told);
            shutdown.force();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        drop(told);
        self.stalled()
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

/// An engine with nothing behind it, whose threads block or not.
struct Nowhere {
    threads_block: bool,
}

impl Engine for Nowhere {
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

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection, and everything around it.
struct Rig {
    told: Arc<Mutex<Told>>,
    clock: ManualClock,
    service: Arc<Service>,
    wakes: Arc<Count>,
    driving: Option<Driving<Script>>,
}

impl Rig {
    fn new(config: Config, handler: impl Handler, steps: impl IntoIterator<Item = Step>) -> Self {
        Rig::of(false, config, handler, steps)
    }

    /// The same on a backend whose threads block.
    fn blocking(config: Config, handler: impl Handler, steps: impl IntoIterator<Item = Step>) -> Self {
        Rig::of(true, config, handler, steps)
    }

    fn of(
        threads_block: bool,
        config: Config,
        handler: impl Handler,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let clock = ManualClock::new(0);
        let (shutdown, runtime) = (Shutdown::new(), Nowhere { threads_block });
        let runtime = Runtime::new(runtime, &config, shutdown.clone());
        let time = Clock::Manual(clock.clone());
        let service = Service::with_clock(Arc::new(handler), config, shutdown, runtime, time);
        let told = Told { steps: steps.into_iter().collect(), room: usize::MAX, ..Told::default() };
        let told = Arc::new(Mutex::new(told));
        let driving = Some(drive(Script(told.clone(), clock.clone()), None, &service));
        Rig { told, clock, service, wakes: Arc::default(), driving }
    }

    /// Whether the connection has ended.
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
        String::from_utf8_lossy(&self.told.lock().unwrap().written).into_owned()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";

/// Not ready when it is first polled.
async fn once() {
    let mut polled = false;
    poll_fn(|_| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// A body whose next piece never comes, or fails.
struct Source(Option<&'static str>);

impl futures_core::Stream for Source {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.map_or(Poll::Pending, |error| Poll::Ready(Some(Err(error))))
    }
}

/// Reads a body if there is one, or answers with a stream that never comes, or at once.
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
                once().await;
                Response::text(format!("{read:?} {}", "y".repeat(1000)))
            }),
            None,
        ),
    }
}

struct Plain;

impl Handler for Plain {
    fn call(&self, request: Request) -> Answer {
        handler(request)
    }
}

#[test]
fn a_peer_that_ends_its_side_behind_its_body_is_answered() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let steps = [Step::Bytes(head), Step::Nothing, Step::Bytes("abc"), Step::End];
    let mut rig = Rig::new(Config::default(), Plain, steps);
    assert!(!rig.poll());
    assert!(!rig.poll(), "the body is read, and the handler waits");
    assert!(rig.poll());
    assert!(rig.written().contains("abc"), "{}", rig.written());
}

#[test]
fn a_peer_that_sends_on_while_it_is_told_of_the_end_is_lingered_for() {
    let last = "GET /last HTTP/1.1\r\nHost: a\r\n\r\n";
    // The read of the linger, not the one before, finds that nothing more has come.
    let steps = [Step::Bytes(last), Step::Bytes(GET), Step::Nothing, Step::End];
    let mut rig = Rig::new(Config::default(), Plain, steps);
    assert!(!rig.poll());
    assert!(rig.told.lock().unwrap().is_shut);
    assert!(rig.poll());
}

#[test]
fn a_body_that_is_waited_for_does_not_end_the_deadline_of_a_write() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let steps = [Step::Bytes(requests), Step::Nothing, Step::Bytes("a"), Step::Nothing, Step::Bytes("bc")];
    let mut config = Config::default();
    config.write_timeout = Duration::from_secs(20);
    config.body_timeout = Duration::from_secs(15);
    config.min_rate = 0;
    let mut rig = Rig::new(config, Plain, steps);
    rig.told.lock().unwrap().room = 100;
    let start = rig.clock.now();
    assert!(!rig.poll());
    assert_eq!(rig.told.lock().unwrap().deadline, Some(start + Duration::from_secs(15)));
    rig.clock.advance(Duration::from_secs(10));
    assert!(!rig.poll());
    assert_eq!(rig.told.lock().unwrap().deadline, Some(start + Duration::from_secs(20)));
    assert!(!rig.poll());
    assert_eq!(rig.told.lock().unwrap().deadline, Some(start + Duration::from_secs(20)));
    rig.clock.advance(Duration::from_secs(10));
    assert!(rig.poll(), "the peer takes nothing, and gets no time beyond its own");
}

#[test]
fn a_stream_that_fails_does_not_cost_the_responses_before_it() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /broken HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::new(Config::default(), Plain, [Step::Bytes(requests)]);
    assert!(rig.poll());
    assert!(rig.written().contains(&"x".repeat(1000)));
    assert!(!rig.written().ends_with("0\r\n\r\n"), "the broken one does not look whole");
}

#[test]
fn a_stream_that_is_cut_is_not_reported_as_finished() {
    let mut rig = Rig::new(Config::default(), Plain, [Step::Bytes(STREAM)]);
    assert!(!rig.poll());
    rig.service.shutdown().graceful();
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert!(rig.poll());
    let report = Report::of(&rig.service);
    assert_eq!((report.finished, report.cut), (0, 1));
}

#[test]
fn a_stream_that_is_waited_for_before_100_continue_is_looked_after() {
    let expects = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
        Expect: 100-continue\r\n\r\n";
    let mut rig = Rig::new(Config::default(), Plain, [Step::Bytes(expects)]);
    assert!(!rig.poll());
    assert!(rig.written().contains(&"x".repeat(1000)), "what waits is sent");
    rig.service.shutdown().force();
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn a_thread_that_waits_for_a_handler_is_woken_by_a_forced_stop() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::blocking(Config::default(), Plain, [Step::Bytes(never)]);
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
    assert!(rig.poll());
}

#[test]
fn a_request_is_cut_by_a_stop_that_ends_a_write_before_its_response() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut rig = Rig::blocking(Config::default(), Plain, [Step::Bytes(requests)]);
    {
        let mut told = rig.told.lock().unwrap();
        told.room = 10;
        told.force = Some(rig.service.shutdown().clone());
    }
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn responses_to_requests_with_bodies_wait_for_the_peer_to_take_some() {
    let body_and_head = "abcPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let first = [Step::Bytes(&body_and_head[3..]), Step::Nothing];
    let steps = first.into_iter().chain((0..50).flat_map(|_| [Step::Bytes(body_and_head), Step::Nothing]));
    let mut config = Config::default();
    config.limits.output = 2_000;
    config.limits.pipeline = 1000;
    let mut rig = Rig::new(config, Plain, steps);
    rig.told.lock().unwrap().room = 0;
    for _ in 0..200 {
        assert!(!rig.poll());
    }
    let waited = rig.told.lock().unwrap().waited;
    assert!((1_000..4_000).contains(&waited), "{waited}");
}

#[test]
fn a_late_handler_leaves_its_response_the_time_of_a_write() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut config = Config::default();
    config.handler_timeout = Duration::from_secs(5);
    let mut rig = Rig::new(config, Plain, [Step::Bytes(never)]);
    rig.told.lock().unwrap().room = 20;
    assert!(!rig.poll());
    rig.clock.advance(Duration::from_secs(5));
    assert!(!rig.poll(), "the peer has only begun to take it");
    rig.told.lock().unwrap().room = usize::MAX;
    rig.poll();
    let written = rig.written();
    assert!(written.starts_with("HTTP/1.1 503 ") && written.contains("\r\n\r\n"), "{written}");
}

/// A request with a small body, of which the body comes later.
fn small_body(rest: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
    [Step::Bytes(head), Step::Nothing].into_iter().chain(rest).collect()
}

#[test]
fn a_small_body_is_awaited_before_its_request_holds_a_thread() {
    let mut rig = Rig::blocking(Config::default(), Plain, small_body([Step::Bytes("def")]));
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
    let mut rig = Rig::blocking(config, Plain, small_body([Step::Bytes("def")]));
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert!(!rig.poll());
    assert!(!rig.poll());
    assert!(rig.written().contains("abcdef"), "{}", rig.written());
}

#[test]
fn a_body_that_stops_halfway_is_told_to_its_handler_as_on_an_event_loop() {
    let stops: [(fn() -> Option<Step>, &str); 2] =
        [(|| Some(Step::End), "Incomplete"), (|| None, "TimedOut")];
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
fn a_chunked_body_is_awaited_up_to_the_buffer_and_its_faults_are_the_handlers_to_meet() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for (rest, said) in [("3\r\ndef\r\n0\r\n\r\n", "abcdef"), ("x\r\n", "Malformed(ChunkSize)")] {
        for body_buffer in [0, 4, 100] {
            let mut config = Config::default();
            config.body_buffer = body_buffer;
            let steps = [Step::Bytes(head), Step::Nothing, Step::Bytes(rest)];
            let mut rig = Rig::blocking(config, Plain, steps);
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
fn a_peer_that_expects_100_continue_is_not_buffered() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let steps = [Step::Bytes(head), Step::Nothing, Step::Bytes("abc")];
    let mut rig = Rig::blocking(Config::default(), Plain, steps);
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert!(rig.written().starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{}", rig.written());
}

#[test]
fn a_peer_that_has_ended_its_side_is_asked_if_its_request_waited_long_for_a_thread() {
    for (waited, is_asked) in [(0, false), (50, false), (100, true), (5_000, true)] {
        let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut rig = Rig::blocking(Config::default(), Plain, [Step::Bytes(never), Step::End]);
        rig.told.lock().unwrap().has_unread_end = true;
        rig.service.found_idle();
        rig.clock.advance(Duration::from_millis(waited));
        assert!(!rig.poll());
        assert_eq!(rig.driving.as_ref().unwrap().is_handling(), !is_asked, "{waited} ms");
        assert_eq!(rig.written().starts_with("HTTP/1.1 100 Continue\r\n\r\n"), is_asked, "{waited} ms");
    }
}

#[test]
fn a_peer_is_not_slow_while_its_connection_waits_for_a_thread() {
    for is_thread_idle in [false, true] {
        let mut config = Config::default();
        config.write_timeout = Duration::from_secs(20);
        config.min_rate = 1_000;
        let mut rig = Rig::blocking(config, Plain, [Step::Bytes(GET)]);
        rig.told.lock().unwrap().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(Duration::from_secs(60));
        if is_thread_idle {
            rig.service.found_idle();
        }
        rig.told.lock().unwrap().room = 100;
        assert_eq!(rig.poll(), is_thread_idle, "100 bytes in 60 s are too few only if the peer took 60 s");
    }
}

#[test]
fn the_deadline_of_a_head_that_arrives_during_a_stop_does_not_end_the_response() {
    let mut config = Config::default();
    config.header_timeout = Duration::from_secs(10);
    let (begin, rest) = GET.split_at(5);
    let mut rig = Rig::new(config, Plain, [Step::Bytes(begin), Step::Nothing, Step::Nothing]);
    assert!(!rig.poll());
    {
        let mut told = rig.told.lock().unwrap();
        told.steps = [Step::Bytes(rest)].into();
        told.room = 100;
    }
    rig.service.shutdown().graceful();
    rig.clock.advance(Duration::from_secs(11));
    assert!(!rig.poll(), "the peer has only begun to take the response");
    rig.told.lock().unwrap().room = usize::MAX;
    assert!(rig.poll());
    assert!(rig.written().ends_with(&"x".repeat(1000)), "{}", rig.written());
}

/// Keeps the bodies of its requests, and never answers those that have one, or with a stream that never comes.
struct Keeps(Arc<Mutex<Vec<Body>>>);

impl Handler for Keeps {
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
fn a_task_that_reads_a_body_does_not_take_the_drivers_wake_up_for_a_write() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let steps = [Step::Bytes(requests), Step::Bytes("abc")];
    let mut rig = Rig::new(Config::default(), Keeps(bodies.clone()), steps);
    rig.told.lock().unwrap().room = 100;
    assert!(!rig.poll());
    let mut body = bodies.lock().unwrap().pop().unwrap();
    let read = http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(Waker::noop()));
    assert!(read.is_ready());
    let writer = rig.told.lock().unwrap().writer.take().unwrap();
    writer.wake();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_body_that_another_task_reads_ends_with_its_connection() {
    for path in ["/", "/stream"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let steps = [Step::Bytes(request.leak()), Step::Nothing];
        let mut rig = Rig::new(Config::default(), Keeps(bodies.clone()), steps);
        assert!(!rig.poll());
        let mut body = bodies.lock().unwrap().pop().unwrap();
        let reader = Arc::new(Count::default());
        let waker = Waker::from(reader.clone());
        let mut read = || http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(&waker));
        assert!(read().is_pending());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert!(rig.told.lock().unwrap().is_closed, "{path}");
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
    let mut rig = Rig::blocking(config, Plain, [Step::Bytes(head), Step::Nothing]);
    assert!(!rig.poll());
    for _ in 0..6 {
        rig.clock.advance(Duration::from_secs(10));
        rig.told.lock().unwrap().steps.extend([Step::Bytes("a"), Step::Nothing]);
        rig.poll();
    }
    assert!(rig.written().contains("TimedOut"), "{}", rig.written());
}

#[test]
fn a_question_does_not_read_beyond_what_is_read_ahead() {
    let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let many = format!("{never}{}", GET.repeat(200));
    let mut rig = Rig::blocking(Config::default(), Plain, [Step::Bytes(many.leak()), Step::Bytes(GET)]);
    rig.told.lock().unwrap().has_unread_end = true;
    rig.clock.advance(Duration::from_secs(1));
    assert!(!rig.poll());
    assert!(rig.driving.as_ref().unwrap().is_handling());
    assert_eq!(rig.told.lock().unwrap().steps.len(), 1);
}
