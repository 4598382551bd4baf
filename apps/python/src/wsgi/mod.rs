//! WSGI applications (PEP 3333).
//!
//! A request runs on one thread, from the call of the application to `close()` of the iterable that it returns. On a
//! blocking backend that is the thread of the request, which a streamed response holds. On an event loop it is a job of
//! the blocking pool, and the pieces of a streamed response cross to the connection through a channel (`channel.rs`).
//!
//! | file | what it is |
//! | --- | --- |
//! | `environ.rs` | the dictionary `environ` |
//! | `input.rs`, `errors.rs` | `wsgi.input` and `wsgi.errors` |
//! | `start_response.rs` | the callable `start_response`, and the `write` that it returns |
//! | `call.rs` | the call of the application, and its iterable |
//! | `in_place.rs` | a request on the thread of its connection |
//! | `on_pool.rs` | a request on a thread of the blocking pool |
//! | `queue.rs` | the requests that wait for such a thread |

mod call;
mod environ;
pub(crate) mod errors;
mod in_place;
pub(crate) mod input;
mod on_pool;
mod queue;
pub(crate) mod start_response;

use std::sync::Arc;

use gearshift::{Answer, Handler, OnDisconnect, Request, Response, Runtime, StatusCode};
use pyo3::prelude::*;

use crate::process::Process;
use crate::wsgi::environ::Template;
use crate::wsgi::queue::Queue;

/// The handler of a WSGI application.
pub(crate) struct Wsgi(Arc<Shared>);

/// What all requests share.
struct Shared {
    app: Py<PyAny>,
    template: Template,
    runtime: Runtime,
    process: Arc<Process>,
    /// Requests of an event loop.
    queue: Queue,
}

impl Wsgi {
    /// The handler of `app`.
    ///
    /// # Errors
    /// An exception of Python, for example without memory.
    pub(crate) fn new(
        py: Python<'_>,
        app: Py<PyAny>,
        runtime: Runtime,
        process: Arc<Process>,
    ) -> PyResult<Wsgi> {
        let template = Template::new(py, &runtime, process.options())?;
        let queue = Queue::new(process.options().pool_capacity);
        if !runtime.threads_block() {
            queue.wakes().start(&runtime);
        }
        Ok(Wsgi(Arc::new(Shared { app, template, runtime, process, queue })))
    }
}

impl Handler for Wsgi {
    fn call(&self, request: Request) -> Answer {
        match self.0.runtime.threads_block() {
            true => Answer::Ready(in_place::respond(&self.0, request)),
            false => {
                let late = self.0.process.late(&request);
                let response = late.or(on_pool::respond(self.0.clone(), request));
                // The future is dropped when the client has left. A request that has not begun leaves the queue, and
                // one that has begun runs on.
                Answer::Later(Box::pin(response), OnDisconnect::Cancel.into())
            }
        }
    }
}

/// The response for an application that has failed.
fn failed(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    Response::text(format!("{reason}\n")).with_status(status)
}
