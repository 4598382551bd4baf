//! The router: it selects the handler of a request by its path, then by its method.

mod endpoint;
mod unserved;

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{Method, StatusCode};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::conn::handler::{Answer, Handler, RouteOptions};
use crate::conn::maybe_trace::routed;
use crate::proto::fields::Span;
use crate::proto::request::Request;
#[cfg(doc)]
use crate::proto::response::Response;
use crate::runtime::stall::RouteName;
use crate::server::backend::App;
use crate::web::middleware::Middleware;
use crate::web::router::endpoint::{Endpoint, Group};
use crate::web::router::unserved::{Hook, NotFound, Unserved, WithoutHandler};

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
/// | another method, the path has a route | 405 with `Allow` (RFC 9110, 15.5.6); see [`method_not_allowed`](Router::method_not_allowed) |
/// | the same, if neither RFC 9110, RFC 5789 nor any route defines the method | 501 (RFC 9110, 15.6.2) |
/// | no route has the path | the [fallback](Router::fallback), else 404, or 501 to CONNECT |
///
/// # Groups
///
/// A router with middleware, state or options is a group of routes. [`nest`](Router::nest) adds a group under a path,
/// and [`merge`](Router::merge) adds one at the same path. What a router has applies to all of its routes and to all
/// routers nested in it, whether it was added before or after them, and also to the responses of the table above. The
/// order in which middleware runs is the order in which it was added, from outer routers to inner ones.
///
/// The path is matched before the middleware runs. A middleware therefore sees [`Request::param`] and
/// [`Request::route`], and cannot change which handler is called.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::middleware::map_response;
/// use gearshift::{Method, Request, Router, sync};
///
/// let users = Router::new()
///     .get("/", sync(|_| "all users"))
///     .get("/{id}", async |request: Request| format!("user {}", request.param("id").unwrap()));
/// let app = Router::new()
///     .get("/", sync(|_| "Hello, World!"))
///     .nest("/users", users)
///     .wrap(map_response(|response| response.with_header("x-app", "example")));
/// let routes: Vec<_> = app.routes().collect();
/// assert_eq!(routes[2], ("/users/{id}", "GET, HEAD, OPTIONS".to_owned()));
/// ```
pub struct Router {
    /// The indices of the routes without parameters. They have precedence, so that most requests need one lookup.
    fixed: FxHashMap<Box<[u8]>, usize>,
    /// The indices of all routes.
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
    group: Group,
    fallback: Endpoint,
    has_fallback: bool,
    /// The fallbacks of nested routers. The first one whose paths match answers.
    nested_fallbacks: Vec<NestedFallback>,
    method_not_allowed: Option<Arc<dyn Handler>>,
}

/// The methods that are answered with 405, and not with 501, if no route serves them (RFC 9110, 9.3; RFC 5789).
const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The handlers of one path.
struct Route {
    path: Box<str>,
    /// The path as the stall detector refers to it.
    name: RouteName,
    /// The names of the parameters in `path`, in order. `matchit` tells them with the first match.
    names: OnceLock<Arc<[Box<str>]>>,
    /// The handler of GET. It has a field because most requests are GET.
    get: Option<Endpoint>,
    others: Vec<(Method, Endpoint)>,
    /// The handler of all methods without a handler.
    any: Option<Endpoint>,
    /// Answers methods without a handler, if there is no `any`.
    unserved: Endpoint,
    /// The handler of the application that `unserved` calls.
    hook: Hook,
}

/// The fallback of a nested router.
struct NestedFallback {
    /// The path under which the router was nested.
    prefix: Box<str>,
    /// The prefix, and all paths under it. `matchit` takes no catch-all beside a parameter, so each fallback has its
    /// own.
    paths: matchit::Router<()>,
    /// The names of the parameters in `prefix`, as in [`Route`].
    names: OnceLock<Arc<[Box<str>]>>,
    endpoint: Endpoint,
}

/// The parameter that matches the path behind the prefix of a nested fallback. Handlers do not see it.
const REST: &str = "the rest";

impl Default for Router {
    fn default() -> Router {
        Router {
            fixed: FxHashMap::default(),
            paths: matchit::Router::new(),
            routes: Vec::new(),
            group: Group::default(),
            fallback: Endpoint::new(Unserved(Hook::default())),
            has_fallback: false,
            nested_fallbacks: Vec::new(),
            method_not_allowed: None,
        }
    }
}

