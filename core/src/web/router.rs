//! The router: it selects the handler of a request by its path, then by its method.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::conn::handler::{Answer, Handler};
use crate::proto::fields::Span;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::stall::RouteName;
use crate::server::backend::App;

/// A handler that passes each request to the handler of its path and method.
///
/// Paths have the syntax of `matchit`: `{id}` in `/users/{id}` matches one segment, and `{*rest}` in `/files/{*rest}`
/// matches the rest of the path. The router matches the percent-encoded path, and static segments have precedence over
/// parameters.
///
/// A GET route also answers HEAD; the body of its response is dropped. Requests without a handler are answered as
/// follows:
///
/// | Request | Response |
/// | --- | --- |
/// | OPTIONS for the path of a route, or for `*` | 204 with `Allow` |
/// | another method, the path has a route | 405 with `Allow` (RFC 9110, 15.5.6) |
/// | the same, if neither RFC 9110, RFC 5789 nor any route defines the method | 501 (RFC 9110, 15.6.2) |
/// | no route has the path | the [fallback](Router::fallback), else 404, or 501 to CONNECT |
///
/// ```
/// use gearshift_core::{Method, Request, Router, sync};
///
/// let app = Router::new()
///     .get("/", sync(|_| "Hello, World!"))
///     .get("/hello/{name}", async |request: Request| format!("Hello, {}!", request.param("name").unwrap()));
/// let routes: Vec<_> = app.routes().collect();
/// assert_eq!(routes[1], ("/hello/{name}", "GET, HEAD, OPTIONS".to_owned()));
/// ```
#[derive(Default)]
pub struct Router {
    /// The indices of the routes without parameters. They have precedence, so that most requests need one lookup.
    fixed: FxHashMap<Box<[u8]>, usize>,
    /// The indices of all routes.
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
    fallback: Option<Box<dyn Handler>>,
}

/// The methods that are answered with 405, and not with 501, if no route serves them (RFC 9110, 9.3; RFC 5789).
const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The handlers of one path.
#[derive(Default)]
struct Route {
    path: Box<str>,
    /// The path as the stall detector refers to it.
    name: RouteName,
    /// The names of the parameters in `path`, in order. `matchit` tells them with the first match.
    names: OnceLock<Arc<[Box<str>]>>,
    /// The handler of GET. It has a field because most requests are GET.
    get: Option<Box<dyn Handler>>,
    others: Vec<(Method, Box<dyn Handler>)>,
    /// The handler of all methods without a handler.
    any: Option<Box<dyn Handler>>,
}

impl Router {
    /// Creates a router without routes.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a handler for GET and HEAD requests to `path`. Panics as [`Router::route`] does.
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST requests to `path`. Panics as [`Router::route`] does.
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for PUT requests to `path`. Panics as [`Router::route`] does.
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for PATCH requests to `path`. Panics as [`Router::route`] does.
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for DELETE requests to `path`. Panics as [`Router::route`] does.
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for requests with `method` to `path`.
    ///
    /// # Panics
    /// If `path` is malformed, if it conflicts with the path of another route, or if it has a handler for `method`
    /// already.
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Router {
        let route = self.at(path);
        let taken = match method {
            Method::GET => route.get.replace(Box::new(handler)).is_some(),
            _ => {
                let taken = route.other(&method).is_some();
                route.others.push((method, Box::new(handler)));
                taken
            }
        };
        assert!(!taken, "the route {path} was added twice for one method");
        self
    }

    /// Adds a handler for all methods for which `path` has no other handler. Panics as [`Router::route`] does.
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let taken = self.at(path).any.replace(Box::new(handler)).is_some();
        assert!(!taken, "the route {path} was added twice for one method");
        self
    }

    /// Sets the handler for requests whose path has no route. It replaces the 404 response, and the 501 to CONNECT. A
    /// fallback that answers CONNECT with a status of 2xx, and not with [`Response::tunnel`], does not reach the peer,
    /// which would take that response for a tunnel (RFC 9110, 9.3.6): the peer gets 501.
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.fallback = Some(Box::new(handler));
        self
    }

    /// The path of each route and its methods as a value of `Allow`, in the order in which the routes were added.
    pub fn routes(&self) -> impl Iterator<Item = (&str, String)> {
        self.routes.iter().map(|route| (&*route.path, list(route.methods())))
    }

    /// The route of `path`, which is added if it does not exist.
    fn at(&mut self, path: &str) -> &mut Route {
        if let Some(at) = self.routes.iter().position(|route| *route.path == *path) {
            return &mut self.routes[at];
        }
        if let Err(error) = self.paths.insert(path, self.routes.len()) {
            panic!("the route {path} cannot be added: {error}");
        }
        if !path.contains(['{', '}']) {
            self.fixed.insert(path.as_bytes().into(), self.routes.len());
        }
        self.routes.push(Route { path: path.into(), name: RouteName::new(path), ..Route::default() });
        self.routes.last_mut().expect("a route was just added")
    }
}

