//! The router: it selects the handler of a request by its path, then by its method.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
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
/// A GET route also answers HEAD. Requests without a handler are answered as follows:
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
    fixed: HashMap<Box<[u8]>, usize, BuildHasherDefault<PathHasher>>,
    /// The indices of all routes.
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
    fallback: Option<Box<dyn Handler>>,
}

/// The methods that are answered with 405, and not with 501, if no route serves them (RFC 9110, 9.3; RFC 5789).
const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// The spans of parameter values, collected while `matchit` borrows the path.
type Values = SmallVec<[Span; 8]>;

/// The handlers of one path.
struct Route {
    path: Box<str>,
    /// The path as the stall detector refers to it.
    name: RouteName,
    /// The names of the parameters in `path`, in order.
    names: Option<Arc<[Box<str>]>>,
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

    /// Adds a handler for GET and HEAD requests to `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST requests to `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for PUT requests to `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for PATCH requests to `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for DELETE requests to `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
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
            _ if route.others.iter().any(|(other, _)| *other == method) => true,
            _ => {
                route.others.push((method, Box::new(handler)));
                false
            }
        };
        assert!(!taken, "the route {path} was added twice for one method");
        self
    }

    /// Adds a handler for all methods for which `path` has no other handler.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let taken = self.at(path).any.replace(Box::new(handler)).is_some();
        assert!(!taken, "the route {path} was added twice for one method");
        self
    }

    /// Sets the handler for requests whose path has no route. It replaces the 404 response.
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.fallback = Some(Box::new(handler));
        self
    }

    /// The path of each route and its methods as a value of `Allow`, in the order in which the routes were added.
    pub fn routes(&self) -> impl Iterator<Item = (&str, String)> {
        self.routes.iter().map(|route| (&*route.path, route.methods()))
    }

    /// The route of `path`, which is added if it does not exist.
    fn at(&mut self, path: &str) -> &mut Route {
        if let Some(at) = self.routes.iter().position(|route| *route.path == *path) {
            return &mut self.routes[at];
        }
        if let Err(error) = self.paths.insert(path, self.routes.len()) {
            panic!("the route {path} cannot be added: {error}");
        }
        let names: Vec<Box<str>> = parameter_names(path).map(Box::from).collect();
        let names = (!names.is_empty()).then(|| names.into());
        if !path.contains(['{', '}']) {
            self.fixed.insert(path.as_bytes().into(), self.routes.len());
        }
        let name = RouteName::new(path);
        self.routes.push(Route { path: path.into(), name, names, get: None, others: Vec::new(), any: None });
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
        if let Some(names) = &route.names {
            let head = &request.inner().head.bytes;
            let values: Values =
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
        RouteName::NONE.enter();
        if let Some(fallback) = &self.fallback {
            return fallback.call(request);
        }
        Answer::Ready(match *request.method() {
            Method::OPTIONS if request.path() == "*" => options(&self.methods()),
            Method::CONNECT => StatusCode::NOT_IMPLEMENTED.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        })
    }

    /// The methods of all routes as a value of `Allow`.
    fn methods(&self) -> String {
        let all: Vec<String> = self.routes.iter().map(Route::methods).collect();
        let mut methods: Vec<&str> = Vec::new();
        for method in all.iter().flat_map(|methods| methods.split(", ")) {
            if method != "OPTIONS" && !methods.contains(&method) {
                methods.push(method);
            }
        }
        methods.push("OPTIONS");
        methods.join(", ")
    }

    /// Whether `method` is known, so that a path without it is answered with 405.
    fn knows(&self, method: &Method) -> bool {
        KNOWN.contains(method) || self.routes.iter().any(|route| route.other(method).is_some())
    }
}

/// The response to an OPTIONS request without a handler.
fn options(methods: &str) -> Response {
    Response::status_only(StatusCode::NO_CONTENT).with_value(header::ALLOW, allow(methods))
}

fn allow(methods: &str) -> HeaderValue {
    HeaderValue::try_from(methods).expect("method names are valid field values")
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
            &Method::OPTIONS => options(&self.methods()),
            method if router.knows(method) => {
                let response = StatusCode::METHOD_NOT_ALLOWED.into_response();
                response.with_value(header::ALLOW, allow(&self.methods()))
            }
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        })
    }

    /// The handler of a method other than GET.
    fn other(&self, method: &Method) -> Option<&dyn Handler> {
        self.others.iter().find(|(other, _)| other == method).map(|(_, handler)| &**handler)
    }

    /// The methods as a value of `Allow`, each once.
    fn methods(&self) -> String {
        let mut methods: Vec<&str> = Vec::new();
        if self.get.is_some() {
            methods.extend(["GET", "HEAD"]);
        }
        methods.extend(self.others.iter().map(|(method, _)| method.as_str()));
        methods.push("OPTIONS");
        let mut seen = Vec::new();
        methods.retain(|method| {
            !seen.contains(method) && {
                seen.push(*method);
                true
            }
        });
        methods.join(", ")
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes()).finish()
    }
}

const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A fast hasher for the paths of routes: FNV-1a over words of 8 bytes. The keys come from the application, so that
/// the hasher need not resist chosen collisions.
#[derive(Default)]
struct PathHasher(u64);

impl Hasher for PathHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("a word has eight bytes"));
            self.0 = (self.0 ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
        for &byte in words.remainder() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }

    #[inline]
    fn write_usize(&mut self, len: usize) {
        self.0 = (self.0 ^ len as u64).wrapping_mul(PRIME);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // `HashMap` uses the low bits for the index and the high bits for the tag. The rotation mixes both.
        self.0 ^ self.0.rotate_left(32)
    }
}

/// The parameter names in `path`, without `*`. `{{` is an escaped brace.
fn parameter_names(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('{')?;
            if let Some(after) = rest[open..].strip_prefix("{{") {
                rest = after;
                continue;
            }
            let close = open + rest[open..].find('}')?;
            let name = &rest[open + 1..close];
            rest = &rest[close + 1..];
            return Some(name.trim_start_matches('*'));
        }
    })
}
