//! ASGI applications (ASGI 3.0).
//!
//! On an event loop, the application runs on one asyncio loop, on the main thread of the process. Requests cross to it
//! through a queue and a descriptor that asyncio watches, so that the threads of the server never take the GIL. Calls
//! of `receive` and `send` change the state of the exchange on the thread of asyncio, and read the body of the request
//! there. Only the response wakes the connection.
//!
//! On a blocking backend, each request runs on the thread of its connection, on an asyncio loop that no other request
//! uses at that time. WebSockets run on a loop of the main thread there, because they hold no thread.
//!
//! | file | what it is |
//! | --- | --- |
//! | `event_loop.rs` | an asyncio loop |
//! | `first_step.rs` | the task of a request, and its first step |
//! | `crossing.rs` | the queue to the asyncio loop of the main thread |
//! | `scope.rs` | the dictionary `scope` |
//! | `exchange.rs` | an HTTP exchange, which the application and the connection share |
//! | `http.rs` | `receive` and `send` of an exchange |
//! | `message.rs` | the messages of HTTP |
//! | `in_place.rs` | a request on the thread of its connection |
//! | `websocket.rs` | a WebSocket: `receive` and `send` |
//! | `websocket_message.rs` | the messages of a WebSocket |
//! | `socket.rs` | the task that moves the messages of a WebSocket |
//! | `awaitable.rs` | what `receive` and `send` return |

mod awaitable;
pub(crate) mod crossing;
mod event_loop;
mod exchange;
mod first_step;
pub(crate) mod http;
mod in_place;
mod message;
mod scope;
mod socket;
pub(crate) mod websocket;
mod websocket_message;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use gearshift::{
    Answer, BoxError, Handler, IntoResponse, OnDisconnect, Request, Response, Runtime, StatusCode,
};
use pyo3::prelude::*;

use crate::asgi::crossing::Event;
use crate::asgi::event_loop::EventLoop;
use crate::asgi::exchange::Exchange;
use crate::asgi::in_place::Loops;
use crate::asgi::scope::{Template, opens_websocket};
use crate::channel::Receiver;
use crate::process::Process;

/// The handler of an ASGI application.
pub(crate) struct Asgi(Arc<Shared>);

/// What all requests share.
pub(crate) struct Shared {
    app: Py<PyAny>,
    /// The Python coroutine function that calls the application and reports its end.
    run: Py<PyAny>,
    template: Template,
    runtime: Runtime,
    process: Arc<Process>,
    /// The asyncio loop of the main thread. On a blocking backend it is made for the first WebSocket.
    main: Mutex<Option<Arc<EventLoop>>>,
    /// The loops of the threads of a blocking backend.
    loops: Option<Loops>,
}

impl Asgi {
    /// The handler of an application that has started. `started` has the attributes of the Python class `Started`.
    ///
    /// # Errors
    /// An exception of Python.
    pub(crate) fn new(
        py: Python<'_>,
        started: &Bound<'_, PyAny>,
        runtime: Runtime,
        process: Arc<Process>,
    ) -> PyResult<Asgi> {
        let (main, loops) = match runtime.threads_block() {
            true => (None, Some(Loops::new(started)?)),
            false => {
                let main = watched(&started.getattr("event_loop")?)?;
                if let Some(wakes) = main.wakes() {
                    wakes.start(&runtime);
                }
                (Some(Arc::new(main)), None)
            }
        };
        Ok(Asgi(Arc::new(Shared {
            app: started.getattr("app")?.unbind(),
            run: py.import("gearshift.asgi")?.getattr("run")?.unbind(),
            template: Template::new(py, &runtime, process.options())?,
            runtime,
            process,
            main: Mutex::new(main),
            loops,
        })))
    }
}

impl Handler for Asgi {
    fn call(&self, request: Request) -> Answer {
        let shared = &self.0;
        // The future is dropped when the client has left. The task of the application learns it, and runs on.
        let (options, late) = (OnDisconnect::Cancel.into(), || shared.process.late(&request));
        if opens_websocket(&request) {
            return Answer::Later(Box::pin(late().or(websocket::respond(shared.clone(), request))), options);
        }
        match (&shared.loops, shared.main()) {
            (Some(loops), _) => Answer::Ready(in_place::respond(shared, loops, request)),
            (None, Some(main)) => {
                Answer::Later(Box::pin(late().or(across(shared.clone(), main, request))), options)
            }
            (None, None) => failed(StatusCode::INTERNAL_SERVER_ERROR).into(),
        }
    }
}

/// Lets a request run on the loop of the main thread.
async fn across(shared: Arc<Shared>, main: Arc<EventLoop>, request: Request) -> Response {
    let exchange = Arc::new(Exchange::new(main.clone(), shared.process.options().cancels));
    let receiver = Receiver::new(exchange.clone());
    main.push(Event::Http(shared, request, exchange));
    let head = poll_fn(|cx| receiver.poll_head(cx)).await;
    receiver.respond(head)
}

impl Shared {
    fn main(&self) -> Option<Arc<EventLoop>> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The loop of the main thread, which is started if it does not run.
    ///
    /// # Errors
    /// The lifespan of the application has failed on it.
    async fn main_or_start(&self) -> Result<Arc<EventLoop>, BoxError> {
        if let Some(main) = self.main() {
            return Ok(main);
        }
        let started = self.process.order("start_websockets", 0.0, watched).await?;
        let mut main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(main.get_or_insert_with(|| Arc::new(started)).clone())
    }
}

/// The loop of the Python class `gearshift.asgi.EventLoop`, on which a stop by the application is logged from now on.
fn watched(event_loop: &Bound<'_, PyAny>) -> PyResult<EventLoop> {
    // It has the method `stop` of asyncio, which does not log.
    let watched = EventLoop::new(event_loop)?;
    event_loop.call_method0("watch_stops")?;
    Ok(watched)
}

/// The response for an application that has failed.
fn failed(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    (status, format!("{reason}\n")).into_response()
}
