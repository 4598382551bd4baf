//! The driver, one poll at a time.
//!
//! The transport is scripted, the clock is manual, and each test polls the future of the connection itself. A test can
//! therefore check the state between any two polls.

mod answers;
mod bodies;
mod counts;
mod stalls;
mod tokens;

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::{poll_once, yield_now};
use futures_lite::stream::{self, Stream as _};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite};
use gearshift_core::clock::{Clock, ManualClock};
use gearshift_core::{
    AcceptPause, Answer, Body, BodyError, BoxFuture, Bytes, Config, Driving, Endpoint, Engine, EngineStats,
    Handler, HeaderValue, Job, OnDisconnect, ReadBuffer, Report, Request, Response, Runtime, Service,
    Shutdown, Stream, Transport, Work, WriteQueue, drive,
};

/// The result of one read.
#[derive(Clone, Copy)]
enum Read {
    Text(&'static str),
    /// `WouldBlock`. The read after it returns the next result.
    Nothing,
    /// The end of the peer's sending side.
    End,
    /// The peer has reset the connection.
    Reset,
}

use Read::{End, Nothing, Reset, Text};

impl Read {
    fn text(self) -> &'static str {
        let Text(text) = self else { panic!("a read without bytes") };
        text
    }
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
    /// Whether deadlines are ignored. A transport that finds a byte at each of its deadlines never reports one.
    is_timeless: bool,
    is_shut: bool,
    /// The waker of the last read.
    reader: Option<Waker>,
    /// The waker of the last write.
    writer: Option<Waker>,
    /// Whether the system has reported the end of the peer's sending side.
    has_unread_end: bool,
    /// A write without room forces this shutdown and fails.
    force: Option<Shutdown>,
    /// Whether the system has recorded an error of the socket.
    has_error: bool,
    /// Whether the next write fails.
    write_fails: bool,
    /// Whether the next write panics.
    panics: bool,
}

/// A transport that follows a script.
struct Scripted(Arc<Mutex<Script>>, ManualClock);

impl Scripted {
    /// Fails if the deadline has passed, otherwise is pending.
    fn wait<T>(&self) -> Poll<io::Result<T>> {
        let script = self.0.lock().unwrap();
        match script.deadline {
            Some(at) if at <= self.1.now() && !script.is_timeless => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            _ => Poll::Pending,
        }
    }
}

impl Transport for Scripted {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().reader = Some(cx.waker().clone());
        match self.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
            read => Poll::Ready(read),
        }
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        match self.0.lock().unwrap().reads.pop_front() {
            Some(Text(text)) => {
                into.extend(text.as_bytes());
                Ok(text.len())
            }
            Some(End) => Ok(0),
            Some(Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(Nothing) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        let mut script = self.0.lock().unwrap();
        if std::mem::take(&mut script.panics) {
            drop(script);
            panic!("the transport is broken");
        }
        if std::mem::take(&mut script.write_fails) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        script.max_queued = script.max_queued.max(from.len());
        script.writer = Some(cx.waker().clone());
        let n = from.front().len().min(script.room);
        if n > 0 {
            script.written.extend_from_slice(&from.front()[..n]);
            script.room -= n;
            from.sent(n);
            return Poll::Ready(Ok(n));
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
        let has_error = std::mem::take(&mut self.0.lock().unwrap().has_error);
        Ok(has_error.then(|| io::ErrorKind::ConnectionReset.into()))
    }

    fn has_unread_end(&self) -> bool {
        self.0.lock().unwrap().has_unread_end
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        self.0.lock().unwrap().deadline = at;
    }

    fn into_stream(self) -> io::Result<Stream> {
        Ok(Stream::new(Idle(self)))
    }
}

/// A stream on which nothing is received.
struct Idle(Scripted);

impl AsyncRead for Idle {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.wait()
    }
}

