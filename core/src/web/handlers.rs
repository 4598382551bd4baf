//! Kinds of handlers: plain functions and the threads they run on, the disconnect policy of a route, and the
//! statistics.

use std::sync::Arc;

use http::header::{self, HeaderValue};

use crate::conn::handler::{Answer, Handler};
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;
use crate::runtime::handle::Work;
use crate::runtime::offload::offload;

/// A handler from a function to its answer.
struct Answering<F>(F);

impl<F: Fn(Request) -> Answer + Send + Sync + 'static> Handler for Answering<F> {
    #[inline]
    fn call(&self, request: Request) -> Answer {
        (self.0)(request)
    }
}

/// Creates a handler from a plain function that runs on the thread of the connection.
///
/// On an event loop all connections of the thread wait for the function, so it must be quick. The handler allocates
/// nothing.
///
/// ```
/// # use gearshift_core::{Router, sync};
/// let app = Router::new().get("/", sync(|_| "Hello, World!"));
/// ```
pub fn sync<R: IntoResponse>(function: impl Fn(Request) -> R + Send + Sync + 'static) -> impl Handler {
    Answering(move |request| Answer::Ready(function(request).into_response()))
}

/// Creates a handler from a plain function that blocks. It runs through
/// [`Runtime::blocking`](crate::Runtime::blocking): on the thread of the connection if that thread may block, else on
/// a pool of threads.
///
/// If the queue of the pool is full, [`Config::pool_overload`](crate::Config::pool_overload) decides whether the
/// request waits or is answered with 503. A request without a runtime, from [`Request::new`], is answered on the
/// calling thread.
///
/// ```
/// # use gearshift_core::{Router, blocking};
/// let app = Router::new().get("/motd", blocking(|_| std::fs::read_to_string("/etc/motd")));
/// ```
pub fn blocking<R: IntoResponse>(function: impl Fn(Request) -> R + Send + Sync + 'static) -> impl Handler {
    offloading(Work::Blocking, function)
}

/// Creates a handler from a plain function that uses much CPU time. It runs through
/// [`Runtime::compute`](crate::Runtime::compute): on the thread of the connection if that thread may block, else on a
/// pool with one thread for each core. The rest is as for [`blocking()`].
///
/// ```
/// # use gearshift_core::{Router, compute};
/// let app = Router::new().get("/sum", compute(|_| (0..1_000_000u64).sum::<u64>().to_string()));
/// ```
pub fn compute<R: IntoResponse>(function: impl Fn(Request) -> R + Send + Sync + 'static) -> impl Handler {
    offloading(Work::Compute, function)
}

fn offloading<R: IntoResponse>(
    work: Work,
    function: impl Fn(Request) -> R + Send + Sync + 'static,
) -> impl Handler {
    let function = Arc::new(function);
    Answering(move |request: Request| {
        let Some(runtime) = request.try_runtime().filter(|runtime| !runtime.runs_in_place(work)) else {
            return Answer::Ready(function(request).into_response());
        };
        let (function, runtime) = (function.clone(), runtime.clone());
        let job = move || function(request).into_response();
        let may_refuse = runtime.pool(work).refuses();
        let response = offload(runtime, work, job, may_refuse);
        Answer::Later(Box::pin(async { response.await.into_response() }), None)
    })
}

/// Creates a handler that answers with the [`Stats`](crate::Stats) of the server in the Prometheus text format.
///
/// The handler panics if the request has no runtime.
///
/// ```
/// # use gearshift_core::{Router, metrics};
/// let app = Router::new().get("/metrics", metrics());
/// ```
pub fn metrics() -> impl Handler {
    const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
    sync(|request| {
        let stats = request.runtime().stats();
        Response::new(stats.to_string()).with_value(header::CONTENT_TYPE, PROMETHEUS)
    })
}

/// Creates a handler with its own [`OnDisconnect`] policy, which replaces
/// [`Config::on_disconnect`](crate::Config::on_disconnect) for it. The policy has no effect on a handler that answers
/// without waiting.
///
/// ```
/// # use gearshift_core::{OnDisconnect, Request, Router, on_disconnect};
/// async fn order(_: Request) -> &'static str {
///     // Several waits that must complete together, although the peer may leave between them.
///     "done"
/// }
/// let app = Router::new().post("/order", on_disconnect(OnDisconnect::Detach, order));
/// ```
pub fn on_disconnect(policy: OnDisconnect, handler: impl Handler) -> impl Handler {
    Answering(move |request| match handler.call(request) {
        Answer::Later(future, _) => Answer::Later(future, Some(policy)),
        answer => answer,
    })
}
