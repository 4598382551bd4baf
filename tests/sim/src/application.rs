//! The simulation's own application: it does what each request says, and compares every byte of a body with what the
//! client sent.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::Read;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use gearshift_core::{Answer, Body, BodyError, BoxFuture, Handler, Request, Response, Runtime, StatusCode};
use http_body::{Frame, SizeHint};

use crate::action::{Action, Kind};
use crate::ask::pattern;
use crate::fault::Fault;
use crate::observer::place;
use crate::world::World;

/// The application.
#[derive(Clone)]
pub(crate) struct Application {
    pub(crate) world: Arc<World>,
}

impl Handler for Application {
    fn call(&self, request: Request) -> Answer {
        let (at, id) = place(&request);
        let (Some(action), Some(id)) = (Action::parse(request.target()), id) else {
            return Answer::Ready(Response::status_only(StatusCode::NOT_FOUND));
        };
        let runtime = request.runtime().clone();
        self.leave_behind(&runtime);
        match action.kind {
            Kind::Now => Answer::Ready(whole(id, action)),
            Kind::Close => Answer::Ready(whole(id, action).with_header("Connection", "close")),
            Kind::Empty => Answer::Ready(Response::status_only(StatusCode::NO_CONTENT)),
            Kind::PanicNow => panic_quietly(),
            Kind::Stream | Kind::Broken | Kind::PanicWithin => {
                Answer::Ready(Response::new(Body::from_stream(pieces(runtime, id, action))))
            }
            Kind::Sized => Answer::Ready(Response::new(Body::from_http(pieces(runtime, id, action)))),
            Kind::Echo => {
                let reading = Reading::new(&self.world, at, id);
                let body = Echo { reading, body: request.into_body(), waits: None };
                Answer::Ready(Response::new(Body::from_http(body)))
            }
            Kind::Split => {
                let reading = Reading::new(&self.world, at, id);
                runtime.spawn(TaskReader::new(&reading).read(reading, request.into_body())).detach();
                Answer::Ready(Response::new(Body::from_stream(pieces(runtime, id, action))))
            }
            Kind::Spawn => {
                runtime.spawn(runtime.sleep(action.pause)).detach();
                Answer::Ready(whole(id, action))
            }
            Kind::Reader if runtime.threads_block() => {
                let mut reading = Reading::new(&self.world, at, id);
                let read = reading.read_blocking(request.into_body());
                Answer::Ready(reading.told(read, action))
            }
            Kind::Offload => {
                let work = runtime.compute(move || whole(id, action));
                Answer::Later(Box::pin(work), None)
            }
            _ => {
                let reading = Reading::new(&self.world, at, id);
                Answer::Later(Box::pin(later(runtime, reading, action, request.into_body())), None)
            }
        }
    }
}

impl Application {
    /// Leaves a timer or a task behind, if that is the fault to be played.
    fn leave_behind(&self, runtime: &Runtime) {
        if self.world.lock().plays(Fault::KeepTimer) {
            let mut sleep = runtime.sleep(Duration::from_secs(1_000_000));
            assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::mem::forget(sleep);
        }
        if self.world.lock().plays(Fault::KeepTask) {
            runtime.spawn(std::future::pending::<()>()).detach();
        }
    }
}

/// Handlers that wait.
async fn later(runtime: Runtime, mut reading: Reading, action: Action, mut body: Body) -> Response {
    let id = reading.id;
    match action.kind {
        Kind::LateRead => runtime.sleep(action.pause).await,
        Kind::ReadSlow | Kind::ReadSome => {
            let first = reading.chunk(&mut body).await;
            if action.kind == Kind::ReadSome {
                return whole(id, action);
            }
            if !matches!(first, Ok(true)) {
                return reading.told(first.map(drop), action);
            }
            runtime.sleep(action.pause).await;
        }
        Kind::Keep => {
            let pause = runtime.sleep(action.pause);
            let task = async move {
                pause.await;
                reading.is_late = true;
                // `Reading` checks what the task reads.
                let _ = reading.read(&mut body).await;
            };
            runtime.spawn(task).detach();
            return whole(id, action);
        }
        Kind::Hand => {
            let task = runtime.spawn(async move {
                let read = reading.read(&mut body).await;
                reading.told(read, action)
            });
            return task.await.unwrap_or_else(|error| Response::text(error.to_string()));
        }
        Kind::Abandon => {
            runtime.spawn(TaskReader::new(&reading).read(reading, body)).detach();
            runtime.sleep(action.pause).await;
            return whole(id, action);
        }
        Kind::Patience => {
            let chunk = reading.chunk(&mut body);
            let _ = runtime.timeout(action.pause, chunk).await;
            return whole(id, action);
        }
        Kind::Await => {
            let pause = runtime.sleep(action.pause);
            let task = runtime.spawn(async move {
                pause.await;
                whole(id, action)
            });
            return task.await.unwrap_or_else(|error| Response::text(error.to_string()));
        }
        Kind::Sleep | Kind::PanicLater => {
            runtime.sleep(action.pause).await;
            match action.kind {
                Kind::PanicLater => panic_quietly(),
                _ => return whole(id, action),
            }
        }
        _ => {}
    }
    let read = reading.read(&mut body).await;
    if action.kind == Kind::ReadLate {
        runtime.sleep(action.pause).await;
    }
    reading.told(read, action)
}