impl AsyncWrite for Idle {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.0.0.lock().unwrap().written.extend_from_slice(from);
        Poll::Ready(Ok(from.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut script = self.0.0.lock().unwrap();
        from.iter().for_each(|slice| script.written.extend_from_slice(slice));
        Poll::Ready(Ok(from.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
}

/// An engine whose tasks are polled by the test. Its timers wake nothing, but are ready when a poll finds their time
/// over.
struct NoEngine {
    threads_block: bool,
    clock: ManualClock,
    tasks: Arc<Mutex<Vec<BoxFuture<()>>>>,
}

impl Engine for NoEngine {
    fn backend(&self) -> &'static str {
        "nowhere"
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        let clock = self.clock.clone();
        Box::pin(poll_fn(move |_| if until <= clock.now() { Poll::Ready(()) } else { Poll::Pending }))
    }

    fn connect(&self, _: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(pending())
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.tasks.lock().unwrap().push(task);
    }

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
    runtime: Runtime,
    /// The background tasks.
    tasks: Arc<Mutex<Vec<BoxFuture<()>>>>,
    wakes: Arc<WakeCount>,
    kept: Arc<Mutex<Vec<Body>>>,
    ends: Arc<Mutex<Vec<StreamEnd>>>,
    pieces: Pieces,
    driving: Driving<Scripted>,
}

impl Rig {
    /// Creates a connection. `set` changes the settings.
    fn new(blocks: bool, set: impl FnOnce(&mut Config), reads: impl IntoIterator<Item = Read>) -> Rig {
        let app = App::default();
        let (kept, ends, pieces) = (app.kept.clone(), app.ends.clone(), app.pieces.clone());
        Rig { kept, ends, pieces, ..Rig::serving(app, blocks, set, reads) }
    }

    /// Creates a connection whose requests `handler` answers.
    fn calling(
        handler: impl Fn(Request) -> Answer + Send + Sync + 'static,
        blocks: bool,
        set: impl FnOnce(&mut Config),
        reads: impl IntoIterator<Item = Read>,
    ) -> Rig {
        Rig::serving(Calls(handler), blocks, set, reads)
    }

    fn serving(
        app: impl Handler,
        blocks: bool,
        set: impl FnOnce(&mut Config),
        reads: impl IntoIterator<Item = Read>,
    ) -> Rig {
        let (mut config, clock, shutdown) = (Config::default(), ManualClock::new(0), Shutdown::new());
        set(&mut config);
        let tasks = Arc::default();
        let engine = NoEngine { threads_block: blocks, clock: clock.clone(), tasks: Arc::clone(&tasks) };
        let runtime = Runtime::new(engine, &config, shutdown.clone());
        let time = Clock::Manual(clock.clone());
        let service = Service::new(Arc::new(app), config, shutdown, runtime.clone(), time);
        let script = Script { reads: reads.into_iter().collect(), room: usize::MAX, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let driving = drive(Scripted(script.clone(), clock.clone()), None, &service);
        let (kept, ends, pieces) = (Arc::default(), Arc::default(), Pieces::default());
        Rig { script, clock, service, runtime, tasks, wakes: Arc::default(), kept, ends, pieces, driving }
    }

    /// Creates another connection of the same server, from the address `peer`, that reads `reads`.
    fn another(&self, peer: Option<SocketAddr>, reads: impl IntoIterator<Item = Read>) -> Rig {
        let script = Script { reads: reads.into_iter().collect(), room: usize::MAX, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let driving = drive(Scripted(script.clone(), self.clock.clone()), peer, &self.service);
        Rig {
            script,
            clock: self.clock.clone(),
            service: self.service.clone(),
            runtime: self.runtime.clone(),
            tasks: self.tasks.clone(),
            wakes: Arc::default(),
            kept: self.kept.clone(),
            ends: self.ends.clone(),
            pieces: self.pieces.clone(),
            driving,
        }
    }

    /// Polls the connection. Returns whether it has ended.
    fn poll(&mut self) -> bool {
        let waker = Waker::from(self.wakes.clone());
        Pin::new(&mut self.driving).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    /// The number of times that the task of the connection was woken.
    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Polls the last background task. Returns whether it has ended.
    fn poll_task(&self) -> bool {
        let waker = Waker::from(self.wakes.clone());
        // The task may spawn others, so it is polled outside of the lock.
        let at = self.tasks.lock().unwrap().len().checked_sub(1).expect("a task was spawned");
        let mut task = std::mem::replace(&mut self.tasks.lock().unwrap()[at], Box::pin(pending()));
        let is_ready = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        self.tasks.lock().unwrap()[at] = task;
        is_ready
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Polls the connection. Returns the number of bytes that it has written in this turn, and whether it has woken
    /// itself.
    fn turn(&mut self) -> (usize, bool) {
        let (written, wakes) = (self.script().written.len(), self.wakes.0.load(Ordering::SeqCst));
        assert!(!self.poll(), "the connection has ended");
        let woken = self.wakes.0.load(Ordering::SeqCst) - wakes;
        (self.script().written.len() - written, woken > 0)
    }

    /// Polls the connection every half a second of its time, after `act`, until it has ended. Returns the time.
    fn ends_after(&mut self, mut act: impl FnMut(&mut Rig)) -> Duration {
        let start = self.clock.now();
        for _ in 0..10_000 {
            act(self);
            self.service.found_idle();
            if self.poll() {
                break;
            }
            self.clock.advance(Duration::from_millis(500));
        }
        self.clock.now() - start
    }

    /// Polls the connection every half a second of its time.
    fn lives_for(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            assert!(!self.poll(), "the connection has ended");
            self.clock.advance(Duration::from_millis(500));
        }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.script().written).into_owned()
    }

    #[track_caller]
    fn assert_written(&self, text: &str) {
        assert!(self.written().contains(text), "{text:?} is not in {}", self.written());
    }
}

/// Polls for the next piece of a body.
fn poll_body(body: &mut Body, waker: &Waker) -> Poll<Option<Result<Bytes, BodyError>>> {
    Pin::new(body).poll_next(&mut Context::from_waker(waker))
}

const EVENT_LOOP: bool = false;
const BLOCKING: bool = true;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
const NEVER: &str = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Returns the head of a request. Each field ends with a line break.
fn head(line: &str, fields: &str) -> &'static str {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").leak()
}

/// Returns a read of several requests.
fn all(requests: &[&str]) -> Read {
    Text(requests.concat().leak())
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

type Piece = Result<Bytes, &'static str>;

/// The pieces of a streamed response that are ready.
type Pieces = Arc<Mutex<VecDeque<&'static str>>>;

/// The size of the response of `/large`, and of the one piece of the response of `/huge`.
const LARGE: usize = 3 << 20;

/// Answers according to the path. A request with a body is answered with a description of the body, unless the body is
/// kept in the list.
#[derive(Default)]
struct App {
    kept: Arc<Mutex<Vec<Body>>>,
    ends: Arc<Mutex<Vec<StreamEnd>>>,
    pieces: Pieces,
}

/// A handler that is a function.
struct Calls<F>(F);

impl<F: Fn(Request) -> Answer + Send + Sync + 'static> Handler for Calls<F> {
    fn call(&self, request: Request) -> Answer {
        self.0(request)
    }
}

/// The end of the stream of `/upgrade`: the result of its read, and the number of background tasks after its drop.
type StreamEnd = (io::Result<usize>, usize);

impl Handler for App {
    fn call(&self, request: Request) -> Answer {
        let stalled = || Answer::Ready(Response::new(Body::from_stream(stream::pending::<Piece>())));
        match request.path() {
            "/stream" => stalled(),
            "/broken" => Answer::Ready(Response::new(Body::from_stream(stream::once(Piece::Err("broken"))))),
            "/pieces" => {
                let pieces = self.pieces.clone();
                let next = move |_: &mut Context<'_>| match pieces.lock().unwrap().pop_front() {
                    Some(piece) => Poll::Ready(Some(Piece::Ok(Bytes::from(piece)))),
                    None => Poll::Pending,
                };
                Answer::Ready(Response::new(Body::from_stream(stream::poll_fn(next))))
            }
            "/large" => Answer::Ready(Response::new(Bytes::from(vec![b'x'; LARGE]))),
            "/huge" => {
                let piece = Piece::Ok(vec![b'x'; LARGE].into());
                Answer::Ready(Response::new(Body::from_stream(stream::once(piece))))
            }
            "/endless" => {
                let piece = Piece::Ok(vec![b'x'; 10_000].into());
                Answer::Ready(Response::new(Body::from_stream(stream::repeat(piece))))
            }
            "/medium" => Answer::Ready(Response::new(Bytes::from(vec![b'x'; 100_000]))),
            path if path.starts_with("/status/") => {
                let status = path["/status/".len()..].parse().expect("a status");
                Answer::Ready(Response::status_only(status))
            }
            "/ignore" => Answer::Ready(Response::text("ignored")),
            "/some" => Answer::Later(
                Box::pin(async {
                    let mut body = request.into_body();
                    assert!(body.chunk().await.is_some_and(|piece| piece.is_ok()));
                    Response::text("some")
                }),
                None,
            ),
            "/count" => Answer::Later(
                Box::pin(async {
                    let (mut body, mut len) = (request.into_body(), 0);
                    while let Some(Ok(piece)) = body.chunk().await {
                        len += piece.len();
                    }
                    Response::text(format!("{len} bytes"))
                }),
                None,
            ),
            "/never" => Answer::Later(Box::pin(pending()), None),
            "/give-up" => Answer::Later(
                Box::pin(async {
                    let mut body = request.into_body();
                    assert!(poll_once(body.chunk()).await.is_none());
                    pending().await
                }),
                None,
            ),
            "/last" => Answer::Ready(Response::text("last").with_header("Connection", "close")),
            "/upgrade" => {
                let (runtime, ends) = (request.runtime().clone(), self.ends.clone());
                Answer::Ready(upgrade(async move |mut stream: Stream| {
                    let read = stream.read(&mut [0; 100]).await;
                    drop(stream);
                    ends.lock().unwrap().push((read, runtime.tasks()));
                }))
            }
            "/upgrade-and-hold" => Answer::Ready(upgrade(|stream| async move {
                let _stream = stream;
                pending().await
            })),
            "/upgrade-and-drop" => Answer::Ready(upgrade(|stream| async move {
                drop(stream);
                pending().await
            })),
            "/keep" => {
                self.kept.lock().unwrap().push(request.into_body());
                Answer::Later(Box::pin(pending()), None)
            }
            "/keep-stream" => {
                self.kept.lock().unwrap().push(request.into_body());
                stalled()
            }
            _ if request.body().is_empty() => Answer::Ready(Response::text("x".repeat(1000))),
            _ => Answer::Later(
                Box::pin(async {
                    let read = request.into_body().bytes(1000).await;
                    yield_now().await;
                    Response::text(format!("{read:?} {}", "y".repeat(1000)))
                }),
                None,
            ),
        }
    }
}

/// A response after which the connection speaks the protocol `x`.
fn upgrade<U>(then: impl FnOnce(Stream) -> U + Send + 'static) -> Response
where
    U: Future<Output = ()> + Send + 'static,
{
    Response::upgrade(HeaderValue::from_static("x"), then)
}

#[test]
fn a_peer_that_ends_its_sending_side_after_its_body_is_answered() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(POST), Nothing, Text("abc"), End]);
    assert!(!rig.poll());
    assert!(!rig.poll(), "the body is read, and the handler waits");
    assert!(rig.poll());
    rig.assert_written("abc");
}

#[test]
fn the_close_lingers_for_a_peer_that_sends_after_the_last_response() {
    // The read before the lingering close finds a request. The lingering close reads until the end.
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /last", "")), Text(GET), Nothing, End]);
    assert!(!rig.poll());
    assert!(rig.script().is_shut);
    assert!(rig.poll());
}

#[test]
fn the_wait_for_a_body_does_not_change_the_deadline_of_a_write() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.body_timeout, config.min_rate) = (seconds(20), seconds(15), 0);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [all(&[GET, POST]), Nothing, Text("a"), Nothing, Text("bc")]);
    rig.script().room = 100;
    let start = rig.clock.now();
    assert!(!rig.poll());
    assert_eq!(rig.script().deadline, Some(start + seconds(15)));
    rig.clock.advance(seconds(10));
    for _ in 0..2 {
        assert!(!rig.poll());
        assert_eq!(rig.script().deadline, Some(start + seconds(20)));
    }
    rig.clock.advance(seconds(10));
    assert!(rig.poll(), "the peer has received nothing before the deadline of the write");
}

