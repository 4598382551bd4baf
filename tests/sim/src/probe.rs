//! The simulation's own application: it does what each request says, and holds every byte it reads against what the
//! client sent.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use gearshift_core::{Answer, Body, BodyError, BoxFuture, Handler, Request, Response, Runtime, StatusCode};
use http_body::{Frame, SizeHint};

use crate::ask::pattern;
use crate::deed::{Deed, Kind};
use crate::fault::Fault;
use crate::watch::place;
use crate::world::World;

/// The application.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) world: Arc<World>,
    pub(crate) runtime: Runtime,
    /// Whether handlers may wait in place.
    pub(crate) blocking: bool,
}

impl Handler for Probe {
    fn call(&self, request: Request) -> Answer {
        let (at, id) = place(&request);
        let (Some(deed), Some(id)) = (Deed::parse(request.target()), id) else {
            return Answer::Ready(Response::status_only(StatusCode::NOT_FOUND));
        };
        self.leave_behind();
        match deed.kind {
            Kind::Now => Answer::Ready(whole(id, deed)),
            Kind::Close => Answer::Ready(whole(id, deed).with_header("Connection", "close")),
            Kind::Empty => Answer::Ready(Response::status_only(StatusCode::NO_CONTENT)),
            Kind::PanicNow => fall(),
            Kind::Stream | Kind::Broken | Kind::PanicWithin => {
                Answer::Ready(Response::new(Body::from_stream(self.pieces(id, deed))))
            }
            Kind::Sized => Answer::Ready(Response::new(Body::from_http(self.pieces(id, deed)))),
            Kind::Echo => {
                let body = Echo { reading: Reading::new(self, at, id), body: request.into_body() };
                Answer::Ready(Response::new(Body::from_http(body)))
            }
            Kind::Spawn => {
                self.runtime.spawn(self.runtime.sleep(deed.pause)).detach();
                Answer::Ready(whole(id, deed))
            }
            Kind::Reader if self.blocking => {
                let mut reading = Reading::new(self, at, id);
                let read = reading.read_blocking(request.into_body());
                Answer::Ready(reading.told(read, deed))
            }
            Kind::Offload => {
                let work = self.runtime.compute(move || whole(id, deed));
                Answer::Later(Box::pin(work))
            }
            _ => Answer::Later(Box::pin(self.clone().later(at, id, deed, request.into_body()))),
        }
    }
}

impl Probe {
    async fn later(self, at: usize, id: u64, deed: Deed, mut body: Body) -> Response {
        let runtime = &self.runtime;
        let mut reading = Reading::new(&self, at, id);
        match deed.kind {
            Kind::LateRead => runtime.sleep(deed.pause).await,
            Kind::ReadSlow | Kind::ReadSome => {
                let first = reading.chunk(&mut body).await;
                if deed.kind == Kind::ReadSome {
                    return whole(id, deed);
                }
                if !matches!(first, Ok(true)) {
                    return reading.told(first.map(drop), deed);
                }
                runtime.sleep(deed.pause).await;
            }
            Kind::Keep => {
                let pause = runtime.sleep(deed.pause);
                let task = async move {
                    pause.await;
                    reading.is_late = true;
                    // What it finds is checked as it is read.
                    let _ = reading.read(&mut body).await;
                };
                runtime.spawn(task).detach();
                return whole(id, deed);
            }
            Kind::Patience => {
                let chunk = reading.chunk(&mut body);
                let _ = runtime.timeout(deed.pause, chunk).await;
                return whole(id, deed);
            }
            Kind::Await => {
                let pause = runtime.sleep(deed.pause);
                let task = runtime.spawn(async move {
                    pause.await;
                    whole(id, deed)
                });
                return task.await.unwrap_or_else(|error| Response::text(error.to_string()));
            }
            Kind::Sleep | Kind::PanicLater => {
                runtime.sleep(deed.pause).await;
                match deed.kind {
                    Kind::PanicLater => fall(),
                    _ => return whole(id, deed),
                }
            }
            _ => {}
        }
        let read = reading.read(&mut body).await;
        if deed.kind == Kind::ReadLate {
            runtime.sleep(deed.pause).await;
        }
        reading.told(read, deed)
    }

