//! Services and layers of [tower](https://docs.rs/tower), in both directions. An application of axum is such a service.
//!
//! | from | to | by |
//! | --- | --- | --- |
//! | a service | a handler | [`service`] |
//! | a handler or a router | a service | [`HandlerService`] |
//! | a layer | a middleware | [`Router::layer`], [`layer`] |
//!
//! ```
//! # extern crate gearshift_core as gearshift;
//! use std::convert::Infallible;
//!
//! use gearshift::tower::service;
//! use gearshift::{Body, Router, http, sync};
//! use tower_layer::layer_fn;
//!
//! # #[derive(Clone)] struct Hello;
//! # impl tower_service::Service<http::Request<Body>> for Hello {
//! #     type Response = http::Response<Body>;
//! #     type Error = Infallible;
//! #     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
//! #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
//! #         std::task::Poll::Ready(Ok(()))
//! #     }
//! #     fn call(&mut self, _: http::Request<Body>) -> Self::Future {
//! #         std::future::ready(Ok(http::Response::new(Body::from("hello"))))
//! #     }
//! # }
//! // `Hello` is any `Service<http::Request<Body>>`, for example a router of axum.
//! let app = Router::new()
//!     .get("/", sync(|_| "native"))
//!     .layer(layer_fn(|inner| inner))
//!     .fallback(service(Hello));
//! # drop(app);
//! ```
//!
//! # What passes through
//!
//! Bodies stream in both directions, with back-pressure. The values of a request that have no place in the types of the
//! `http` crate pass through its extensions: the runtime, the peer, cancellation, the state and the parameters of the
//! route. [`RequestContext`](crate::RequestContext) shows them to services. The upgrade of a response, and work that
//! follows it, pass through the extensions of the response.
//!
//! A service that upgrades its connection through hyper, as the WebSockets of axum do, needs the feature `hyper` beside
//! `tower`. The response and the stream behind it are then those of this server: limits, statistics and a stop apply.
//!
//! # Services that need tokio
//!
//! Some services use the timers, files or tasks of tokio, for example the timeout and the static files of tower-http.
//! They work on the backend `tokio`. With the feature `async-compat` they work on all backends: a service, its response
//! and its body are then polled within a runtime of tokio, which adds one thread, and a layer that starts a task of
//! tokio, as that of tower's `buffer`, may be added to a router anywhere. Without the feature they panic on the other
//! backends, the peer gets 500, and the log names the feature.

mod body;
#[cfg(feature = "hyper")]
mod upgrade;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use tower_layer::Layer;
use tower_service::Service;

use crate::conn::handler::{Answer, Handler};
use crate::proto::body::Body;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::proto::{BoxError, BoxFuture};
use crate::web::middleware::{Middleware, Next};
use crate::web::router::Router;
use crate::web::tower::body::convert;

/// The bounds of a service that can be a handler: it answers requests with the body type of this crate by responses
/// with any body.
///
/// The trait is implemented for all such services, and cannot be implemented by hand.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::tower::{HttpService, service};
/// use gearshift::{App, Router};
///
/// /// The application, with a service for all paths that it does not have.
/// fn app(rest: impl HttpService) -> App {
///     Router::new().fallback(service(rest)).into()
/// }
/// # drop(app(gearshift::tower::HandlerService::new(Router::new())));
/// ```
#[diagnostic::on_unimplemented(
    note = "a service answers `http::Request<Body>`, is `Clone + Send + Sync`, and has a future that is `Send`",
    note = "a router of axum is a service once it has its state: `axum::Router<()>`, from `with_state`"
)]
pub trait HttpService: Send + Sync + 'static {
    /// Passes a request to the service.
    #[doc(hidden)]
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>>;
}

impl<S, B> HttpService for S
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>> {
        let mut service = self.clone();
        let response = async move {
            let ready: Result<(), BoxError> = poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await;
            let response = match ready {
                Ok(()) => service.call(request).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            let mut response = Some(response);
            poll_fn(|cx| {
                let response = response.take().expect("a future is not polled after its end");
                Poll::Ready(response.map_or_else(failed, |response| response.map(|body| convert(body, cx))))
            })
            .await
        };
        #[cfg(feature = "async-compat")]
        return Box::pin(async_compat::Compat::new(response));
        #[cfg(not(feature = "async-compat"))]
        Box::pin(response)
    }
}