impl Router {
    /// Creates a router without routes.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a handler for GET and HEAD requests to `path`. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST requests to `path`. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for PUT requests to `path`. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for PATCH requests to `path`. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for DELETE requests to `path`. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler) -> Router {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for requests with `method` to `path`.
    ///
    /// # Panics
    /// If `path` is malformed, if it conflicts with the path of another route, or if it has a handler for `method`
    /// already.
    #[track_caller]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Router {
        let endpoint = Endpoint::new(handler).within(&self.group);
        self.at(path).add(Some(method), endpoint);
        self
    }

    /// Adds a handler for all methods for which `path` has no other handler. Panics as [`Router::route`] does.
    #[track_caller]
    pub fn any(mut self, path: &str, handler: impl Handler) -> Router {
        let endpoint = Endpoint::new(handler).within(&self.group);
        self.at(path).add(None, endpoint);
        self
    }

    /// Sets the handler for requests whose path has no route. It replaces the 404 response, and the 501 to CONNECT. A
    /// fallback that answers CONNECT with a status of 2xx, and not with [`Response::tunnel`], does not reach the peer,
    /// which would take that response for a tunnel (RFC 9110, 9.3.6): the peer gets 501.
    ///
    /// The fallback of a nested router is for the paths under its prefix, whose parameters it sees. If several prefixes
    /// match, static segments have precedence over parameters, and the longest prefix is chosen.
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.fallback = Endpoint::new(handler).within(&self.group);
        self.has_fallback = true;
        self
    }

    /// Sets the [fallback](Router::fallback) to a handler of the page for a path that does not exist. A response with
    /// status 200 gets status 404.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Response, Router, sync};
    /// let app = Router::new().not_found(sync(|_| Response::html("<p>There is no such page.")));
    /// # drop(app);
    /// ```
    pub fn not_found(self, handler: impl Handler) -> Router {
        self.fallback(NotFound(handler))
    }

    /// Sets the handler for requests with a method that their path does not have, in place of the 405 response. The
    /// router adds `Allow` to its response, and changes the status 200 to 405. The handler of a nested router is for
    /// the routes of that router.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Response, Router, sync};
    /// let app = Router::new()
    ///     .get("/", sync(|_| "hello"))
    ///     .method_not_allowed(sync(|_| Response::html("<p>This page cannot be changed.")));
    /// # drop(app);
    /// ```
    pub fn method_not_allowed(mut self, handler: impl Handler) -> Router {
        let hook: Arc<dyn Handler> = Arc::new(handler);
        self.routes.iter_mut().for_each(|route| route.set_hook(&hook, &self.group));
        self.method_not_allowed = Some(hook);
        self
    }

    /// Adds a middleware to all routes, fallbacks and nested routers of this router. It runs after the middleware that
    /// was added before, and before that of nested routers. See [`middleware`](crate::middleware).
    pub fn wrap(mut self, middleware: impl Middleware) -> Router {
        self.group.middleware.push(Arc::new(middleware));
        self.rebuild();
        self
    }

    /// Gives all handlers and middleware of this router a value of type `T`; see [`Request::state`]. A router has one
    /// state of each type: a second one replaces the first. Nested routers see the states of outer ones.
    ///
    /// The router keeps the value in an `Arc`. An `Arc` that the caller has is given by
    /// [`with_shared_state`](Router::with_shared_state).
    pub fn with_state<T: Send + Sync + 'static>(self, state: T) -> Router {
        self.with_shared_state(Arc::new(state))
    }

    /// Does the same as [`Router::with_state`] with a value that the caller shares.
    pub fn with_shared_state<T: Send + Sync + 'static>(mut self, state: Arc<T>) -> Router {
        self.group.states.retain(|other| !(**other).is::<T>());
        self.group.states.push(state);
        self.rebuild();
        self
    }

    /// Sets the options of all routes that have no others; see [`RouteOptions`].
    pub fn with_options(mut self, options: RouteOptions) -> Router {
        self.group.options = options.or(self.group.options);
        self.rebuild();
        self
    }

    /// Adds all routes of `other` under the path `prefix`. The route `/` of `other` gets the path `prefix` itself. The
    /// prefix may have parameters, which handlers of `other` see. Handlers see the whole path in [`Request::path`].
    ///
    /// # Panics
    /// If `prefix` does not begin with a slash or ends with one, if two routers with a fallback are nested under
    /// prefixes that match the same paths, if `other` has a route for `*` or for `HOST:PORT`, or as [`Router::route`]
    /// does.
    #[track_caller]
    pub fn nest(mut self, prefix: &str, other: Router) -> Router {
        assert!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "the prefix {prefix:?} has to begin with a slash and must not end with one; `merge` adds routes without one"
        );
        if other.has_fallback {
            let fallback = other.fallback.clone().nested(&other.group).within(&self.group);
            self.add_nested_fallback(prefix.to_owned(), fallback);
        }
        self.adopt(prefix, other);
        self
    }

    /// Adds all routes of `other` at their own paths. They keep the middleware, states and options of `other`, inside
    /// those of this router.
    ///
    /// # Panics
    /// If both routers have a fallback, or as [`Router::route`] does.
    #[track_caller]
    pub fn merge(mut self, other: Router) -> Router {
        if other.has_fallback {
            assert!(!self.has_fallback, "two routers that both have a fallback cannot be merged");
            self.fallback = other.fallback.clone().nested(&other.group).within(&self.group);
            self.has_fallback = true;
        }
        self.adopt("", other);
        self
    }

    /// Adds the routes and nested fallbacks of `other`.
    #[track_caller]
    fn adopt(&mut self, prefix: &str, other: Router) {
        for fallback in other.nested_fallbacks {
            let endpoint = fallback.endpoint.nested(&other.group).within(&self.group);
            self.add_nested_fallback(format!("{prefix}{}", fallback.prefix), endpoint);
        }
        for route in other.routes {
            let is_path = prefix.is_empty() || route.path.starts_with('/');
            assert!(is_path, "the route {} cannot be nested under {prefix}: it is not a path", route.path);
            let path = match &*route.path {
                "/" if !prefix.is_empty() => prefix.to_owned(),
                path => format!("{prefix}{path}"),
            };
            let is_new = !self.routes.iter().any(|other| *other.path == *path);
            let group = &self.group;
            let adopted = |endpoint: Endpoint| endpoint.nested(&other.group).within(group);
            let endpoints = route.get.map(|get| (Some(Method::GET), get)).into_iter();
            let others = route.others.into_iter().map(|(method, endpoint)| (Some(method), endpoint));
            let any = route.any.map(|any| (None, any));
            let endpoints: Vec<_> = endpoints
                .chain(others)
                .chain(any)
                .map(|(method, endpoint)| (method, adopted(endpoint)))
                .collect();
            let unserved = adopted(route.unserved);
            let at = self.at(&path);
            for (method, endpoint) in endpoints {
                at.add(method, endpoint);
            }
            if is_new {
                (at.unserved, at.hook) = (unserved, route.hook);
                if let Some(hook) = self.method_not_allowed.clone() {
                    let group = &self.group;
                    self.routes.last_mut().expect("a route was just added").set_hook(&hook, group);
                }
            }
        }
    }

    /// Adds a fallback for `prefix` and for all paths under it.
    ///
    /// # Panics
    /// If `prefix` is malformed, or matches the same paths as that of another fallback.
    #[track_caller]
    fn add_nested_fallback(&mut self, prefix: String, endpoint: Endpoint) {
        let mut paths = matchit::Router::new();
        for path in [prefix.clone(), format!("{prefix}/"), format!("{prefix}/{{*{REST}}}")] {
            if let Err(error) = paths.insert(path, ()) {
                panic!("the fallback of the router under {prefix} cannot be added: {error}");
            }
        }
        let rank = rank(&prefix);
        let at = self.nested_fallbacks.partition_point(|other| self::rank(&other.prefix) < rank);
        if let Some(other) = self.nested_fallbacks.get(at) {
            let is_same = self::rank(&other.prefix) == rank;
            assert!(!is_same, "two routers under {} and {prefix} have a fallback", other.prefix);
        }
        let nested = NestedFallback { prefix: prefix.into(), paths, names: OnceLock::new(), endpoint };
        self.nested_fallbacks.insert(at, nested);
    }

    /// The path of each route and its methods as a value of `Allow`, in the order in which the routes were added.
    pub fn routes(&self) -> impl Iterator<Item = (&str, String)> {
        self.routes.iter().map(|route| (&*route.path, list(route.methods())))
    }

    /// The route of `path`, which is added if it does not exist.
    #[track_caller]
    fn at(&mut self, path: &str) -> &mut Route {
        if let Some(at) = self.routes.iter().position(|route| *route.path == *path) {
            return &mut self.routes[at];
        }
        check_path(path);
        if let Err(error) = self.paths.insert(path, self.routes.len()) {
            panic!("the route {path} cannot be added: {error}");
        }
        if !path.contains(['{', '}']) {
            self.fixed.insert(path.as_bytes().into(), self.routes.len());
        }
        let hook = Hook::default();
        let mut route = Route {
            path: path.into(),
            name: RouteName::new(path),
            names: OnceLock::new(),
            get: None,
            others: Vec::new(),
            any: None,
            unserved: Endpoint::new(Unserved(hook.clone())).within(&self.group),
            hook,
        };
        if let Some(hook) = &self.method_not_allowed {
            route.set_hook(hook, &self.group);
        }
        self.routes.push(route);
        self.routes.last_mut().expect("a route was just added")
    }

    /// Puts the group around all handlers again.
    fn rebuild(&mut self) {
        let routes = self.routes.iter_mut().flat_map(|route| {
            let others = route.others.iter_mut().map(|(_, endpoint)| endpoint);
            route.get.iter_mut().chain(others).chain(&mut route.any).chain([&mut route.unserved])
        });
        let fallbacks = self.nested_fallbacks.iter_mut().map(|nested| &mut nested.endpoint);
        for endpoint in routes.chain(fallbacks).chain([&mut self.fallback]) {
            endpoint.build(&self.group);
        }
    }
}