/// The body of a streamed response.
fn pieces(runtime: Runtime, id: u64, action: Action) -> Pieces {
    let all = Bytes::from(pattern(id, action.size));
    let each = all.len().div_ceil(action.pieces).max(1);
    let left = (0..all.len()).step_by(each).map(|at| all.slice(at..all.len().min(at + each))).collect();
    let end = match action.kind {
        Kind::Broken => End::Fails,
        Kind::PanicWithin => End::Panics,
        _ => End::Fine,
    };
    Pieces { runtime, left, pause: action.pause / 4, sleep: None, end }
}

/// Panics without a message on the terminal.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("as the request said"))
}

fn whole(id: u64, action: Action) -> Response {
    Response::text(pattern(id, action.size))
}

/// Reads a body, and compares it with what the client sent.
struct Reading {
    world: Arc<World>,
    at: usize,
    /// What the client sent. `None` if the bytes were changed on their way.
    sent: Option<Vec<u8>>,
    id: u64,
    len: usize,
    /// Whether the request may be over, so that a wait for its body says nothing about the connection.
    is_late: bool,
}

impl Reading {
    fn new(world: &Arc<World>, at: usize, id: u64) -> Reading {
        let state = world.lock();
        let client = &state.links[at].client;
        let ask = client.asks.iter().find(|written| written.id == id && !client.is_mangled);
        let sent = ask.map(|written| written.ask.body.clone());
        Reading { world: world.clone(), at, sent, id, len: 0, is_late: false }
    }

    /// Reads one piece. `false` at the end.
    async fn chunk(&mut self, body: &mut Body) -> Result<bool, BodyError> {
        let waits = (!self.is_late).then(|| Waits::new(&self.world, self.at));
        let chunk = body.chunk().await;
        drop(waits);
        self.judge(chunk)
    }

    /// Reads everything that is left.
    async fn read(&mut self, body: &mut Body) -> Result<(), BodyError> {
        while self.chunk(body).await? {}
        Ok(())
    }

    fn read_blocking(&mut self, body: Body) -> Result<(), BodyError> {
        let mut reader = body.reader();
        let mut room = [0; 700];
        loop {
            let waits = Waits::new(&self.world, self.at);
            let read = reader.read(&mut room);
            drop(waits);
            let chunk = match read {
                Ok(0) => None,
                Ok(n) => Some(Ok(Bytes::copy_from_slice(&room[..n]))),
                Err(error) => Some(Err(error.downcast().unwrap_or_else(BodyError::Io))),
            };
            if !self.judge(chunk)? {
                return Ok(());
            }
        }
    }

    /// Compares what was read with what was sent.
    fn judge(&mut self, chunk: Option<Result<Bytes, BodyError>>) -> Result<bool, BodyError> {
        let mut state = self.world.lock();
        state.links[self.at].moved();
        let Some(sent) = &self.sent else {
            let chunk = chunk.transpose()?;
            self.len += chunk.as_ref().map_or(0, Bytes::len);
            return Ok(chunk.is_some());
        };
        match chunk {
            Some(Ok(chunk)) => {
                if sent.get(self.len..self.len + chunk.len()) != Some(&chunk[..]) {
                    state.violate(format!("request {}: the body that is read was never sent", self.id));
                }
                self.len += chunk.len();
                Ok(true)
            }
            None if self.len != sent.len() => {
                let (len, all) = (self.len, sent.len());
                state.violate(format!("request {}: {len} of {all} bytes are called a whole body", self.id));
                Ok(false)
            }
            None => Ok(false),
            Some(Err(_)) if state.plays(Fault::CallCutBodyWhole) => Ok(false),
            Some(Err(error)) => {
                state.note(format_args!("[{}] the body cannot be read: {error}", self.at));
                Err(error)
            }
        }
    }