#[test]
fn a_stream_that_fails_does_not_discard_the_responses_before_it() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, head("GET /broken", "")])]);
    assert!(rig.poll());
    rig.assert_written(&"x".repeat(1000));
    assert!(!rig.written().ends_with("0\r\n\r\n"), "the broken response has no last chunk");
}

#[test]
fn a_stream_that_is_cut_is_not_reported_as_finished() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /stream", ""))]);
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
    let expects = head("POST /stream", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, expects])]);
    assert!(!rig.poll());
    // The earlier response is sent.
    rig.assert_written(&"x".repeat(1000));
    rig.service.shutdown().force();
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn a_forced_stop_wakes_a_connection_whose_handler_is_pending() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [Text(NEVER)]);
    assert!(!rig.poll());
    rig.service.shutdown().force();
    assert_eq!(rig.wakes.0.load(Ordering::SeqCst), 1);
    assert!(rig.poll());
}

#[test]
fn a_request_counts_as_cut_if_a_forced_stop_ends_a_write_before_its_response() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [all(&[GET, NEVER])]);
    rig.script().room = 10;
    rig.script().force = Some(rig.service.shutdown().clone());
    assert!(rig.poll());
    assert_eq!(Report::of(&rig.service).cut, 1);
}

#[test]
fn responses_to_requests_with_bodies_do_not_exceed_the_output_limit() {
    let reads = [Text(POST), Nothing].into_iter().chain([all(&["abc", POST]), Nothing].repeat(50));
    let set = |config: &mut Config| (config.limits.output, config.limits.pipeline) = (2_000, 1000);
    let mut rig = Rig::new(EVENT_LOOP, set, reads);
    rig.script().room = 0;
    for _ in 0..200 {
        assert!(!rig.poll());
    }
    let max_queued = rig.script().max_queued;
    assert!((1_000..4_000).contains(&max_queued), "{max_queued}");
}

#[test]
fn the_response_for_a_late_handler_has_the_deadline_of_a_write() {
    let mut rig = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
    rig.script().room = 20;
    assert!(!rig.poll());
    rig.clock.advance(seconds(5));
    assert!(!rig.poll(), "the peer has received only the beginning");
    rig.script().room = usize::MAX;
    rig.poll();
    let written = rig.written();
    assert!(written.starts_with("HTTP/1.1 503 ") && written.contains("\r\n\r\n"), "{written}");
}

/// A request with a body of 6 bytes, of which 3 arrive with the head.
const PART_OF_SIX: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";

#[test]
fn a_body_up_to_the_buffer_is_awaited_before_its_request_holds_a_thread() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (rest, malformed) = ("3\r\ndef\r\n0\r\n\r\n", "x\r\n");
    let default = Config::default().body_buffer;
    for (begin, rest, body_buffer, is_buffered, said) in [
        (PART_OF_SIX, "def", default, true, "abcdef"),
        (PART_OF_SIX, "def", 5, false, "abcdef"),
        (chunked, rest, 0, false, "abcdef"),
        (chunked, rest, 4, true, "abcdef"),
        (chunked, rest, 100, true, "abcdef"),
        (chunked, malformed, 0, false, "Malformed(ChunkSize)"),
        (chunked, malformed, 4, true, "Malformed(ChunkSize)"),
        (chunked, malformed, 100, true, "Malformed(ChunkSize)"),
    ] {
        let reads = [Text(begin), Nothing, Text(rest)];
        let mut rig = Rig::new(BLOCKING, |config| config.body_buffer = body_buffer, reads);
        assert!(!rig.poll());
        assert_eq!(rig.driving.is_handling(), !is_buffered, "{begin:?}, {body_buffer}");
        assert!(!rig.poll(), "the body is complete, and the handler waits");
        assert!(rig.driving.is_handling(), "{begin:?}, {body_buffer}");
        assert!(!rig.poll());
        rig.assert_written(said);
    }
}

#[test]
fn a_handler_gets_the_error_of_an_incomplete_body_on_every_backend() {
    for threads_block in [false, true] {
        for (stop, error) in [(Some(End), "Incomplete"), (None, "TimedOut")] {
            let reads = [Text(PART_OF_SIX), Nothing].into_iter().chain(stop);
            let mut rig = Rig::new(threads_block, |config| config.body_timeout = seconds(5), reads);
            assert!(!rig.poll());
            rig.clock.advance(seconds(6));
            for _ in 0..4 {
                rig.poll();
            }
            rig.assert_written(error);
        }
    }
}

#[test]
fn the_body_of_a_request_that_expects_100_continue_is_not_buffered() {
    let head = head("POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(BLOCKING, |_| {}, [Text(head), Nothing, Text("abc")]);
    assert!(!rig.poll());
    assert!(rig.driving.is_handling());
    assert!(rig.written().starts_with(CONTINUE), "{}", rig.written());
}

#[test]
fn a_peer_that_has_ended_its_sending_side_is_probed_if_its_request_waited_long_for_a_thread() {
    for (waited, is_probed) in [(0, false), (50, false), (100, true), (5_000, true)] {
        let mut rig = Rig::new(BLOCKING, |_| {}, [Text(NEVER), End]);
        rig.script().has_unread_end = true;
        rig.service.found_idle();
        rig.clock.advance(Duration::from_millis(waited));
        assert!(!rig.poll());
        assert_eq!(rig.driving.is_handling(), !is_probed, "{waited} ms");
        assert_eq!(rig.written().starts_with(CONTINUE), is_probed, "{waited} ms");
    }
}

#[test]
fn the_time_in_which_a_connection_waits_for_a_thread_does_not_count_as_the_peers() {
    for is_thread_idle in [false, true] {
        let set = |config: &mut Config| (config.write_timeout, config.min_rate) = (seconds(20), 1_000);
        let mut rig = Rig::new(BLOCKING, set, [Text(GET)]);
        rig.script().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(seconds(15));
        if is_thread_idle {
            rig.service.found_idle();
        }
        rig.script().room = 100;
        assert!(!rig.poll());
        // 100 bytes are below the minimum rate only if the peer needed all of the time for them.
        rig.clock.advance(seconds(10));
        assert_eq!(rig.poll(), is_thread_idle);
    }
}

#[test]
fn a_stop_waits_for_the_first_head_of_a_connection() {
    let (begin, rest) = GET.split_at(5);
    let set = |config: &mut Config| config.header_timeout = seconds(10);
    for reads in [vec![Text(GET)], vec![Text(begin), Nothing, Text(rest)]] {
        let mut rig = Rig::new(EVENT_LOOP, set, []);
        assert!(!rig.poll());
        rig.service.shutdown().graceful();
        assert!(!rig.poll(), "the peer is silent");
        rig.clock.advance(seconds(9));
        rig.script().reads.extend(reads);
        while !rig.poll() {}
        rig.assert_written("HTTP/1.1 200 OK");
        rig.assert_written("Connection: close");
    }
}

#[test]
fn a_stop_waits_for_a_first_head_until_its_deadline() {
    for (read, status, refused) in [(Nothing, "", 0), (Text(&GET[..5]), "HTTP/1.1 408 ", 1)] {
        let mut rig = Rig::new(EVENT_LOOP, |config| config.header_timeout = seconds(10), [read]);
        assert!(!rig.poll());
        rig.service.shutdown().graceful();
        rig.clock.advance(seconds(9));
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        rig.poll();
        let written = rig.written();
        assert!(written.starts_with(status) && written.is_empty() == status.is_empty(), "{written}");
        assert_eq!(Report::of(&rig.service).refused, refused);
    }
}

#[test]
fn a_stop_ends_an_idle_connection_and_waits_for_a_head_that_has_begun() {
    for (rest, is_idle) in [(None, true), (Some("\r\nHost: a\r\n\r\n"), false)] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(GET)]);
        assert!(!rig.poll());
        if !is_idle {
            rig.script().reads.push_back(Text("GET / HTTP/1.1"));
            assert!(!rig.poll());
        }
        rig.service.shutdown().graceful();
        assert_eq!(rig.poll(), is_idle);
        rig.script().reads.extend(rest.map(Text));
        while !rig.poll() {}
        assert_eq!(rig.written().matches("HTTP/1.1 200 OK").count(), if is_idle { 1 } else { 2 });
        assert_eq!(rig.written().contains("Connection: close"), !is_idle);
    }
}

