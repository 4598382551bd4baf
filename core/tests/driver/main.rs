//! The driver, one poll at a time.
//!
//! The transport is scripted, the clock is manual, and each test polls the future of the connection itself. A test can
//! therefore check the state between any two polls.

mod access;
mod answers;
mod bodies;
mod counts;
mod deadlines;
mod exchanges;
mod half_closed;
mod holding;
mod rates;
mod stalls;
mod stops;
mod tokens;
mod trailers;
mod turns;
mod upgrades;

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
            "/some" => Answer::later(async {
                let mut body = request.into_body();
                assert!(body.chunk().await.is_some_and(|piece| piece.is_ok()));
                Response::text("some")
            }),
            "/count" => Answer::later(async {
                let (mut body, mut len) = (request.into_body(), 0);
                while let Some(Ok(piece)) = body.chunk().await {
                    len += piece.len();
                }
                Response::text(format!("{len} bytes"))
            }),
            "/never" => Answer::later(pending()),
            "/give-up" => Answer::later(async {
                let mut body = request.into_body();
                assert!(poll_once(body.chunk()).await.is_none());
                pending().await
            }),
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
                Answer::later(pending())
            }
            "/keep-stream" => {
                self.kept.lock().unwrap().push(request.into_body());
                stalled()
            }
            _ if request.body().is_empty() => Answer::Ready(Response::text("x".repeat(1000))),
            _ => Answer::later(async {
                let read = request.into_body().bytes(1000).await;
                yield_now().await;
                Response::text(format!("{read:?} {}", "y".repeat(1000)))
            }),
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
        [
            "gearshift::access",
            "gearshift::stall",
            "gearshift_core::server::accept",
            "gearshift_core::runtime::contained",
        ]
        .contains(&metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

const OFFER: &str = "Connection: upgrade\r\nUpgrade: x\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\n";

/// A read of 64 KiB.
fn bulk() -> Read {
    Text("x".repeat(64 << 10).leak())
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
