//! Middleware: code that runs before and after the handlers of a router.
//!
//! [`Router::wrap`](crate::Router::wrap) adds a middleware to all routes of a router. The function that fits depends on
//! whether the middleware waits:
//!
//! | function | the middleware | allocations for each request |
//! | --- | --- | --- |
//! | [`from_sync`] | is a plain function that does not wait | none |
//! | [`map_request`], [`map_response`] | changes or refuses the request, or changes the response | none before a sync handler |
//! | [`from_fn`] | is an async function | one, for its future |
//!
//! ```
//! # extern crate gearshift_core as gearshift;
//! use gearshift::middleware::{Next, from_fn, from_sync, map_request, map_response};
//! use gearshift::{Refusal, Request, Response, Router, StatusCode, sync};
//!
//! async fn log_time(request: Request, next: Next) -> Response {
//!     let (began, path) = (std::time::Instant::now(), request.path().to_owned());
//!     let response = next.run(request).await;
//!     println!("{path}: {} after {:?}", response.status(), began.elapsed());
//!     response
//! }
//!
//! fn only_with_key(request: Request) -> Result<Request, Refusal> {
//!     match request.header("x-key") {
//!         Some("secret") => Ok(request),
//!         _ => Err(StatusCode::UNAUTHORIZED.into()),
//!     }
//! }
//!
//! let admin = Router::new().get("/", sync(|_| "admin")).wrap(map_request(only_with_key));
//! let app = Router::new()
//!     .wrap(from_fn(log_time))
//!     .wrap(map_response(|response| response.with_header("x-app", "example")))
//!     .wrap(from_sync(|request, next| match request.headers().len() {
//!         0 => StatusCode::BAD_REQUEST.into(),
//!         _ => next.call(request),
//!     }))
//!     .nest("/admin", admin);
//! # drop(app);
//! ```

use std::fmt;
use std::sync::Arc;

use crate::conn::handler::{Answer, Handler, IntoAnswer, RouteOptions};
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;

/// A middleware: it makes a handler from the next one. See the [module](self).
///
/// Most applications use the functions of the module. An implementation is for a middleware that keeps something for
/// each route: a router calls [`wrap`](Middleware::wrap) once for each of its handlers.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use gearshift::middleware::{Middleware, Next};
/// use gearshift::{Answer, Handler, Request, Router, StatusCode, sync};
///
/// /// Allows each route a number of requests.
/// struct Quota(u64);
///
/// struct Counted {
///     left: AtomicU64,
///     next: Next,
/// }
///
/// impl Middleware for Quota {
///     fn wrap(&self, next: Next) -> Box<dyn Handler> {
///         Box::new(Counted { left: self.0.into(), next })
///     }
/// }
///
/// impl Handler for Counted {
///     fn call(&self, request: Request) -> Answer {
///         let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
///         match left {
///             Ok(_) => self.next.call(request),
///             Err(_) => Answer::from(StatusCode::TOO_MANY_REQUESTS),
///         }
///     }
/// }
///
/// let app = Router::new().get("/", sync(|_| "hello")).wrap(Quota(1000));
/// # drop(app);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware",
    label = "not a middleware",
    note = "an async function from `Request` and `Next` becomes a middleware by `from_fn(f)`",
    note = "a plain function becomes one by `map_request(f)`, `map_response(f)` or `from_sync(f)`",
    note = "a layer of tower is added by `Router::layer`, with the feature `tower`"
)]
pub trait Middleware: Send + Sync + 'static {
    /// Returns the handler that runs in place of `next`, and mostly calls it. Its [`options`](Handler::options) are
    /// those of `next`; the router passes them on.
    fn wrap(&self, next: Next) -> Box<dyn Handler>;
}

/// The rest of a chain: the middleware that comes next, or the handler of the route. Clones share it.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::{Next, from_fn};
/// use gearshift::{Request, Response, Router};
///
/// /// Calls the handler once more if its first response is 503.
/// async fn again(request: Request, next: Next) -> Response {
///     let copy = Request::get(request.target());
///     match next.clone().run(request).await {
///         response if response.status() == 503 => next.run(copy).await,
///         response => response,
///     }
/// }
///
/// let app = Router::new().wrap(from_fn(again));
/// # drop(app);
/// ```
#[derive(Clone)]
pub struct Next(Arc<dyn Handler>);

impl Next {
    pub(crate) fn new(handler: Arc<dyn Handler>) -> Next {
        Next(handler)
    }

    /// Calls the rest of the chain, for a middleware that does not wait.
    #[inline]
    pub fn call(&self, request: Request) -> Answer {
        self.0.call(request)
    }

    /// Calls the rest of the chain, and waits for the response.
    pub async fn run(self, request: Request) -> Response {
        self.0.call(request).response().await
    }
}

/// The rest of a chain is a handler.
impl Handler for Next {
    fn call(&self, request: Request) -> Answer {
        self.0.call(request)
    }

    fn options(&self) -> RouteOptions {
        self.0.options()
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// A middleware from a function that calls the next handler.
struct FromFn<F>(Arc<F>);

/// The handler of such a middleware before one route.
struct Wrapped<F> {
    function: Arc<F>,
    next: Next,
}

impl<F: Fn(Request, &Next) -> Answer + Send + Sync + 'static> Middleware for FromFn<F> {
    fn wrap(&self, next: Next) -> Box<dyn Handler> {
        Box::new(Wrapped { function: self.0.clone(), next })
    }
}

impl<F: Fn(Request, &Next) -> Answer + Send + Sync + 'static> Handler for Wrapped<F> {
    #[inline]
    fn call(&self, request: Request) -> Answer {
        (self.function)(request, &self.next)
    }
}