/// A router is an application by itself.
impl From<Router> for App {
    fn from(router: Router) -> App {
        App::new(move |_| router)
    }
}

impl Handler for Router {
    fn call(&self, mut request: Request) -> Answer {
        if let Some(&fixed) = self.fixed.get(request.path_bytes()) {
            return self.routes[fixed].call(request, self);
        }
        let Ok(found) = self.paths.at(request.path()) else {
            return self.unrouted(request);
        };
        let route = &self.routes[*found.value];
        if !found.params.is_empty() {
            let names =
                route.names.get_or_init(|| found.params.iter().map(|(name, _)| name.into()).collect());
            // `found` borrows the request until the values are collected.
            let head = &request.inner().head.bytes;
            let values: SmallVec<[Span; 8]> =
                found.params.iter().filter_map(|(_, value)| Span::within(head, value.as_bytes())).collect();
            let params = &mut request.inner_mut().params;
            params.values.clear();
            params.values.extend(values);
            params.names = Some(names.clone());
        }
        route.call(request, self)
    }
}

impl Router {
    /// Answers a request whose path has no route, including `OPTIONS *` and CONNECT.
    fn unrouted(&self, request: Request) -> Answer {
        if let Some(fallback) = &self.fallback {
            return fallback.call(request);
        }
        Answer::Ready(match *request.method() {
            Method::OPTIONS if request.path() == "*" => {
                let methods = self.routes.iter().flat_map(Route::methods);
                allow(StatusCode::NO_CONTENT, methods.filter(|method| *method != "OPTIONS"))
            }
            Method::CONNECT => StatusCode::NOT_IMPLEMENTED.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        })
    }

    /// Whether `method` is known, so that a path without it is answered with 405.
    fn knows(&self, method: &Method) -> bool {
        KNOWN.contains(&method.as_str()) || self.routes.iter().any(|route| route.other(method).is_some())
    }
}

/// The response with `status` whose `Allow` lists `methods`.
fn allow<'a>(status: StatusCode, methods: impl Iterator<Item = &'a str>) -> Response {
    let value = HeaderValue::try_from(list(methods)).expect("method names are valid field values");
    status.into_response().with_value(header::ALLOW, value)
}

/// A value of `Allow` with `methods` and OPTIONS, each once.
fn list<'a>(methods: impl Iterator<Item = &'a str>) -> String {
    let mut unique = Vec::new();
    for method in methods.chain(["OPTIONS"]) {
        if !unique.contains(&method) {
            unique.push(method);
        }
    }
    unique.join(", ")
}

impl Route {
    /// Answers a request to the path of the route.
    #[inline(always)]
    fn call(&self, request: Request, router: &Router) -> Answer {
        self.name.enter();
        match (&self.get, request.method()) {
            (Some(get), &Method::GET) => get.call(request),
            (Some(get), &Method::HEAD) => self.other(&Method::HEAD).unwrap_or(get).call(request),
            _ => self.call_other(request, router),
        }
    }

    fn call_other(&self, request: Request, router: &Router) -> Answer {
        if let Some(handler) = self.other(request.method()).or(self.any.as_deref()) {
            return handler.call(request);
        }
        Answer::Ready(match request.method() {
            &Method::OPTIONS => allow(StatusCode::NO_CONTENT, self.methods()),
            method if router.knows(method) => allow(StatusCode::METHOD_NOT_ALLOWED, self.methods()),
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        })
    }

    /// The handler of a method other than GET.
    fn other(&self, method: &Method) -> Option<&dyn Handler> {
        self.others.iter().find(|(other, _)| other == method).map(|(_, handler)| &**handler)
    }

    /// The methods that have a handler. HEAD is there twice if it has its own beside that of GET.
    fn methods(&self) -> impl Iterator<Item = &str> {
        let get = self.get.iter().flat_map(|_| ["GET", "HEAD"]);
        get.chain(self.others.iter().map(|(method, _)| method.as_str()))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes()).finish()
    }
}