/// Checks a path for the mistakes that users of other routers make.
///
/// # Panics
/// If there is one. The message says what to write.
#[track_caller]
fn check_path(path: &str) {
    // `*` is the target of OPTIONS, and `HOST:PORT` that of CONNECT.
    let is_other_target =
        path == "*" || path.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    assert!(
        path.starts_with('/') || is_other_target,
        "the route {path:?} has to begin with a slash: \"/{path}\""
    );
    for segment in path.split('/') {
        let instead = match (segment.strip_prefix(':'), segment.strip_prefix('*')) {
            (Some(name), _) if !name.is_empty() => format!("{{{name}}}"),
            (_, Some(name)) if !name.is_empty() => format!("{{*{name}}}"),
            _ => continue,
        };
        panic!("the route {path:?} would match the text {segment:?}; the parameter is written {instead:?}");
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
            // Parameters of a router that calls this one as a handler belong to another path.
            request.inner_mut().params.clear();
            return self.routes[fixed].call(request, self);
        }
        let Ok(found) = self.paths.at(request.path()) else {
            return self.unrouted(request);
        };
        let route = &self.routes[*found.value];
        let (names, values) = params(&request, || found.params.iter(), &route.names);
        request.inner_mut().params.set(names, values.into_iter());
        route.call(request, self)
    }
}