/// Creates a middleware from an async function. It waits for the next handler by [`Next::run`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::middleware::{Next, from_fn};
/// use gearshift::{IntoResponse, Request, Router, StatusCode, sync};
///
/// // Waits for its turn before the handler runs.
/// let slowly = from_fn(async |request: Request, next: Next| {
///     request.runtime().sleep(Duration::from_millis(10)).await;
///     next.run(request).await
/// });
/// let app = Router::new().get("/", sync(|_| "late")).wrap(slowly);
/// # drop(app);
/// ```
pub fn from_fn(function: impl MiddlewareFn) -> impl Middleware {
    from_sync(move |request, next| function.answer(request, next.clone()))
}

/// The bound of [`from_fn`]: a function from a request and [`Next`] to a future of a response.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::{Middleware, MiddlewareFn, Next, from_fn};
/// use gearshift::{Request, Response};
///
/// fn named(function: impl MiddlewareFn) -> impl Middleware {
///     from_fn(function)
/// }
///
/// async fn plain(request: Request, next: Next) -> Response {
///     next.run(request).await
/// }
///
/// let middleware = named(plain);
/// # drop(middleware);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware",
    label = "not a function of `from_fn`",
    note = "`from_fn` takes an async function from `Request` and `Next` to a type that is `IntoResponse`",
    note = "a closure that captures is written `move |request, next| {{ let x = x.clone(); async move {{ … }} }}`",
    note = "its future is `Send`: no `Rc` and no guard of a `Mutex` lives across an `.await`"
)]
pub trait MiddlewareFn: Send + Sync + 'static {
    /// Calls the function.
    #[doc(hidden)]
    fn answer(&self, request: Request, next: Next) -> Answer;
}

#[diagnostic::do_not_recommend]
impl<F, A> MiddlewareFn for F
where
    F: Fn(Request, Next) -> A + Send + Sync + 'static,
    A: IntoAnswer,
{
    fn answer(&self, request: Request, next: Next) -> Answer {
        self(request, next).into_answer()
    }
}

/// Creates a middleware from a function that does not wait. It passes the request on by [`Next::call`], and may change
/// the response by [`Answer::map`]. It allocates nothing by itself.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::from_sync;
/// use gearshift::{Router, StatusCode, sync};
///
/// let app = Router::new().get("/", sync(|_| "hello")).wrap(from_sync(|request, next| {
///     if request.header("x-robot").is_some() {
///         return StatusCode::FORBIDDEN.into();
///     }
///     next.call(request).map(|response| response.with_header("x-checked", "yes"))
/// }));
/// # drop(app);
/// ```
pub fn from_sync(function: impl Fn(Request, &Next) -> Answer + Send + Sync + 'static) -> impl Middleware {
    FromFn(Arc::new(function))
}

/// Creates a middleware that changes each request, or answers it in place of the handler. The error may be a
/// [`Refusal`](crate::Refusal), an error of the application, or a `Box` of a [`Response`].
///
/// What the middleware finds out goes to the handler through the extensions of the request:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::map_request;
/// use gearshift::{Refusal, Request, Router, StatusCode, sync};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// fn login(mut request: Request) -> Result<Request, Refusal> {
///     let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
///     let name = token.and_then(|token| token.strip_prefix("secret-")).ok_or_else(|| {
///         Refusal::new(StatusCode::UNAUTHORIZED, "a token is needed").with_header("www-authenticate", "Bearer")
///     })?;
///     let user = User(name.to_owned());
///     request.extensions_mut().insert(user);
///     Ok(request)
/// }
///
/// fn me(request: Request) -> String {
///     let User(name) = request.extensions().get().expect("`login` is before all routes");
///     format!("Hello, {name}!")
/// }
///
/// let app = Router::new().get("/me", sync(me)).wrap(map_request(login));
/// # use gearshift::{Answer, Handler};
/// # let request = Request::get("/me").with_header("authorization", "Bearer secret-Ada");
/// # let Answer::Ready(response) = app.call(request) else { panic!("it is sync") };
/// # assert_eq!(response.status(), 200);
/// ```
pub fn map_request<E: IntoResponse>(
    function: impl Fn(Request) -> Result<Request, E> + Send + Sync + 'static,
) -> impl Middleware {
    from_sync(move |request, next| match function(request) {
        Ok(request) => next.call(request),
        Err(error) => Answer::Ready(error.into_response()),
    })
}

/// Creates a middleware that changes each response.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::map_response;
/// use gearshift::{Router, sync};
///
/// let app = Router::new()
///     .get("/", sync(|_| "hello"))
///     .wrap(map_response(|response| response.with_header("x-frame-options", "DENY")));
/// # drop(app);
/// ```
pub fn map_response(function: impl Fn(Response) -> Response + Send + Sync + 'static) -> impl Middleware {
    let function = Arc::new(function);
    from_sync(move |request, next| match next.call(request) {
        Answer::Ready(response) => Answer::Ready(function(response)),
        later => {
            let function = function.clone();
            later.map(move |response| function(response))
        }
    })
}
