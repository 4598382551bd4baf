//! The simulation's own application: it does what each request says, and compares every byte of a body with what the
//! client sent.

mod held;
mod reading;
mod streamed;
mod task_reader;
mod token;
mod upgraded;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use gearshift_core::{Answer, Body, Handler, Request, Response, Runtime, StatusCode};

use crate::action::{Action, Kind};
use crate::application::held::held;
use crate::application::reading::Reading;
use crate::application::streamed::{Echo, pieces, streamed};
use crate::application::task_reader::TaskReader;
use crate::application::token::Token;
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
            Kind::Stream | Kind::Broken | Kind::PanicWithin => Answer::Ready(streamed(runtime, id, action)),
            Kind::Held => Answer::Ready(held(&self.world, at, streamed(runtime, id, action), None)),
            Kind::HeldEcho => {
                let reading = Reading::new(&self.world, at, id);
                let echo = Echo::response(reading, request.into_body());
                Answer::Ready(held(&self.world, at, echo, Some(runtime)))
            }
            Kind::Sized => Answer::Ready(Response::new(Body::from_http(pieces(runtime, id, action)))),
            Kind::Echo => {
                let reading = Reading::new(&self.world, at, id);
                Answer::Ready(Echo::response(reading, request.into_body()))
            }
            Kind::Split => {
                let reading = Reading::new(&self.world, at, id);
                let reader = TaskReader::new(&runtime, &reading, action);
                runtime.spawn(reader.read(reading, request.into_body())).detach();
                Answer::Ready(streamed(runtime, id, action))
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
            kind if kind.upgrades() => Answer::Ready(upgraded::switch(&self.world, at, runtime, action)),
            Kind::Token => {
                let token = Token::new(&self.world, at, request.cancel_token());
                runtime.spawn(token.keep(runtime.clone(), action)).detach();
                Answer::Ready(whole(id, action))
            }
            Kind::Watch if runtime.threads_block() => {
                Token::new(&self.world, at, request.cancel_token()).work_blocking(&runtime, action);
                Answer::Ready(whole(id, action))
            }
            Kind::Watch => {
                let token = Token::new(&self.world, at, request.cancel_token());
                let work = async move {
                    token.work(&runtime, action).await;
                    whole(id, action)
                };
                Answer::later(work)
            }
            Kind::Offload => {
                let work = runtime.compute(move || whole(id, action));
                Answer::later(work)
            }
            _ => {
                let reading = Reading::new(&self.world, at, id);
                Answer::later(later(runtime, reading, action, request.into_body()))
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
        Kind::LateEcho => {
            runtime.sleep(action.pause).await;
            return Echo::response(reading, body);
        }
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
            let reader = TaskReader::new(&runtime, &reading, action);
            let task = async move {
                pause.await;
                reader.read(reading, body).await;
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
            runtime.spawn(TaskReader::new(&runtime, &reading, action).read(reading, body)).detach();
            runtime.sleep(action.pause).await;
            return whole(id, action);
        }
        Kind::Pass => {
            runtime.spawn(TaskReader::new(&runtime, &reading, action).pass_on(reading, body)).detach();
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

/// Panics without a message on the terminal.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("as the request said"))
}

fn whole(id: u64, action: Action) -> Response {
    Response::text(pattern(id, action.size))
}