/// The response in place of an error of a service.
fn failed(error: BoxError) -> http::Response<Body> {
    log::error!("a service failed: {error}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response().into_http()
}

/// Creates a handler from a service of tower. The handler calls a clone of the service for each request.
///
/// An error of the service is logged and answered with 500. A request whose target the `http` crate refuses is answered
/// with 400.
///
/// The service sees the whole path of a request. [`Router::nest_service`] removes a prefix.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::tower::{HandlerService, service};
/// use gearshift::{Router, sync};
///
/// // Any service of tower: here a handler that has become one.
/// let hello = HandlerService::new(sync(|_| "hello"));
/// let app = Router::new().fallback(service(hello));
/// # drop(app);
/// ```
pub fn service(service: impl HttpService) -> impl Handler {
    Adapter(service)
}

struct Adapter<S>(S);

impl<S: HttpService> Handler for Adapter<S> {
    fn call(&self, request: Request) -> Answer {
        match request.into_http() {
            Ok(request) => answer(&self.0, request),
            Err(_) => StatusCode::BAD_REQUEST.into(),
        }
    }
}

/// The answer of a service to a request.
fn answer(service: &impl HttpService, request: http::Request<Body>) -> Answer {
    #[cfg(feature = "hyper")]
    if upgrade::is_offered(&request) {
        return upgrade::answer(service, request);
    }
    let response = service.answer(request);
    Answer::later(async { Response::from_http(response.await) })
}

/// A handler as a service of tower, for requests with any body. Clones share the handler.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::tower::HandlerService;
/// use gearshift::{Body, Router, http, sync};
/// use tower_service::Service;
///
/// let mut service = HandlerService::new(Router::new().get("/", sync(|_| "hello")));
/// # futures_lite::future::block_on(async {
/// let response = service.call(http::Request::get("/").body(Body::empty())?).await?;
/// assert_eq!(response.status(), 200);
/// # Ok::<(), gearshift::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct HandlerService(Arc<dyn Handler>);

impl HandlerService {
    /// Creates a service from a handler.
    pub fn new(handler: impl Handler) -> HandlerService {
        HandlerService(Arc::new(handler))
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

impl<B> Service<http::Request<B>> for HandlerService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Calls the handler. A request whose head is larger than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD) is answered
    /// with 431.
    fn call(&mut self, request: http::Request<B>) -> HandlerFuture {
        HandlerFuture(Some(match Request::from_http(request.map(Body::from_http)) {
            Ok(request) => self.0.call(request),
            Err(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into(),
        }))
    }
}

/// The future of a [`HandlerService`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::tower::{HandlerFuture, HandlerService};
/// use gearshift::{Body, http, sync};
/// use tower_service::Service;
///
/// let mut service = HandlerService::new(sync(|_| "hello"));
/// let future: HandlerFuture = service.call(http::Request::new(Body::empty()));
/// let response = futures_lite::future::block_on(future).unwrap();
/// assert_eq!(response.status(), 200);
/// ```
#[must_use = "a handler runs only while its future is polled"]
#[derive(Debug)]
pub struct HandlerFuture(Option<Answer>);

impl Future for HandlerFuture {
    type Output = Result<http::Response<Body>, Infallible>;

    /// Panics if the response was taken.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.0.as_mut().expect("a future is not polled after its end") {
            Answer::Later(future, _) => match future.as_mut().poll(cx) {
                Poll::Ready(response) => response,
                Poll::Pending => return Poll::Pending,
            },
            Answer::Ready(_) => match self.0.take() {
                Some(Answer::Ready(response)) => response,
                _ => unreachable!("it was matched"),
            },
        };
        self.0 = None;
        Poll::Ready(Ok(response.into_http()))
    }
}

/// Creates a middleware from a layer of tower.
///
/// A router applies the layer to each of its handlers. A layer that counts or limits for all of them keeps its count in
/// the layer itself, and not in the service.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::tower::{HandlerService, layer};
/// use gearshift::{Router, sync};
/// use tower_layer::layer_fn;
///
/// /// A layer that changes nothing.
/// fn plain(service: HandlerService) -> HandlerService {
///     service
/// }
///
/// let app = Router::new().get("/", sync(|_| "hello")).wrap(layer(layer_fn(plain)));
/// # drop(app);
/// ```
pub fn layer<L>(layer: L) -> impl Middleware
where
    L: Layer<HandlerService> + Send + Sync + 'static,
    L::Service: HttpService,
{
    Layered(layer)
}

struct Layered<L>(L);

impl<L> Middleware for Layered<L>
where
    L: Layer<HandlerService> + Send + Sync + 'static,
    L::Service: HttpService,
{
    fn wrap(&self, next: Next) -> Box<dyn Handler> {
        let service = HandlerService::new(next);
        #[cfg(feature = "async-compat")]
        let layered = enter(|| self.0.layer(service));
        #[cfg(not(feature = "async-compat"))]
        let layered = self.0.layer(service);
        Box::new(Adapter(layered))
    }
}

/// Calls a function within a runtime of tokio.
#[cfg(feature = "async-compat")]
fn enter<R>(function: impl FnOnce() -> R) -> R {
    let mut entered = std::pin::pin!(async_compat::Compat::new(async { function() }));
    match entered.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the future does not wait"),
    }
}

impl Router {
    /// Adds a layer of tower to all routes, fallbacks and nested routers of this router, in the order of
    /// [`Router::wrap`]. See [`tower`](crate::tower).
    pub fn layer<L>(self, layer: L) -> Router
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: HttpService,
    {
        self.wrap(self::layer(layer))
    }

    /// Passes all requests whose path is `prefix`, or begins with `prefix` and a slash, to a service of tower. The
    /// service sees the path without the prefix: `/` for `prefix` itself.
    ///
    /// # Panics
    /// As [`Router::nest`].
    #[track_caller]
    pub fn nest_service(self, prefix: &str, service: impl HttpService) -> Router {
        self.nest(prefix, Router::new().fallback(Nested(service)))
    }
}

/// A service whose requests lose the prefix of their path.
struct Nested<S>(S);

impl<S: HttpService> Handler for Nested<S> {
    fn call(&self, request: Request) -> Answer {
        let prefix = request.inner().prefix;
        let Ok(mut request) = request.into_http() else { return StatusCode::BAD_REQUEST.into() };
        let uri = request.uri();
        let at = uri.path().match_indices('/').nth(prefix).map_or(uri.path().len(), |(at, _)| at);
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = match &uri.path()[at..] {
            "" => "/",
            path => path,
        };
        let Ok(path) = format!("{path}{query}").parse() else { return StatusCode::BAD_REQUEST.into() };
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(path);
        match http::Uri::from_parts(parts) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return StatusCode::BAD_REQUEST.into(),
        }
        answer(&self.0, request)
    }
}