    fn pieces(&self, id: u64, deed: Deed) -> Pieces {
        let all = Bytes::from(pattern(id, deed.size));
        let each = all.len().div_ceil(deed.pieces).max(1);
        let left = (0..all.len()).step_by(each).map(|at| all.slice(at..all.len().min(at + each))).collect();
        let end = match deed.kind {
            Kind::Broken => End::Fails,
            Kind::PanicWithin => End::Panics,
            _ => End::Fine,
        };
        Pieces { runtime: self.runtime.clone(), left, pause: deed.pause / 4, sleep: None, end }
    }

    /// What a careless application leaves behind, if that is the fault to be played.
    fn leave_behind(&self) {
        if self.world.lock().plays(Fault::KeepTimer) {
            let mut sleep = self.runtime.sleep(Duration::from_secs(1_000_000));
            assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::mem::forget(sleep);
        }
        if self.world.lock().plays(Fault::KeepTask) {
            self.runtime.spawn(std::future::pending::<()>()).detach();
        }
    }
}

/// A panic without a word on the terminal.
fn fall() -> ! {
    std::panic::resume_unwind(Box::new("as the request said"))
}

fn whole(id: u64, deed: Deed) -> Response {
    Response::text(pattern(id, deed.size))
}

/// A body being read, and how far it was what the client sent.
struct Reading {
    world: Arc<World>,
    at: usize,
    /// What the client sent; nothing to compare with if that was changed on its way.
    sent: Option<Vec<u8>>,
    id: u64,
    len: usize,
    /// Whether the request is over, so that nobody waits for its body.
    is_late: bool,
}

impl Reading {
    fn new(probe: &Probe, at: usize, id: u64) -> Reading {
        let state = probe.world.lock();
        let line = &state.links[at].line;
        let ask = line.asks.iter().find(|written| written.id == id && !line.is_mangled);
        let sent = ask.map(|written| written.ask.body.clone());
        Reading { world: probe.world.clone(), at, sent, id, len: 0, is_late: false }
    }

    /// One piece. `false` at the end.
    async fn chunk(&mut self, body: &mut Body) -> Result<bool, BodyError> {
        let waits = (!self.is_late).then(|| Waits::new(&self.world, self.at));
        let chunk = body.chunk().await;
        drop(waits);
        self.judge(chunk)
    }

    /// All that is left.
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
                Err(error) => Some(Err(BodyError::Io(error))),
            };
            if !self.judge(chunk)? {
                return Ok(());
            }
        }
    }

    /// Holds what was read against what was sent.
    fn judge(&mut self, chunk: Option<Result<Bytes, BodyError>>) -> Result<bool, BodyError> {
        let mut state = self.world.lock();
        state.links[self.at].moved();
        let Some(sent) = &self.sent else { return chunk.transpose().map(|chunk| chunk.is_some()) };
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

    /// The response that tells what was read.
    fn told(&self, read: Result<(), BodyError>, deed: Deed) -> Response {
        let response = whole(self.id, deed);
        match read {
            Ok(()) => response.with_header("Sim-Read", &format!("whole {}", self.len)),
            Err(error) => response
                .with_status(error.status())
                .with_header("Sim-Read", &format!("cut {} {error}", self.len)),
        }
    }
}

/// Says that a handler waits for its body, while it does.
struct Waits {
    world: Arc<World>,
    at: usize,
}

impl Waits {
    fn new(world: &Arc<World>, at: usize) -> Waits {
        world.lock().links[at].reading_body = true;
        Waits { world: world.clone(), at }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.world.lock().links[self.at].reading_body = false;
    }
}

/// A request's body given back, watched while it passes.
struct Echo {
    reading: Reading,
    body: Body,
}

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let at = this.reading.at;
        let polled = {
            let _waits = Waits::new(&this.reading.world, at);
            http_body::Body::poll_frame(Pin::new(&mut this.body), cx)
        };
        let Poll::Ready(frame) = polled else {
            this.reading.world.lock().links[at].reading_body = true;
            return Poll::Pending;
        };
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

impl Drop for Echo {
    fn drop(&mut self) {
        self.reading.world.lock().links[self.reading.at].reading_body = false;
    }
}

/// An answer that comes in pieces, with waits between them.
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
            (None, End::Panics) => fall(),
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
