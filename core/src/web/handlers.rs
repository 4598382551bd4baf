//! Kinds of handlers: plain functions and the threads they run on, handlers with options, and the statistics.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::conn::handler::{Answer, Handler, RouteOptions};
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;
use crate::runtime::handle::Work;
use crate::runtime::offload::offload;
use crate::runtime::stats::Stats;

/// Creates a handler from a plain function that runs on the thread of the connection.
///
/// On an event loop all connections of the thread wait for the function, so it must be quick. The handler allocates
/// nothing.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Router, sync};
/// let app = Router::new().get("/", sync(|_| "Hello, World!"));
/// ```
pub fn sync<R: IntoResponse>(function: impl Fn(Request) -> R + Send + Sync + 'static) -> impl Handler {
    move |request: Request| Answer::Ready(function(request).into_response())
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
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Router, blocking};
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
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Router, compute};
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
    move |request: Request| {
        let Some(runtime) = request.try_runtime().filter(|runtime| !runtime.runs_in_place(work)) else {
            return Answer::Ready(function(request).into_response());
        };
        let (function, runtime) = (function.clone(), runtime.clone());
        let job = move || function(request).into_response();
        let may_refuse = runtime.pool(work).refuses();
        let response = offload(runtime, work, job, may_refuse);
        Answer::later(async { response.await.into_response() })
    }
}

/// Returns `function`, which is a handler already. The compiler says of a function that does not fit that it is no
/// handler. Inside of `debug_handler` it says which part does not fit: the parameter, the type that is no
/// [`IntoResponse`], or the value that makes the future not `Send`. Such a value, for example an `Rc` or the guard of a
/// `std::sync::Mutex`, must be dropped before the next `.await`.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Request, Router, debug_handler};
/// async fn hello(_: Request) -> &'static str {
///     "hello"
/// }
/// let app = Router::new().get("/", debug_handler(hello));
/// # drop(app);
/// ```
pub fn debug_handler<F, A>(function: F) -> F
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output: IntoResponse> + Send + 'static,
{
    function
}

/// Creates a handler that answers with the [`Stats`] of the server in the Prometheus text format.
///
/// The handler panics if the request has no runtime.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Router, metrics};
/// let app = Router::new().get("/metrics", metrics());
/// ```
pub fn metrics() -> impl Handler {
    sync(|request| request.runtime().stats())
}

/// The statistics in the Prometheus text format.
impl IntoResponse for Stats {
    fn into_response(self) -> Response {
        const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
        Response::new(self.to_string()).with_header(header::CONTENT_TYPE, PROMETHEUS)
    }
}

/// Creates a handler for a probe of liveness: 200. It shows that the server answers requests, and nothing about the
/// services that the application uses.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Router, healthz, readyz};
/// let app = Router::new().get("/healthz", healthz()).get("/readyz", readyz());
/// ```
pub fn healthz() -> impl Handler {
    sync(|_| health(true, "ok"))
}

/// Creates a handler for a probe of readiness: 200, and 503 once a stop was requested. A load balancer that asks it
/// stops sending requests during [`Config::drain_delay`](crate::Config::drain_delay).
///
/// The handler panics if the request has no runtime. [`healthz()`] has an example.
pub fn readyz() -> impl Handler {
    sync(|request| match request.runtime().is_ready() {
        true => health(true, "ready"),
        false => health(false, "stopping"),
    })
}

/// The response to a probe, which no cache may keep.
fn health(is_well: bool, text: &'static str) -> Response {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Response::text(text).with_status(status).with_header(header::CACHE_CONTROL, NO_STORE)
}

/// A handler with options.
struct WithOptions<H> {
    handler: H,
    options: RouteOptions,
}

impl<H: Handler> Handler for WithOptions<H> {
    fn call(&self, mut request: Request) -> Answer {
        if let Some(limit) = self.options.body_limit {
            request.set_body_limit(limit);
        }
        self.handler.call(request).with_outer(self.options)
    }

    fn options(&self) -> RouteOptions {
        self.handler.options().or(self.options)
    }
}

/// Creates a handler with its own [`OnDisconnect`] policy, which replaces
/// [`Config::on_disconnect`](crate::Config::on_disconnect) for it. The policy has no effect on a handler that answers
/// without waiting. Middleware keeps it. If the handler itself has a policy, that one is kept.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{OnDisconnect, Request, Router, on_disconnect};
/// async fn order(_: Request) -> &'static str {
///     // Several waits that must complete together, although the peer may leave between them.
///     "done"
/// }
/// let app = Router::new().post("/order", on_disconnect(OnDisconnect::Detach, order));
/// ```
pub fn on_disconnect(policy: OnDisconnect, handler: impl Handler) -> impl Handler {
    WithOptions { handler, options: RouteOptions { on_disconnect: Some(policy), ..RouteOptions::default() } }
}

/// Creates a handler with its own limit for waiting, which replaces
/// [`Config::handler_timeout`](crate::Config::handler_timeout) for it: shorter or longer. A handler that exceeds it is
/// dropped, and its peer receives 503. The limit has no effect on a handler that answers without waiting. Middleware
/// keeps it, and its own waits count.
///
/// The limit ends the middleware of the route together with the handler. Middleware therefore does not see the 503, and
/// adds no fields to it; the access log has a line for it. A middleware that waits for the rest of the chain with
/// [`Runtime::timeout`](crate::Runtime::timeout) answers inside of the middleware before it:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use std::time::Duration;
/// use gearshift::middleware::{Next, from_fn, map_response};
/// use gearshift::{Elapsed, Request, Response, Router};
///
/// async fn two_seconds(request: Request, next: Next) -> Result<Response, Elapsed> {
///     let runtime = request.runtime().clone();
///     runtime.timeout(Duration::from_secs(2), next.run(request)).await
/// }
///
/// let app = Router::new()
///     .wrap(map_response(|response| response.with_header("access-control-allow-origin", "*")))
///     .wrap(from_fn(two_seconds));
/// # drop(app);
/// ```
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use std::time::Duration;
/// # use gearshift::{Request, Router, timeout};
/// async fn report(request: Request) -> &'static str {
///     request.runtime().sleep(Duration::from_millis(5)).await;
///     "done"
/// }
/// let app = Router::new().get("/report", timeout(Duration::from_secs(60), report));
/// ```
///
/// # Panics
/// If `limit` is zero.
pub fn timeout(limit: Duration, handler: impl Handler) -> impl Handler {
    assert!(!limit.is_zero(), "the timeout of a handler is longer than zero");
    WithOptions { handler, options: RouteOptions { timeout: Some(limit), ..RouteOptions::default() } }
}

/// Creates a handler for request bodies of up to `limit` bytes, in place of
/// [`Request::DEFAULT_BODY_LIMIT`]: the limit of [`Request::json`] and of the other methods that collect a body. A body
/// that the handler reads in pieces has the limit [`Limits::body`](crate::Limits::body) alone.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Refusal, Request, Router, body_limit};
/// async fn save(request: Request) -> Result<String, Refusal> {
///     let note = request.text().await?;
///     Ok(format!("{} bytes", note.len()))
/// }
/// let app = Router::new().post("/notes", body_limit(64 * 1024, save));
/// ```
pub fn body_limit(limit: usize, handler: impl Handler) -> impl Handler {
    WithOptions { handler, options: RouteOptions { body_limit: Some(limit), ..RouteOptions::default() } }
}
