//! The [`Handler`] trait, which applications implement.
//!
//! Every async function or closure from [`Request`] to a type that is [`IntoResponse`] is a handler. The functions
//! [`sync`](crate::sync), [`blocking`](crate::blocking()) and [`compute`](crate::compute) convert a synchronous
//! function to a handler and select the thread that runs it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::BoxFuture;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// A function from a request to its response, shared by all connections of a server.
///
/// Every async function or closure from [`Request`] to a type that is [`IntoResponse`] is a handler. [`sync`],
/// [`blocking`] and [`compute`] make handlers from plain functions, and a [`Router`] is a handler that calls others.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Answer, Handler, Request, Router, sync};
///
/// async fn hello(request: Request) -> String {
///     format!("Hello, {}!", request.param("name").unwrap_or_default())
/// }
///
/// /// A handler by hand: it decides for each request whether it waits.
/// struct Sleepy;
///
/// impl Handler for Sleepy {
///     fn call(&self, request: Request) -> Answer {
///         match request.query_param("seconds").and_then(|seconds| seconds.parse().ok()) {
///             None => "at once".into(),
///             Some(seconds) => {
///                 let wait = request.runtime().sleep(std::time::Duration::from_secs(seconds));
///                 Answer::later(async move {
///                     wait.await;
///                     gearshift::Response::text("later")
///                 })
///             }
///         }
///     }
/// }
///
/// let app = Router::new()
///     .get("/", sync(|_| "Hello!"))
///     .get("/{name}", hello)
///     .get("/sleep", Sleepy);
/// # drop(app);
/// ```
///
/// # Closures
///
/// An async closure names the type of its parameter, `async |request: Request| …`; inside of [`sync`] and the like the
/// compiler knows it.
///
/// An async closure that uses a variable of its environment is no handler, because its future would borrow from the
/// closure. There are two ways out: the state of the router ([`Request::state`](crate::Request::state)), or a closure
/// that returns an async block with a clone:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # use gearshift::{Request, Router};
/// # use std::sync::Arc;
/// let name = Arc::new("everybody".to_owned());
/// let app = Router::new().get("/", move |_: Request| {
///     let name = name.clone();
///     async move { format!("Hello, {name}!") }
/// });
/// # drop(app);
/// ```
///
/// # A function that is no handler
///
/// The compiler says of a function that it is no handler, and not why. With [`debug_handler`](crate::debug_handler())
/// around the function it names the part that does not fit.
///
/// [`sync`]: crate::sync()
/// [`blocking`]: crate::blocking()
/// [`compute`]: crate::compute()
/// [`Router`]: crate::Router
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "not a handler",
    note = "a handler is an async function from `Request` to a type that is `IntoResponse`, such as `Result<String, Refusal>`",
    note = "a plain function becomes a handler by `sync(f)`, or by `blocking(f)` or `compute(f)` if it takes long",
    note = "a closure that captures is written `move |request| {{ let x = x.clone(); async move {{ … }} }}`",
    note = "its future is `Send`: no `Rc` and no guard of a `Mutex` lives across an `.await`",
    note = "for `debug_handler(f)` in place of `f` the compiler says which of these is missing"
)]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, with a response or with a future of one.
    ///
    /// On an event loop the call runs on the thread that drives the connections, so it must not block. A panic is
    /// answered with 500.
    fn call(&self, request: Request) -> Answer;

    /// What the handler asks for in place of the settings of the server. A router reads this once, when the handler is
    /// added to it, and applies it to all requests of the route.
    fn options(&self) -> RouteOptions {
        RouteOptions::default()
    }
}

/// What a route asks for in place of the settings of the server. `None` stands for the setting.
///
/// The functions [`on_disconnect`](crate::on_disconnect()), [`timeout`](crate::timeout()) and
/// [`body_limit`](crate::body_limit()) give a handler its options, and
/// [`Router::with_options`](crate::Router::with_options) those of all routes of a router. The options of a handler have
/// precedence over those of its router, and the options of a router over those of the router into which it is nested.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::{Router, RouteOptions, sync, timeout};
///
/// let mut options = RouteOptions::default();
/// options.timeout = Some(Duration::from_secs(5));
/// let app = Router::new()
///     .with_options(options)
///     .get("/", sync(|_| "after 5 s: 503"))
///     .get("/report", timeout(Duration::from_secs(60), async |_| "after 60 s: 503"));
/// # drop(app);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteOptions {
    /// The policy for a peer that leaves while a handler waits, in place of
    /// [`Config::on_disconnect`](crate::Config::on_disconnect).
    pub on_disconnect: Option<OnDisconnect>,
    /// The longest time for which a handler waits, in place of
    /// [`Config::handler_timeout`](crate::Config::handler_timeout). The peer then receives 503. It does not end a
    /// function that does not wait.
    pub timeout: Option<Duration>,
    /// The largest request body in bytes that [`Request::json`] and the like collect, in place of
    /// [`Request::DEFAULT_BODY_LIMIT`].
    pub body_limit: Option<usize>,
}