/// The names of the parameters that a router has found, which are kept in `known`, and the spans of their values.
fn params<'p, I: Iterator<Item = (&'p str, &'p str)>>(
    request: &Request,
    found: impl Fn() -> I,
    known: &OnceLock<Arc<[Box<str>]>>,
) -> (Arc<[Box<str>]>, SmallVec<[Span; 8]>) {
    let names = known.get_or_init(|| found().map(|(name, _)| name.into()).collect());
    let head = &request.inner().head.bytes;
    (names.clone(), found().filter_map(|(_, value)| Span::within(head, value.as_bytes())).collect())
}

impl Router {
    /// Answers a request whose path has no route, including `OPTIONS *` and CONNECT.
    fn unrouted(&self, mut request: Request) -> Answer {
        let path = request.path();
        let nested =
            self.nested_fallbacks.iter().find_map(|nested| Some((nested, nested.paths.at(path).ok()?)));
        if let Some((nested, found)) = nested {
            let prefix = || found.params.iter().filter(|(name, _)| *name != REST);
            let (names, values) = params(&request, prefix, &nested.names);
            let parts = request.inner_mut();
            parts.params.set(names, values.into_iter());
            parts.prefix = nested.prefix.matches('/').count();
            return nested.endpoint.call(request);
        }
        request.inner_mut().params.clear();
        if !self.has_fallback {
            let unserved = match *request.method() {
                Method::OPTIONS if request.path() == "*" => {
                    let methods = self.routes.iter().flat_map(Route::methods);
                    WithoutHandler::allowing(
                        StatusCode::NO_CONTENT,
                        methods.filter(|method| *method != "OPTIONS"),
                    )
                }
                Method::CONNECT => WithoutHandler::of(StatusCode::NOT_IMPLEMENTED),
                _ => WithoutHandler::of(StatusCode::NOT_FOUND),
            };
            request.extensions_mut().insert(unserved);
        }
        self.fallback.call(request)
    }

