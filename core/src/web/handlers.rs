//! Kinds of handlers: plain functions and where they run, a route's policy for peers that leave, and the statistics.

use std::sync::Arc;

use http::header::{self, HeaderValue};

use crate::conn::handler::{Answer, Handler};
use crate::proto::BoxFuture;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;
use crate::runtime::handle::Work;
use crate::runtime::offload::{Offloaded, TryOffloaded};

/// A plain function as a handler, run in place: on an event loop that is the thread of the connections, so it must
/// be quick. It costs no allocation.
///
/// ```
/// # use gearshift_core::{Router, sync};
/// let app = Router::new().get("/", sync(|_| "Hello, World!"));
/// ```
pub fn sync<F, R>(function: F) -> InPlace<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    InPlace(function)
}

/// A handler made by [`sync`].
#[derive(Clone, Copy, Debug)]
pub struct InPlace<F>(F);

impl<F, R> Handler for InPlace<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    #[inline]
    fn call(&self, request: Request) -> Answer {
        Answer::Ready((self.0)(request).into_response())
    }
}

/// A plain function that blocks as a handler, run through [`Runtime::blocking`](crate::Runtime::blocking): in place
/// where threads may block, else on a pool of threads. If the pool's queue is full,
/// [`Config::pool_overload`](crate::Config::pool_overload) says whether the request waits or is answered 503.
///
/// ```
/// # use gearshift_core::{Router, blocking};
/// let app = Router::new().get("/motd", blocking(|_| std::fs::read_to_string("/etc/motd")));
/// ```
pub fn blocking<F, R>(function: F) -> Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Offloading { work: Work::Blocking, function: Arc::new(function) }
}

/// A plain function that burns CPU as a handler, run through [`Runtime::compute`](crate::Runtime::compute): in place
/// where threads may block, else on a pool with a thread for each core.
///
/// ```
/// # use gearshift_core::{Router, compute};
/// let app = Router::new().get("/sum", compute(|_| (0..1_000_000u64).sum::<u64>().to_string()));
/// ```
pub fn compute<F, R>(function: F) -> Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Offloading { work: Work::Compute, function: Arc::new(function) }
}

/// A handler made by [`blocking()`] or [`compute()`].
#[derive(Debug)]
pub struct Offloading<F> {
    work: Work,
    function: Arc<F>,
}

impl<F, R> Handler for Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    /// A request made by hand without a runtime is answered in place.
    fn call(&self, request: Request) -> Answer {
        let Some(runtime) = request.try_runtime().filter(|runtime| !runtime.runs_in_place(self.work)) else {
            return Answer::Ready((self.function)(request).into_response());
        };
        let (function, runtime, work) = (self.function.clone(), runtime.clone(), self.work);
        let job = move || function(request).into_response();
        let response: BoxFuture<Response> = match runtime.pool(work).refuses() {
            true => {
                let response = TryOffloaded::new(runtime, work, job);
                Box::pin(async { response.await.into_response() })
            }
            false => Box::pin(Offloaded::new(runtime, work, job)),
        };
        Answer::Later(response, None)
    }
}

/// A handler that answers with the [`Stats`](crate::Stats) of the server, as Prometheus text.
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

/// A handler with its own word on what becomes of its future when the peer leaves, instead of
/// [`Config::on_disconnect`](crate::Config::on_disconnect).
///
/// ```
/// # use gearshift_core::{OnDisconnect, Request, Router, on_disconnect};
/// async fn order(_: Request) -> &'static str {
///     // Several waits, of which none or all are to be.
///     "done"
/// }
/// let app = Router::new().post("/order", on_disconnect(OnDisconnect::Detach, order));
/// ```
pub fn on_disconnect<H: Handler>(policy: OnDisconnect, handler: H) -> Disconnecting<H> {
    Disconnecting { policy, handler }
}

/// A handler made by [`on_disconnect()`].
#[derive(Clone, Copy, Debug)]
pub struct Disconnecting<H> {
    policy: OnDisconnect,
    handler: H,
}

impl<H: Handler> Handler for Disconnecting<H> {
    fn call(&self, request: Request) -> Answer {
        match self.handler.call(request) {
            Answer::Later(future, _) => Answer::Later(future, Some(self.policy)),
            answer => answer,
        }
    }
}
