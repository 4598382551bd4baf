//! Which handler answers which request: by path, then by method.

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

/// Routes requests by path and method.
///
/// Paths are `matchit`'s: `/users/{id}` takes one segment, `/files/{*rest}` all that is left. Matching is on the
/// path as it was sent, and static segments win over parameters. `GET` routes answer `HEAD`; `OPTIONS` is answered
/// for every route that does not do so itself, and for `*`; a path without the method is 405 with `Allow`, or 501 if
/// no route knows the method and RFC 9110 does not; no path is 404, and 501 to CONNECT.
///
/// ```
/// # use gearshift_core::{Router, Request, sync};
/// let app = Router::new()
///     .get("/", sync(|_| "Hello, World!"))
///     .get("/hello/{name}", async |request: Request| format!("Hello, {}!", request.param("name").unwrap()));
/// ```
#[derive(Default)]
pub struct Router {
    /// Paths without parameters. They win over those with, so that most requests need no more than one look.
    fixed: HashMap<Box<[u8]>, usize, BuildHasherDefault<PathHasher>>,
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
    fallback: Option<Box<dyn Handler>>,
}

/// Methods that are known everywhere (RFC 9110, 9.3; RFC 5789), whether a route serves them or not.
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

/// Where parameters are, while the path is still looked at.
type Values = SmallVec<[Span; 8]>;

/// All that is served at one path.
struct Route {
    path: Box<str>,
    name: RouteName,
    names: Option<Arc<[Box<str>]>>,
    /// `GET` has a place of its own, as most requests are that.
    get: Option<Box<dyn Handler>>,
    others: Vec<(Method, Box<dyn Handler>)>,
    any: Option<Box<dyn Handler>>,
}

impl Router {
    /// A router that answers 404.
    pub fn new() -> Router {
        Router::default()
    }

    /// Serves `GET` (and `HEAD`) at `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Serves `POST` at `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Serves `PUT` at `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Serves `PATCH` at `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Serves `DELETE` at `path`.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Serves one method at `path`.
    ///
    /// # Panics
    /// If the path is malformed or cannot stand beside one that is there, or the method is served there already.
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
        assert!(!taken, "the route {path} is there twice");
        self
    }

    /// Serves every method at `path` that has no route of its own.
    ///
    /// # Panics
    /// As [`Router::route`].
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let taken = self.at(path).any.replace(Box::new(handler)).is_some();
        assert!(!taken, "the route {path} is there twice");
        self
    }

    /// Serves what no path matches, instead of 404.
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.fallback = Some(Box::new(handler));
        self
    }

    /// The paths and the methods served at each, in the order they were added.
    pub fn routes(&self) -> impl Iterator<Item = (&str, String)> {
        self.routes.iter().map(|route| (&*route.path, route.methods()))
    }

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
    /// No path, or none of a route: an authority, or the server as a whole.
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

    /// All methods of all routes, as a value of `Allow`.
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

    fn knows(&self, method: &Method) -> bool {
        KNOWN.contains(method) || self.routes.iter().any(|route| route.other(method).is_some())
    }
}

/// What is answered to OPTIONS by whoever has nothing to say but `Allow`.
fn options(methods: &str) -> Response {
    Response::status_only(StatusCode::NO_CONTENT).with_value(header::ALLOW, allow(methods))
}

fn allow(methods: &str) -> HeaderValue {
    HeaderValue::try_from(methods).expect("method names are valid field values")
}

impl Route {
    #[inline]
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

    fn other(&self, method: &Method) -> Option<&dyn Handler> {
        self.others.iter().find(|(other, _)| other == method).map(|(_, handler)| &**handler)
    }

    /// The value of `Allow`.
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

/// Hashes the paths of the program's own routes, which nobody can choose to collide: FNV-1a, a word at a time.
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
        // The table takes its index from the low bits and its tag from the high ones.
        self.0 ^ self.0.rotate_left(32)
    }
}

/// The names in braces, without `*`; doubled braces stand for themselves.
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