#[test]
fn a_stop_lingers_behind_a_body_that_its_handler_did_not_read() {
    let head = head("POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, []);
    rig.script().reads.extend([Text(head.replace("POST /", "POST /ignore").leak())]);
    assert!(!rig.poll());
    rig.assert_written("HTTP/1.1 200 OK");
    rig.service.shutdown().graceful();
    assert!(!rig.poll(), "the peer may be sending");
    assert!(rig.script().is_shut);
    rig.script().reads.extend([Text("abc"), End]);
    assert!(rig.poll());
}

#[test]
fn bytes_that_arrived_while_the_process_was_stopped_are_read_before_a_deadline_is_judged() {
    let stopped = seconds(600);
    let set = |config: &mut Config| config.min_rate = 256;
    // An idle connection, a head, a body.
    for (before, arrived) in [(GET, GET), ("GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"), (POST, "abc")] {
        let mut rig = Rig::new(EVENT_LOOP, set, [Text(before), Nothing]);
        assert!(!rig.poll());
        rig.script().written.clear();
        rig.clock.advance(stopped);
        rig.script().reads.push_back(Text(arrived));
        for _ in 0..3 {
            assert!(!rig.poll(), "{before:?}");
        }
        rig.assert_written("HTTP/1.1 200 OK");
    }
}

#[test]
fn a_handler_gets_the_time_again_for_which_the_process_was_stopped() {
    for (late_by, is_over) in
        [(Duration::ZERO, true), (Duration::from_millis(1), false), (seconds(60), false)]
    {
        let mut rig = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
        assert!(!rig.poll());
        rig.clock.advance(seconds(5) + late_by);
        rig.poll();
        assert_eq!(rig.written().starts_with("HTTP/1.1 503 "), is_over, "{late_by:?}");
        rig.clock.advance(late_by.min(seconds(5)));
        rig.poll();
        rig.assert_written("HTTP/1.1 503 ");
    }
}

#[test]
fn a_peer_that_missed_the_deadline_of_a_write_gets_no_more_while_its_handler_goes_on() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.on_disconnect) = (seconds(5), OnDisconnect::Ignore);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [all(&[GET, NEVER])]);
    rig.script().room = 10;
    assert!(!rig.poll());
    let sent = rig.written().len();
    rig.clock.advance(seconds(6));
    assert!(!rig.poll());
    rig.script().room = 1_000;
    assert!(!rig.poll());
    assert_eq!(rig.written().len(), sent);
}

#[test]
fn a_deadline_that_is_always_noticed_late_ends_the_second_wait() {
    let mut handler = Rig::new(EVENT_LOOP, |config| config.handler_timeout = seconds(5), [Text(NEVER)]);
    assert!(!handler.poll());
    for written in [false, true] {
        handler.clock.advance(seconds(60));
        handler.poll();
        assert_eq!(handler.written().starts_with("HTTP/1.1 503 "), written);
    }
    let mut stream = half_closed(PIECES, |_| {});
    for _ in 0..3 {
        stream.clock.advance(seconds(60));
        assert!(!stream.poll(), "each piece is excused once");
        stream.pieces.lock().unwrap().push_back("next ");
        assert!(!stream.poll());
    }
    for is_over in [false, true] {
        stream.clock.advance(seconds(60));
        assert_eq!(stream.poll(), is_over);
    }
}

#[test]
fn the_deadline_of_a_head_that_arrives_during_a_stop_does_not_end_the_response() {
    let (begin, rest) = GET.split_at(5);
    let mut rig =
        Rig::new(EVENT_LOOP, |config| config.header_timeout = seconds(10), [Text(begin), Nothing, Nothing]);
    assert!(!rig.poll());
    rig.script().reads = [Text(rest)].into();
    rig.script().room = 100;
    rig.service.shutdown().graceful();
    rig.clock.advance(seconds(11));
    assert!(!rig.poll(), "the peer has received only the beginning of the response");
    rig.script().room = usize::MAX;
    assert!(rig.poll());
    assert!(rig.written().ends_with(&"x".repeat(1000)), "{}", rig.written());
}

#[test]
fn a_write_wakes_the_driver_while_another_task_reads_the_body() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[GET, keep]), Text("abc")]);
    rig.script().room = 100;
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    assert!(poll_body(&mut body, Waker::noop()).is_ready());
    let before = rig.wakes();
    let writer = rig.script().writer.take().unwrap();
    writer.wake();
    assert_eq!(rig.wakes(), before + 1);
}

#[test]
fn a_handler_that_has_given_up_its_body_has_a_deadline() {
    let give_up = head("POST /give-up", "Content-Length: 3\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.handler_timeout, config.min_rate) = (seconds(20), seconds(5), 0);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(give_up), Nothing]);
    assert!(!rig.poll());
    // The handler may still wait for its body.
    for _ in 0..4 {
        rig.clock.advance(Duration::from_millis(4_900));
        assert!(!rig.poll());
        assert_eq!(rig.written(), "");
    }
    for _ in 0..3 {
        rig.clock.advance(Duration::from_millis(2_700));
        rig.poll();
    }
    rig.assert_written("503 Service Unavailable");
}

#[test]
fn the_driver_watches_the_peer_again_when_another_task_has_read_the_body() {
    let keep = head("POST /keep", "Content-Length: 3\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(keep), Nothing]);
    assert!(!rig.poll());
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    assert!(poll_body(&mut body, Waker::noop()).is_pending());
    assert_eq!(rig.wakes(), 0);
    rig.script().reads.push_back(Text("abc"));
    assert!(poll_body(&mut body, Waker::noop()).is_ready());
    assert_eq!(rig.wakes(), 1);
    assert!(!rig.poll());
    let reader = rig.script().reader.take().unwrap();
    reader.wake();
    assert_eq!(rig.wakes(), 2, "the transport would wake another task");
}

#[test]
fn a_failure_that_another_task_reads_ends_the_connection() {
    for line in ["POST /keep", "POST /keep-stream"] {
        let head = head(line, "Content-Length: 3\r\n");
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head), Nothing, Nothing]);
        assert!(!rig.poll());
        let mut body = rig.kept.lock().unwrap().pop().unwrap();
        rig.script().reads = [Reset].into();
        assert!(matches!(poll_body(&mut body, Waker::noop()), Poll::Ready(Some(Err(BodyError::Io(_))))));
        assert_eq!(rig.wakes(), 1, "{line}");
        assert!(rig.poll(), "{line}");
    }
}

#[test]
fn a_body_that_another_task_reads_ends_with_its_connection() {
    for line in ["POST /keep", "POST /keep-stream"] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head(line, "Content-Length: 3\r\n")), Nothing]);
        assert!(!rig.poll());
        let mut body = rig.kept.lock().unwrap().pop().unwrap();
        let reader = Arc::new(WakeCount::default());
        let waker = Waker::from(reader.clone());
        assert!(poll_body(&mut body, &waker).is_pending());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert_eq!(Arc::strong_count(&rig.script), 1, "{line}: the transport was dropped");
        assert_eq!(reader.0.load(Ordering::SeqCst), 1, "{line}");
        assert!(matches!(poll_body(&mut body, &waker), Poll::Ready(Some(Err(BodyError::Gone)))), "{line}");
    }
}

