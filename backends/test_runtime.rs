//! A runtime for unit tests of handlers. It has no server and no socket.

use std::fmt;

use gearshift_core::{Config, Handler, Request, Response, Router, Runtime, ServeError, Server};

use crate::Backend;
use crate::test_server::Running;

/// A running backend without a listener, for tests of handlers that use [`Request::runtime`]: timers, background tasks,
/// pools and outgoing connections are those of the backend. It stops when it is dropped.
///
/// A handler that does not use the runtime needs none in its test; see [`Request::get`](crate::Request::get).
///
/// ```
/// use std::time::Duration;
///
/// use gearshift::{Backend, Request, TestRuntime};
///
/// async fn later(request: Request) -> &'static str {
///     request.runtime().sleep(Duration::from_millis(1)).await;
///     "done"
/// }
///
/// # fn main() -> Result<(), gearshift::ServeError> {
/// for backend in Backend::available() {
///     let runtime = TestRuntime::start(*backend)?;
///     let response = runtime.call(&later, Request::get("/"));
///     assert_eq!(response.status(), 200);
///     assert_eq!(runtime.block_on(response.into_body().text()).unwrap(), "done");
/// }
/// # Ok(())
/// # }
/// ```
pub struct TestRuntime(Running);

impl TestRuntime {
    /// Starts the backend with the default settings.
    ///
    /// # Errors
    /// The error that prevented the start.
    pub fn start(backend: Backend) -> Result<TestRuntime, ServeError> {
        let server = Server::bind(&[], Config::default())?;
        Ok(TestRuntime(Running::start(backend, server, Router::new().into(), "test-runtime")?))
    }

    /// The runtime, for [`Request::with_runtime`] and for code that takes a [`Runtime`].
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Calls a handler and waits for its response. The request gets this runtime.
    ///
    /// The handler is called on the thread of the test. A middleware is tested as a part of a handler. An upgrade of
    /// the response is not performed, and the futures of [`Response::after`] do not run.
    ///
    /// # Panics
    /// If the handler panics.
    pub fn call(&self, handler: &impl Handler, request: Request) -> Response {
        let answer = handler.call(request.with_runtime(self.runtime()));
        self.block_on(answer.response())
    }

    /// Waits for `future` on the thread of the test.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }
}

impl fmt::Debug for TestRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestRuntime").field(self.runtime()).finish()
    }
}