    /// Whether `method` is known, so that a path without it is answered with 405.
    fn knows(&self, method: &Method) -> bool {
        KNOWN.contains(&method.as_str()) || self.routes.iter().any(|route| route.other(method).is_some())
    }
}

/// The order in which prefixes are tried: segment by segment, static ones before parameters, and longer prefixes before
/// their beginnings. Prefixes that differ only in the names of their parameters have the same rank.
fn rank(prefix: &str) -> Vec<(Kind, String)> {
    let segments = prefix.split('/').skip(1).map(|segment| {
        let mut text = String::new();
        let mut kind = Kind::Static;
        let mut chars = segment.chars().peekable();
        while let Some(char) = chars.next() {
            text.push(char);
            if char == '{' && chars.next_if_eq(&'{').is_none() {
                chars.by_ref().find(|char| *char == '}');
                kind = Kind::Mixed;
            }
        }
        (if text == "{" && kind == Kind::Mixed { Kind::Parameter } else { kind }, text)
    });
    segments.chain([(Kind::End, String::new())]).collect()
}

/// The kinds of segments in the order in which they are tried.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Static,
    /// Text and a parameter.
    Mixed,
    Parameter,
    /// No further segment.
    End,
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
    fn call(&self, mut request: Request, router: &Router) -> Answer {
        self.name.enter();
        routed(&request, self.name);
        request.inner_mut().route = self.name.index();
        match (&self.get, request.method()) {
            (Some(get), &Method::GET) => get.call(request),
            (Some(get), &Method::HEAD) => self.other(&Method::HEAD).unwrap_or(get).call(request),
            _ => self.call_other(request, router),
        }
    }

    fn call_other(&self, mut request: Request, router: &Router) -> Answer {
        if let Some(endpoint) = self.other(request.method()).or(self.any.as_ref()) {
            return endpoint.call(request);
        }
        let unserved = match request.method() {
            &Method::OPTIONS => WithoutHandler::allowing(StatusCode::NO_CONTENT, self.methods()),
            method if router.knows(method) => {
                WithoutHandler::allowing(StatusCode::METHOD_NOT_ALLOWED, self.methods())
            }
            _ => WithoutHandler::of(StatusCode::NOT_IMPLEMENTED),
        };
        request.extensions_mut().insert(unserved);
        self.unserved.call(request)
    }

    /// Adds a handler for a method, or for all other methods.
    ///
    /// # Panics
    /// If there is one.
    #[track_caller]
    fn add(&mut self, method: Option<Method>, endpoint: Endpoint) {
        let name = method.clone();
        let is_taken = match method {
            Some(Method::GET) => self.get.replace(endpoint).is_some(),
            Some(method) => {
                let is_taken = self.other(&method).is_some();
                self.others.push((method, endpoint));
                is_taken
            }
            None => self.any.replace(endpoint).is_some(),
        };
        let name = name.as_ref().map_or("any method", Method::as_str);
        assert!(!is_taken, "the route {} has a handler for {name} already", self.path);
    }

    /// Sets the hook, unless the route has one. It runs within the middleware of the routers around the route.
    fn set_hook(&mut self, hook: &Arc<dyn Handler>, group: &Group) {
        if self.hook.set(hook.clone()).is_ok() {
            self.unserved.prefer(hook.options(), group);
        }
    }

    /// The handler of a method other than GET.
    fn other(&self, method: &Method) -> Option<&Endpoint> {
        self.others.iter().find(|(other, _)| other == method).map(|(_, endpoint)| endpoint)
    }

    /// The methods that have a handler. HEAD is there twice if it has its own beside that of GET.
    fn methods(&self) -> impl Iterator<Item = &str> {
        let get = self.get.iter().flat_map(|_| ["GET", "HEAD"]);
        get.chain(self.others.iter().map(|(method, _)| method.as_str()))
    }
}

impl Request {
    /// Returns the path of the route that the router has chosen, such as `/users/{id}`. `None` if no route has the
    /// path. Middleware uses it to group requests, for example for metrics.
    pub fn route(&self) -> Option<&'static str> {
        RouteName::from_index(self.inner().route).route()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes()).finish()
    }
}