#[test]
fn a_peer_that_dribbles_to_a_handler_is_slow_although_its_thread_is_never_idle() {
    let head = head("POST /", "Content-Length: 90\r\n");
    let set = |config: &mut Config| {
        (config.body_buffer, config.body_timeout, config.min_rate) = (0, seconds(20), 1_000);
    };
    let mut rig = Rig::new(BLOCKING, set, [Text(head), Nothing]);
    assert!(!rig.poll());
    for _ in 0..6 {
        rig.clock.advance(seconds(10));
        rig.poll();
        rig.script().reads.extend([Text("a"), Nothing]);
        rig.poll();
    }
    rig.assert_written("TimedOut");
}

#[test]
fn a_question_does_not_read_beyond_what_is_read_ahead() {
    let mut rig = Rig::new(BLOCKING, |_| {}, [all(&[NEVER, &GET.repeat(200)]), Text(GET)]);
    rig.script().has_unread_end = true;
    rig.clock.advance(seconds(1));
    assert!(!rig.poll());
    assert!(rig.driving.is_handling());
    assert_eq!(rig.script().reads.len(), 1);
}

#[test]
fn a_pause_of_accepting_ends_when_a_connection_closes() {
    let rig = Rig::new(false, |_| {}, []);
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let open = rig.service.connections();
    let mut pause = pin!(AcceptPause::over(&rig.service, open, pending()));
    assert!(pause.as_mut().poll(&mut cx).is_pending());
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    drop(rig.driving);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(pause.as_mut().poll(&mut cx).is_ready());
    // A connection that has closed between the attempt and the pause ends the pause at once.
    assert!(pin!(AcceptPause::over(&rig.service, open, pending())).poll(&mut cx).is_ready());
}

#[test]
fn without_keep_alive_the_last_response_says_that_it_is_the_last() {
    const CLOSE: &str = "Connection: close";
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (reads, responses) in [
            (vec![Text(GET)], 1),
            (vec![Text(POST), Nothing, Text("abc")], 1),
            // The last read finds an empty line.
            (vec![Text(GET), Text("\r\n")], 1),
            (vec![all(&[GET, POST, "abc", GET])], 3),
            // The second request is in the socket when the first one is answered.
            (vec![Text(GET), Text(GET)], 2),
            (vec![all(&[GET, "GET"]), Nothing, Text(" / HTTP/1.1\r\nHost: a\r\n\r\n")], 2),
        ] {
            let mut rig = Rig::new(blocks, |config| config.keep_alive = Duration::ZERO, reads);
            let has_ended = (0..10).any(|_| rig.poll());
            let written = rig.written();
            assert!(has_ended || rig.script().is_shut, "{written}");
            assert_eq!(written.matches("HTTP/1.1 200").count(), responses, "{written}");
            assert_eq!(written.matches(CLOSE).count(), 1, "{written}");
            let (before, last) = written.rsplit_once("HTTP/1.1 200").unwrap();
            assert!(last.contains(CLOSE) && !before.contains(CLOSE), "{written}");
        }
    }
}

/// The lines of the access log and of other logs that tests read, of all tests.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct AccessLines;

/// Makes the process keep its log lines in [`LINES`].
fn keep_lines() {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&AccessLines).expect("the process has no other logger");
        log::set_max_level(log::LevelFilter::Info);
    });
}

impl log::Log for AccessLines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        ["gearshift::access", "gearshift::stall", "gearshift_core::server::accept"]
            .contains(&metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Creates a connection with an access log. The time is 1994-11-06 08:49:37.
fn logged(blocks: bool, reads: impl IntoIterator<Item = Read>) -> Rig {
    keep_lines();
    let mut rig = Rig::new(blocks, |config| config.access_log = true, reads);
    rig.clock.advance(seconds(784_111_777));
    rig.driving = drive(Scripted(rig.script.clone(), rig.clock.clone()), None, &rig.service);
    rig
}

/// Takes the lines about requests with this target.
fn lines_about(target: &str) -> Vec<String> {
    let request = format!(" {target} ");
    LINES.lock().unwrap().extract_if(.., |line| line.contains(&request)).collect()
}

#[test]
fn a_request_lasts_from_the_first_byte_of_its_head_to_the_last_byte_of_its_response() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        let mut rig = logged(blocks, [Text("GET /lasts HTTP/1.1\r\n"), Nothing]);
        assert!(!rig.poll());
        rig.clock.advance(seconds(3));
        rig.script().reads.extend([Text("Host: a\r\n\r\n"), Nothing]);
        rig.script().room = 100;
        assert!(!rig.poll());
        rig.clock.advance(seconds(4));
        assert_eq!(lines_about("/lasts"), Vec::<String>::new(), "the response is not sent");
        rig.script().room = usize::MAX;
        assert!(!rig.poll());
        let line = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /lasts HTTP/1.1\" 200 1000 7.000000";
        assert_eq!(lines_about("/lasts"), [line]);
        // The time without a request is not that of the next one.
        rig.clock.advance(seconds(2));
        rig.script().reads.extend([Text(head("GET /lasts", ""))]);
        assert!(!rig.poll());
        let line = "unix - - [06/Nov/1994:08:49:46 +0000] \"GET /lasts HTTP/1.1\" 200 1000 0.000000";
        assert_eq!(lines_about("/lasts"), [line]);
    }
}

#[test]
fn pipelined_responses_are_logged_as_they_are_sent() {
    let mut rig = logged(EVENT_LOOP, [all(&[head("GET /pipelined", ""); 3])]);
    rig.script().room = 1_500;
    assert!(!rig.poll());
    assert_eq!(lines_about("/pipelined").len(), 1);
    let written = rig.written();
    let (_, begun) = written.split_once(&"x".repeat(1000)).unwrap();
    let (_, body) = begun.split_once("\r\n\r\n").unwrap();
    rig.clock.advance(seconds(1));
    drop(rig.driving);
    let lines = lines_about("/pipelined");
    let begin = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /pipelined HTTP/1.1\"";
    assert_eq!(lines, [format!("{begin} 200 {} 1.000000 cut", body.len()), format!("{begin} - 0 1.000000")]);
}

#[test]
fn a_request_that_is_not_answered_is_logged_when_the_connection_ends() {
    for blocks in [EVENT_LOOP, BLOCKING] {
        // A handler, the wait for a small body, and a stream of which only the head was sent.
        for (target, fields, status) in
            [("/never", "", "-"), ("/unread", "Content-Length: 3\r\n", "-"), ("/stream", "", "200")]
        {
            let mut rig = logged(blocks, [Text(head(&format!("GET {target}?{blocks}"), fields)), Nothing]);
            assert!(!rig.poll());
            rig.clock.advance(seconds(1));
            let target = format!("{target}?{blocks}");
            assert_eq!(lines_about(&target), Vec::<String>::new());
            rig.service.shutdown().force();
            assert!(rig.poll());
            let cut = if status == "-" { "" } else { " cut" };
            let request = format!("\"GET {target} HTTP/1.1\"");
            let line = format!("unix - - [06/Nov/1994:08:49:37 +0000] {request} {status} 0 1.000000{cut}");
            assert_eq!(lines_about(&target), [line]);
        }
    }
}

#[test]
fn a_response_of_which_nothing_was_sent_has_no_status_in_the_log() {
    let mut rig = logged(EVENT_LOOP, [Text(head("GET /unsent", ""))]);
    rig.script().room = 0;
    assert!(!rig.poll());
    drop(rig.driving);
    let line = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET /unsent HTTP/1.1\" - 0 0.000000";
    assert_eq!(lines_about("/unsent"), [line]);
}