impl From<OnDisconnect> for RouteOptions {
    fn from(policy: OnDisconnect) -> RouteOptions {
        RouteOptions { on_disconnect: Some(policy), ..RouteOptions::default() }
    }
}

impl RouteOptions {
    /// The options, with those of `outer` where they are `None`.
    #[must_use]
    pub fn or(self, outer: RouteOptions) -> RouteOptions {
        RouteOptions {
            on_disconnect: self.on_disconnect.or(outer.on_disconnect),
            timeout: self.timeout.or(outer.timeout),
            body_limit: self.body_limit.or(outer.body_limit),
        }
    }
}

/// The return value of a handler.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Answer, IntoResponse, Request, Router};
///
/// /// Answers a cached value at once, and waits only for others.
/// fn value(request: Request) -> Answer {
///     match request.query_param("key").as_deref() {
///         Some("cached") => Answer::from("from the cache"),
///         _ => Answer::later(async { "from far away".into_response() }),
///     }
/// }
///
/// let app = Router::new().get("/value", value);
/// # drop(app);
/// ```
pub enum Answer {
    /// A response.
    Ready(Response),
    /// A future of the response, and the options for the time until it is ready: the policy for a peer that leaves,
    /// and the longest wait.
    Later(BoxFuture<Response>, RouteOptions),
}

impl Answer {
    /// Returns an answer that a future gives, with the settings of the server.
    pub fn later(future: impl Future<Output = Response> + Send + 'static) -> Answer {
        Answer::Later(Box::pin(future), RouteOptions::default())
    }

    /// Waits for the response.
    pub async fn response(self) -> Response {
        match self {
            Answer::Ready(response) => response,
            Answer::Later(future, _) => future.await,
        }
    }

    /// Applies `change` to the response. The options stay the same.
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Answer {
        match self {
            Answer::Ready(response) => Answer::Ready(change(response)),
            Answer::Later(future, options) => {
                Answer::Later(Box::pin(async move { change(future.await) }), options)
            }
        }
    }

    /// Sets the options that are `None`.
    #[must_use]
    pub(crate) fn with_outer(self, outer: RouteOptions) -> Answer {
        match self {
            Answer::Later(future, options) => Answer::Later(future, options.or(outer)),
            ready => ready,
        }
    }
}

impl<R: IntoResponse> From<R> for Answer {
    fn from(response: R) -> Answer {
        Answer::Ready(response.into_response())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ready(response) => f.debug_tuple("Ready").field(response).finish(),
            Answer::Later(_, options) => f.debug_tuple("Later").field(options).finish(),
        }
    }
}

/// The return value of a function that is a handler: a future of a response, or an [`Answer`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Answer, IntoAnswer};
///
/// let _: Answer = async { "a response" }.into_answer();
/// let _: Answer = Answer::from("a response").into_answer();
/// ```
pub trait IntoAnswer {
    /// Converts the value.
    fn into_answer(self) -> Answer;
}

impl<F> IntoAnswer for F
where
    F: Future + Send + 'static,
    F::Output: IntoResponse,
{
    fn into_answer(self) -> Answer {
        Answer::later(async move { self.await.into_response() })
    }
}

impl IntoAnswer for Answer {
    #[inline]
    fn into_answer(self) -> Answer {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<F, A> Handler for F
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: IntoAnswer,
{
    #[inline]
    fn call(&self, request: Request) -> Answer {
        self(request).into_answer()
    }
}

impl Handler for Arc<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }

    fn options(&self) -> RouteOptions {
        (**self).options()
    }
}

impl Handler for Box<dyn Handler> {
    fn call(&self, request: Request) -> Answer {
        (**self).call(request)
    }

    fn options(&self) -> RouteOptions {
        (**self).options()
    }
}