    /// The response that says what was read.
    fn told(&self, read: Result<(), BodyError>, action: Action) -> Response {
        let response = whole(self.id, action);
        match read {
            Ok(()) => response.with_header("Sim-Read", &format!("whole {}", self.len)),
            Err(error) => response
                .with_status(error.status())
                .with_header("Sim-Read", &format!("cut {} {error}", self.len)),
        }
    }
}

/// Counts a reader of a connection's body while it waits.
struct Waits {
    world: Arc<World>,
    at: usize,
}

impl Waits {
    fn new(world: &Arc<World>, at: usize) -> Waits {
        world.lock().links[at].body_readers += 1;
        Waits { world: world.clone(), at }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.world.lock().links[self.at].body_readers -= 1;
    }
}

/// A background task that reads the body of a request whose handler may answer first.
struct TaskReader {
    world: Arc<World>,
    /// The connection.
    at: usize,
    /// The number of the request on its connection.
    n: usize,
}

impl TaskReader {
    /// The reader of the request that began last.
    fn new(reading: &Reading) -> TaskReader {
        let n = reading.world.lock().links[reading.at].begun - 1;
        TaskReader { world: reading.world.clone(), at: reading.at, n }
    }

    /// Reads to the end. A read that ends once the request is over has to say so.
    async fn read(self, mut reading: Reading, mut body: Body) {
        let (at, n) = (self.at, self.n);
        loop {
            self.world.lock().task_readers.push((at, n));
            let chunk = self.chunk(&mut reading, &mut body).await;
            let mut state = self.world.lock();
            let place = state.task_readers.iter().position(|reader| *reader == (at, n));
            if let Some(place) = place {
                state.task_readers.swap_remove(place);
            }
            match chunk {
                Ok(true) => {}
                Err(error) if state.links[at].is_over(n) && !matches!(error, BodyError::Gone) => {
                    state.violate(format!("the body of a request that is over fails with {error:?}"));
                    return;
                }
                _ => return,
            }
        }
    }

    async fn chunk(&self, reading: &mut Reading, body: &mut Body) -> Result<bool, BodyError> {
        let mut chunk = pin!(reading.chunk(body));
        let is_deaf = self.world.lock().fault == Some(Fault::LoseGone);
        poll_fn(|cx| {
            if !is_deaf {
                return chunk.as_mut().poll(cx);
            }
            let (world, waker) = (self.world.clone(), cx.waker().clone());
            let waker = Waker::from(Arc::new(Deaf { world, waker, at: self.at, n: self.n }));
            chunk.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }
}

/// A waker that does nothing once a handler has answered: the fault `LoseGone`.
struct Deaf {
    world: Arc<World>,
    waker: Waker,
    at: usize,
    n: usize,
}

impl Wake for Deaf {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        if link.ended + link.dropped > self.n {
            state.has(Fault::LoseGone);
            return;
        }
        drop(state);
        self.waker.wake_by_ref();
    }
}

/// A request's body as the body of its response, compared with what the client sent.
struct Echo {
    reading: Reading,
    body: Body,
    /// While the next piece is awaited.
    waits: Option<Waits>,
}

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut this.body), cx) else {
            let reading = &this.reading;
            this.waits.get_or_insert_with(|| Waits::new(&reading.world, reading.at));
            return Poll::Pending;
        };
        this.waits = None;
        let chunk = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
        match this.reading.judge(chunk.as_ref().map(|chunk| match chunk {
            Ok(bytes) => Ok(bytes.clone()),
            Err(_) => Err(BodyError::Incomplete),
        })) {
            Ok(true) | Err(_) => Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data))),
            Ok(false) => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A streamed response, with waits between its pieces.
struct Pieces {
    runtime: Runtime,
    left: VecDeque<Bytes>,
    pause: Duration,
    sleep: Option<BoxFuture<()>>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Fine,
    Fails,
    Panics,
}

impl Pieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.pause.is_zero() && !self.left.is_empty() {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(self.runtime.sleep(self.pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        match (self.left.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(piece))),
            (None, End::Fine) => Poll::Ready(None),
            (None, End::Fails) => Poll::Ready(Some(Err(BodyError::Source("as the request said".into())))),
            (None, End::Panics) => panic_quietly(),
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
    }
}