const OFFER: &str = "Connection: upgrade\r\nUpgrade: x\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\n";

/// Creates a connection that was upgraded by the route `path`, and that has received `early` bytes of the new protocol.
fn upgraded(path: &str, early: &str) -> Rig {
    let upgrade = head(&format!("GET {path}"), OFFER);
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [all(&[upgrade, early])]);
    assert!(rig.poll(), "the driver has ended");
    assert!(rig.written().starts_with(SWITCHING), "{}", rig.written());
    rig
}

#[test]
fn an_upgraded_connection_is_open_until_its_stream_is_dropped() {
    let rig = upgraded("/upgrade", "");
    assert!(!rig.poll_task());
    let stats = rig.runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded, stats.tasks_running), (1, 1, 0));
    assert_eq!(stats.requests_in_flight, 0);
    rig.tasks.lock().unwrap().clear();
    assert_eq!(Arc::strong_count(&rig.script), 1, "the transport was dropped");
    let stats = rig.runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded, stats.tasks_running), (0, 0, 0));
    assert_eq!(Report::of(&rig.service).cut, 0);
}

#[test]
fn a_forced_stop_wakes_and_cuts_an_upgraded_connection() {
    for path in ["/upgrade", "/upgrade-and-hold"] {
        let rig = upgraded(path, "");
        rig.service.shutdown().graceful();
        assert_eq!(rig.wakes(), 0, "the driver has ended");
        assert!(!rig.poll_task(), "{path}");
        assert_eq!(Report::of(&rig.service).cut, 1, "an open connection counts as cut");
        rig.service.shutdown().force();
        assert!(rig.wakes() > 0, "{path}");
        assert!(rig.poll_task(), "{path}");
        assert_eq!((rig.service.connections(), Report::of(&rig.service).cut), (0, 1), "{path}");
        assert_eq!(rig.runtime.tasks(), 0, "{path}");
    }
}

#[test]
fn the_stream_of_an_upgrade_fails_after_a_forced_stop() {
    for (early, is_polled) in [("", true), ("", false), ("early", false)] {
        let rig = upgraded("/upgrade", early);
        assert!(!is_polled || !rig.poll_task());
        rig.service.shutdown().force();
        assert!(rig.poll_task());
        let ends = rig.ends.lock().unwrap();
        let [(Err(error), tasks)] = &ends[..] else { panic!("{ends:?}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(*tasks, 0, "a task of a connection that was cut is no background task");
    }
}

#[test]
fn the_stream_of_an_upgrade_begins_with_the_bytes_after_the_request() {
    let rig = upgraded("/upgrade", "early");
    assert!(rig.poll_task());
    assert!(matches!(rig.ends.lock().unwrap()[..], [(Ok(5), 1)]));
}

#[test]
fn the_rest_of_an_upgrade_without_its_stream_is_a_background_task() {
    let rig = upgraded("/upgrade-and-drop", "");
    assert_eq!((rig.service.connections(), rig.runtime.tasks()), (1, 0));
    assert!(!rig.poll_task());
    assert_eq!((rig.service.connections(), rig.runtime.tasks()), (0, 1));
    rig.tasks.lock().unwrap().clear();
    assert_eq!(rig.runtime.tasks(), 0);
}

/// Creates a connection with an upgrade whose body has three bytes.
fn upgrade_with_body(set: impl FnOnce(&mut Config), fields: &str, reads: &[Read]) -> Rig {
    let begin = Text(head("POST /upgrade", &format!("{OFFER}Content-Length: 3\r\n{fields}")));
    let set = |config: &mut Config| {
        config.body_buffer = 0;
        set(config);
    };
    Rig::new(EVENT_LOOP, set, [begin, Nothing].into_iter().chain(reads.iter().copied()))
}

#[test]
fn an_upgrade_waits_for_the_body_of_its_request() {
    for (fields, interim) in [("", ""), ("Expect: 100-continue\r\n", CONTINUE)] {
        let mut rig = upgrade_with_body(|_| {}, fields, &[Text("ab"), Nothing, Text("c")]);
        for _ in 0..2 {
            assert!(!rig.poll());
            assert_eq!(rig.written(), interim);
        }
        assert!(rig.poll());
        assert!(rig.written().starts_with(&format!("{interim}{SWITCHING}")), "{}", rig.written());
        assert_eq!(rig.script().deadline, None, "the new protocol has no deadline");
    }
}

#[test]
fn an_upgrade_waits_for_a_body_as_long_as_a_reader_does() {
    let set = |config: &mut Config| (config.body_timeout, config.min_rate) = (seconds(20), 1_000);
    let mut rig = upgrade_with_body(set, "", &[Text("a")]);
    assert!(!rig.poll());
    for wait in [19, 2] {
        assert_eq!(rig.written(), "");
        rig.clock.advance(seconds(wait));
        rig.script().reads.push_back(Nothing);
        rig.poll();
    }
    rig.assert_written("HTTP/1.1 408 ");
    assert_eq!(rig.service.connections(), 1, "the connection lingers");
}

#[test]
fn an_upgrade_drops_no_more_than_the_drain_limit() {
    for (drain, is_refused) in [(3, false), (2, true), (0, true)] {
        for fields in ["", "Expect: 100-continue\r\n"] {
            let mut rig = upgrade_with_body(|config| config.limits.drain = drain, fields, &[Text("abc")]);
            rig.poll();
            let status = if is_refused { "HTTP/1.1 413 " } else { SWITCHING };
            let interim = if is_refused || fields.is_empty() { "" } else { CONTINUE };
            rig.poll();
            assert!(rig.written().starts_with(&format!("{interim}{status}")), "{drain} {}", rig.written());
        }
        let chunked = format!("{OFFER}Transfer-Encoding: chunked\r\n");
        let chunks = ["2\r\nab\r\n", "1\r\nc\r\n0\r\n\r\n"].map(Text);
        let reads = [Text(head("POST /upgrade", &chunked)), Nothing].into_iter().chain(chunks);
        let mut rig = Rig::new(EVENT_LOOP, |config| config.limits.drain = drain, reads);
        rig.poll();
        rig.poll();
        assert_eq!(rig.written().starts_with("HTTP/1.1 413 "), is_refused, "{drain} {}", rig.written());
    }
}

#[test]
fn a_forced_stop_cuts_an_upgrade_that_waits_for_its_body_or_its_peer() {
    for (reads, room) in [(&[][..], usize::MAX), (&[Text("abc")], 10)] {
        let mut rig = upgrade_with_body(|_| {}, "", reads);
        rig.script().room = room;
        assert!(!rig.poll());
        assert!(!rig.poll());
        rig.service.shutdown().force();
        assert!(rig.poll());
        assert_eq!((rig.service.connections(), Report::of(&rig.service).cut), (0, 1));
        assert!(rig.tasks.lock().unwrap().is_empty(), "the function is not called");
    }
}

#[test]
fn setting_the_clock_of_the_system_does_not_change_the_age_of_a_connection() {
    const HOUR: Duration = seconds(3600);
    for blocks in [EVENT_LOOP, BLOCKING] {
        let mut rig = Rig::new(blocks, |config| config.max_age = HOUR, []);
        let start = 1_700_000_000;
        for (wall, advance, closes) in [
            (start, Duration::ZERO, false),
            (start + 7200, HOUR / 2, false),
            (start - 7200, HOUR / 2 - seconds(1), false),
            (start - 7200, seconds(1), true),
        ] {
            rig.clock.set_unix_start(wall);
            rig.clock.advance(advance);
            rig.script().written.clear();
            rig.script().reads.push_back(all(&[GET]));
            assert_eq!(rig.poll(), closes, "{wall} {advance:?}");
            rig.assert_written("HTTP/1.1 200 OK");
            assert_eq!(rig.written().contains("Connection: close"), closes, "{wall} {advance:?}");
        }
    }
}

/// The most that a turn writes: the limit of a turn, and one write beyond it.
const MAX_TURN: usize = 2 * WriteQueue::MAX_WRITE;

#[test]
fn a_large_response_is_written_in_several_turns() {
    let medium = GET.replace("/ ", "/medium ").repeat(40).leak();
    for (request, blocks) in [
        (head("GET /large", ""), EVENT_LOOP),
        (head("GET /large", ""), BLOCKING),
        (head("GET /huge", ""), EVENT_LOOP),
        (head("GET /endless", ""), EVENT_LOOP),
        (medium, EVENT_LOOP),
    ] {
        let mut rig = Rig::new(blocks, |_| {}, [Text(request)]);
        let turns: Vec<_> = (0..4).map(|_| rig.turn()).collect();
        assert!(turns.iter().all(|&(written, _)| (1..=MAX_TURN).contains(&written)), "{request}: {turns:?}");
        assert!(turns.iter().all(|&(_, is_woken)| is_woken), "{request}: {turns:?}");
    }
}

#[test]
fn a_response_below_the_limit_of_a_turn_is_written_in_one() {
    for request in [head("GET /medium", ""), GET] {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, []);
        for _ in 0..10 {
            rig.script().reads.extend([Text(request), Nothing]);
            let (written, is_woken) = rig.turn();
            assert!(written > 1000 && !is_woken, "{request}: {written} bytes, woken: {is_woken}");
        }
    }
}

/// A read of 64 KiB.
fn bulk() -> Read {
    Text("x".repeat(64 << 10).leak())
}

#[test]
fn a_body_that_arrives_without_a_pause_is_read_in_several_turns() {
    const READS: usize = 64;
    // The limit of a turn is 8 reads.
    const MAX_READS: usize = 9;
    let body = format!("Content-Length: {}\r\n", READS << 16).leak();
    let refused = head("GET /", "Transfer-Encoding: x\r\n");
    for (line, blocks) in [
        (head("POST /count", body), EVENT_LOOP),
        (head("POST /count", body), BLOCKING),
        // The lingering close.
        (refused, EVENT_LOOP),
    ] {
        let reads = [Text(line), Nothing].into_iter().chain([bulk(); READS]);
        let mut rig = Rig::new(blocks, |_| {}, reads);
        let mut left = READS;
        while left > MAX_READS {
            let (_, is_woken) = rig.turn();
            let now = rig.script().reads.len().min(READS);
            assert!(left - now <= MAX_READS, "{line}: {left} reads were left, and {now} after one turn");
            assert!(is_woken || now >= READS - 1, "{line}: the connection waits, and {now} reads are left");
            left = now;
        }
    }
}

#[test]
fn the_rest_of_an_unread_body_obeys_the_minimum_rate() {
    let unread = head("POST /ignore", "Content-Length: 200000\r\n");
    let chunked = head("POST /ignore", "Transfer-Encoding: chunked\r\n");
    let drip = |byte| move |rig: &mut Rig| rig.script().reads.extend([Text(byte), Nothing]);
    for blocks in [EVENT_LOOP, BLOCKING] {
        for (request, byte, min_rate) in [
            (unread, "x", 256),
            (unread, "x", 0),
            // A chunk size, an extension, a trailer.
            (chunked, "0", 256),
            (all(&[chunked, "1;a="]).text(), "b", 256),
            (all(&[chunked, "0\r\n"]).text(), "b", 256),
        ] {
            let set = |config: &mut Config| {
                (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(1), min_rate, 0);
            };
            let mut rig = Rig::new(blocks, set, [Text(request)]);
            assert!(!rig.poll());
            rig.assert_written("ignored");
            let took = rig.ends_after(drip(byte));
            // The lingering close follows.
            let limit = seconds(1) + Config::default().linger;
            assert!(took >= limit && took <= limit + seconds(1), "{request:?} {byte:?} {min_rate}: {took:?}");
            assert!(rig.script().is_shut, "the peer is told before the connection closes");
        }
    }
}

#[test]
fn a_small_body_is_awaited_for_its_own_time_after_the_rest_of_another() {
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(4), 0, 5);
    };
    let mut rig = Rig::new(BLOCKING, set, [Text(head("POST /ignore", "Content-Length: 10\r\n"))]);
    rig.lives_for(seconds(3));
    rig.assert_written("ignored");
    rig.service.found_idle();
    let next = all(&["0123456789", head("POST /count", "Content-Length: 3\r\n")]);
    rig.script().reads.extend([next, Nothing]);
    rig.lives_for(seconds(3));
    rig.service.found_idle();
    rig.script().reads.extend([Text("abc"), Nothing]);
    assert!(!rig.poll());
    rig.assert_written("3 bytes");
}

