//! What a user writes: a [`Handler`], sync or async.
//!
//! An async function or closure from [`Request`] to anything that is [`IntoResponse`] is a handler as it is. A
//! plain function becomes one through [`sync`], [`blocking()`] or [`compute`], which say where it runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::offload::{Offloaded, TryOffloaded};
use crate::{BoxFuture, IntoResponse, OnDisconnect, Request, Response, Runtime, Stats};

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request: at once, or with a future.
    ///
    /// On an event loop this runs on the thread that drives the connections: it must be quick.
    fn call(&self, request: Request) -> Answer;
}

/// What a handler gives back.
pub enum Answer {
    /// The response is here.
    Ready(Response),
    /// The response is what this future gives.
    Later(BoxFuture<Response>),
    /// The same, with its own word on what becomes of the future when its peer leaves; see [`on_disconnect()`].
    Kept(BoxFuture<Response>, OnDisconnect),
}

impl Answer {
    /// Polls for the response.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        match self {
            Answer::Later(future) | Answer::Kept(future, _) => future.as_mut().poll(cx),
            Answer::Ready(response) => {
                Poll::Ready(std::mem::replace(response, Response::status_only(http::StatusCode::OK)))
            }
        }
    }

    /// Waits for the response.
    pub async fn response(self) -> Response {
        match self {
            Answer::Ready(response) => response,
            Answer::Later(future) | Answer::Kept(future, _) => future.await,
        }
    }

    /// The same answer with `change` made to its response.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Answer {
        match self {
            Answer::Ready(response) => Answer::Ready(change(response)),
            Answer::Later(future) => Answer::Later(Box::pin(async move { change(future.await) })),
            Answer::Kept(future, policy) => {
                Answer::Kept(Box::pin(async move { change(future.await) }), policy)
            }
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer::Ready(response)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ready(response) => f.debug_tuple("Ready").field(response).finish(),
            Answer::Later(_) => f.write_str("Later"),
            Answer::Kept(_, policy) => f.debug_tuple("Kept").field(policy).finish(),
        }
    }
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoResponse,
{
    fn call(&self, request: Request) -> Answer {
        let response = self(request);
        Answer::Later(Box::pin(async move { response.await.into_response() }))
    }
}

impl Handler for Arc<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }
}

impl Handler for Box<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }
}

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

/// A plain function that blocks as a handler, run through [`Runtime::blocking`]: in place where threads may block,
/// else on a pool of threads. If that has no room, [`Config::pool_overload`](crate::Config::pool_overload) says what
/// becomes of the request.
pub fn blocking<F, R>(runtime: &Runtime, function: F) -> Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Offloading { runtime: runtime.clone(), work: crate::Work::Blocking, function: Arc::new(function) }
}

/// A plain function that burns CPU as a handler, run through [`Runtime::compute`].
pub fn compute<F, R>(runtime: &Runtime, function: F) -> Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Offloading { runtime: runtime.clone(), work: crate::Work::Compute, function: Arc::new(function) }
}

/// A handler made by [`blocking()`] or [`compute()`].
#[derive(Debug)]
pub struct Offloading<F> {
    runtime: Runtime,
    work: crate::Work,
    function: Arc<F>,
}

impl<F, R> Handler for Offloading<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn call(&self, request: Request) -> Answer {
        if self.runtime.runs_in_place(self.work) {
            return Answer::Ready((self.function)(request).into_response());
        }
        let function = self.function.clone();
        let (runtime, work) = (self.runtime.clone(), self.work);
        let job = move || function(request).into_response();
        Answer::Later(match runtime.pool(work).refuses() {
            true => {
                let response = TryOffloaded::new(runtime, work, job);
                Box::pin(async { response.await.into_response() })
            }
            false => Box::pin(Offloaded::new(runtime, work, job)),
        })
    }
}

/// A handler that answers with the [`Stats`] of the server, as Prometheus text.
///
/// ```
/// # use gearshift_core::{Router, Runtime, metrics};
/// # fn app(runtime: Runtime) -> Router {
/// Router::new().get("/metrics", metrics(&runtime))
/// # }
/// ```
pub fn metrics(runtime: &Runtime) -> impl Handler {
    const PROMETHEUS: http::HeaderValue = http::HeaderValue::from_static("text/plain; version=0.0.4");
    let runtime = runtime.clone();
    sync(move |_| {
        let stats: Stats = runtime.stats();
        Response::new(stats.to_string()).with_value(http::header::CONTENT_TYPE, PROMETHEUS)
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
            Answer::Later(future) => Answer::Kept(future, self.policy),
            answer => answer,
        }
    }
}