#[test]
fn the_rest_of_an_unread_body_that_keeps_to_the_rate_has_a_limit_in_all() {
    // Beyond the limit, a length would end the connection at once. The framing of chunks does not count as body.
    let chunked = head("POST /ignore", "Transfer-Encoding: chunked\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.limits.drain) = (seconds(1), 2, 20);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(chunked)]);
    assert!(!rig.poll());
    let mut coding = "0000000000000001\r\nx\r\n".bytes().cycle();
    let took = rig.ends_after(|rig| {
        let byte = char::from(coding.next().unwrap()).to_string().leak();
        rig.script().reads.extend([Text(byte), Nothing]);
    });
    // 20 bytes at 2 bytes per second take 10 s.
    let limit = seconds(11) + Config::default().linger;
    assert!(took >= limit && took <= limit + seconds(1), "{took:?}");
}

#[test]
fn each_flush_of_a_stream_has_its_own_time() {
    let set = |config: &mut Config| (config.write_timeout, config.min_rate) = (seconds(2), 1_000_000);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(PIECES)]);
    for _ in 0..5 {
        rig.script().room = 0;
        rig.pieces.lock().unwrap().push_back("piece ");
        rig.lives_for(Duration::from_millis(1500));
        rig.script().room = usize::MAX;
        assert!(!rig.poll());
    }
    assert_eq!(rig.written().matches("piece ").count(), 5);
}

#[test]
fn a_peer_that_moves_a_byte_at_each_deadline_is_slow() {
    let set = |config: &mut Config| {
        (config.write_timeout, config.body_timeout, config.min_rate) = (seconds(2), seconds(2), 100);
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head("GET /large", ""))]);
    (rig.script().is_timeless, rig.script().room) = (true, 0);
    let took = rig.ends_after(|rig| rig.script().room = 1);
    assert!(took >= seconds(2) && took <= seconds(3), "{took:?}");
    for request in ["POST /count", "POST /ignore"] {
        let mut rig = Rig::new(EVENT_LOOP, set, [Text(head(request, "Content-Length: 1000\r\n"))]);
        rig.script().is_timeless = true;
        let start = rig.clock.now();
        while !rig.script().is_shut {
            assert!(rig.clock.now() < start + seconds(10), "{request}: the peer is not late");
            rig.script().reads.extend([Text("x"), Nothing]);
            rig.poll();
            rig.clock.advance(Duration::from_millis(500));
        }
        assert!(rig.clock.now() >= start + seconds(2), "{request}");
    }
}

#[test]
fn a_peer_that_sends_the_rest_of_an_unread_body_in_time_keeps_its_connection() {
    let request = head("POST /ignore", "Content-Length: 3\r\n");
    let set = |config: &mut Config| (config.body_timeout, config.min_rate) = (seconds(2), 1);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(request)]);
    for byte in ["a", "b", "c"] {
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        rig.script().reads.extend([Text(byte), Nothing]);
    }
    rig.script().reads.extend([Text(GET), Nothing]);
    assert!(!rig.poll() && !rig.poll());
    rig.assert_written(&"x".repeat(1000));
    assert!(!rig.script().is_shut);
}

#[test]
fn the_bytes_that_a_handler_has_read_give_the_rest_of_the_body_no_time() {
    let head = head("POST /some", "Content-Length: 200000\r\n");
    let set = |config: &mut Config| {
        (config.body_timeout, config.min_rate, config.body_buffer) = (seconds(1), 100, 0);
    };
    // 65,536 bytes at 100 bytes per second take ten minutes.
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head), Nothing, bulk()]);
    assert!(!rig.poll() && !rig.poll());
    rig.assert_written("some");
    let took = rig.ends_after(|rig| rig.script().reads.extend([Text("x"), Nothing]));
    assert!(took <= seconds(2) + Config::default().linger, "{took:?}");
}

#[test]
fn empty_lines_do_not_extend_the_time_of_an_idle_connection() {
    let set = |config: &mut Config| {
        (config.keep_alive, config.header_timeout) = (seconds(4), seconds(4));
    };
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(GET)]);
    assert!(!rig.poll());
    let start = rig.clock.now();
    let took = rig.ends_after(|rig| {
        if [seconds(3), seconds(6)].contains(&(rig.clock.now() - start)) {
            rig.script().reads.push_back(Text("\r\n"));
        }
    });
    assert_eq!(took, seconds(7), "the first line begins the head");
}

#[test]
fn a_peer_that_sends_without_a_pause_does_not_extend_the_lingering_close() {
    let mut rig = Rig::new(EVENT_LOOP, |_| {}, [Text(head("GET /", "Transfer-Encoding: x\r\n"))]);
    let took = rig.ends_after(|rig| rig.script().reads.extend([bulk(); 20]));
    assert_eq!(took, Config::default().linger);
}

/// A rig whose response has sent one piece to a peer that has ended its sending side since.
fn half_closed(request: &'static str, set: impl FnOnce(&mut Config)) -> Rig {
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(request)]);
    rig.pieces.lock().unwrap().push_back("first ");
    assert!(!rig.poll());
    rig.assert_written("first ");
    rig.script().reads.push_back(End);
    assert!(!rig.poll());
    rig
}

const PIECES: &str = "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_stream_without_a_next_piece_ends_after_its_peer() {
    for request in [PIECES, "GET /pieces HTTP/1.0\r\n\r\n"] {
        let mut rig = half_closed(request, |_| {});
        assert_eq!(rig.ends_after(|_| {}), seconds(5), "{request:?}");
        let mut rig = half_closed(request, |config| config.half_closed_timeout = seconds(60));
        assert_eq!(rig.ends_after(|_| {}), seconds(60), "{request:?}");
        let mut rig = half_closed(request, |config| config.half_closed_timeout = Duration::MAX);
        assert_eq!(rig.ends_after(|_| {}), seconds(5_000), "{request:?}: all polls");
    }
}

#[test]
fn each_piece_of_a_half_closed_stream_has_its_own_time() {
    let mut rig = half_closed(PIECES, |_| {});
    for _ in 0..10 {
        rig.lives_for(seconds(4));
        rig.pieces.lock().unwrap().push_back("next ");
        assert!(!rig.poll());
    }
    // A piece without bytes is no progress.
    rig.lives_for(seconds(4));
    rig.pieces.lock().unwrap().push_back("");
    assert_eq!(rig.ends_after(|_| {}), seconds(1));
    assert_eq!(rig.written().matches("next ").count(), 10);
}

#[test]
fn a_piece_gets_the_time_again_for_which_the_process_was_stopped() {
    let half = Duration::from_millis(500);
    for (late_by, again) in [
        (Duration::ZERO, None),
        (half, Some(half)),
        (seconds(1), Some(seconds(1))),
        (seconds(60), Some(seconds(5))),
    ] {
        let mut rig = half_closed(PIECES, |_| {});
        rig.clock.advance(seconds(5) + late_by);
        assert_eq!(rig.poll(), again.is_none(), "{late_by:?}");
        assert!(again.is_none_or(|again| rig.ends_after(|_| {}) == again), "{late_by:?}");
    }
}

#[test]
fn the_bytes_that_were_written_without_a_wait_give_no_time() {
    let set = |config: &mut Config| config.write_timeout = seconds(20);
    let mut rig = Rig::new(EVENT_LOOP, set, [Text(head("GET /large", ""))]);
    rig.script().room = 400_000;
    let took = rig.ends_after(|rig| rig.script().room += 1);
    assert!(took >= seconds(20) && took < seconds(22), "400,000 bytes would give half an hour: {took:?}");
}

#[test]
fn a_stream_that_an_async_handler_returns_has_no_deadline_of_a_handler() {
    let handler = |_: Request| {
        Answer::Later(
            Box::pin(async {
                yield_now().await;
                Response::new(Body::from_stream(stream::pending::<Piece>()))
            }),
            None,
        )
    };
    for blocks in [EVENT_LOOP, BLOCKING] {
        let set = |config: &mut Config| config.handler_timeout = seconds(5);
        let mut rig = Rig::calling(handler, blocks, set, [Text(GET)]);
        rig.lives_for(seconds(20));
        rig.assert_written("HTTP/1.1 200");
    }
}

#[test]
fn a_large_piece_of_a_half_closed_stream_starts_its_time_again() {
    let mut rig = half_closed(PIECES, |_| {});
    rig.clock.advance(seconds(4));
    rig.pieces.lock().unwrap().push_back("x".repeat(40_000).leak());
    assert!(!rig.poll());
    assert_eq!(rig.ends_after(|_| {}), seconds(5));
}

#[test]
fn a_half_closed_peer_that_takes_no_bytes_has_the_time_of_a_write() {
    let mut rig = half_closed(PIECES, |config| config.write_timeout = seconds(20));
    rig.script().room = 3;
    rig.pieces.lock().unwrap().push_back("next ");
    assert_eq!(rig.ends_after(|_| {}), seconds(20));
}

#[test]
fn the_end_behind_unread_bytes_ends_a_stream_too() {
    let pipelined = all(&[PIECES, &GET.repeat(400)]);
    let unread = all(&[head("POST /pieces", "Content-Length: 10\r\n"), "abc"]);
    for (request, blocks) in
        [(pipelined, EVENT_LOOP), (unread, EVENT_LOOP), (pipelined, BLOCKING), (unread, BLOCKING)]
    {
        let mut rig = Rig::new(blocks, |config| config.body_buffer = 0, [request]);
        assert_eq!(rig.ends_after(|_| {}), seconds(5_000), "a peer that has not ended is there");
        rig.script().has_unread_end = true;
        let took = rig.ends_after(|_| {});
        assert!(took >= seconds(5) && took <= seconds(9), "the end is seen by a check: {took:?}");
    }
}

#[test]
fn a_half_closed_peer_whose_body_is_still_read_is_not_late() {
    let request = head("POST /keep-stream", "Content-Length: 100\r\n");
    let mut rig = Rig::new(EVENT_LOOP, |config| config.body_timeout = seconds(60), [Text(request)]);
    assert!(!rig.poll());
    rig.script().has_unread_end = true;
    let mut body = rig.kept.lock().unwrap().pop().unwrap();
    let mut read = |rig: &mut Rig| {
        rig.script().reads.push_back(Text("x"));
        http_body::Body::poll_frame(Pin::new(&mut body), &mut Context::from_waker(Waker::noop()))
    };
    for _ in 0..10 {
        assert!(read(&mut rig).is_ready());
        rig.lives_for(seconds(4));
    }
    assert!(rig.ends_after(|_| {}) <= seconds(5));
}

#[test]
fn a_waiting_handler_asks_a_peer_whose_end_is_behind_unread_bytes() {
    for request in
        [all(&[NEVER, &GET.repeat(400)]), all(&[head("POST /never", "Content-Length: 10\r\n"), "abc"])]
    {
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, [request]);
        rig.script().has_unread_end = true;
        assert!(!rig.poll());
        rig.clock.advance(seconds(1));
        assert!(!rig.poll());
        assert_eq!(rig.written(), CONTINUE);
    }
}
