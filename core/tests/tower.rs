//! Services and layers of tower, without a server: what passes through the types of the `http` crate.
#![cfg(feature = "tower")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_lite::future::block_on;
use gearshift_core::middleware::from_sync;
use gearshift_core::tower::{HandlerService, service};
use gearshift_core::{
    Answer, Body, BoxError, Bytes, Handler, HeaderValue, Method, OnDisconnect, Request, RequestContext,
    Response, Router, StatusCode, http, on_disconnect, sync,
};
use http_body_util::Full;
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

fn said(handler: &impl Handler, method: Method, path: &str) -> (u16, String) {
    let response = block_on(handler.call(Request::new(method, path, ())).response());
    let status = response.status().as_u16();
    let body = block_on(response.into_body().bytes(1000)).expect("it is in memory");
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A service that answers with what a function says of the request, with a body of another type.
#[derive(Clone)]
struct Says(fn(&http::Request<Body>) -> Result<String, BoxError>);

impl Service<http::Request<Body>> for Says {
    type Response = http::Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        ready((self.0)(&request).map(|text| http::Response::new(text.into())))
    }
}

#[test]
fn a_service_is_a_handler() {
    let router = Router::new()
        .get("/{name}", service(Says(|request| Ok(format!("{} {}", request.method(), request.uri())))))
        .fallback(service(Says(|_| Err("it is broken".into()))));
    assert_eq!(said(&router, Method::GET, "/x?y=z"), (200, "GET /x?y=z".into()));
    assert_eq!(said(&router, Method::GET, "/x/y"), (500, "Internal Server Error".into()));
}

#[test]
fn a_router_behind_a_layer_finds_its_parameters_in_the_request_that_it_gets() {
    let inner = || {
        Router::new()
            .get("/fixed", sync(|_| "fixed"))
            .get(
                "/users/{id}",
                sync(|request: Request| request.param("id").expect("a parameter").into_owned()),
            )
            .fallback(sync(|request: Request| format!("{:?}", request.param("rest"))))
    };
    let router = Router::new().any("/{*rest}", inner()).layer(layer_fn(|service: HandlerService| service));
    let plain = inner();
    for _ in 0..2 {
        assert_eq!(said(&router, Method::GET, "/users/alice"), (200, "alice".into()));
        assert_eq!(said(&router, Method::GET, "/a/long/path/that/has/no/route"), (200, "None".into()));
        // The parts of this request are used again for the next one.
        assert_eq!(said(&router, Method::GET, "/fixed"), (200, "fixed".into()));
        assert_eq!(said(&plain, Method::GET, "/users/bob"), (200, "bob".into()));
    }
}

#[test]
fn a_nested_service_sees_the_path_without_its_prefix() {
    let paths = service_of_paths;
    let router = Router::new()
        .nest_service("/files", paths())
        .nest("/in/{id}", Router::new().nest_service("/deep", paths()))
        .get("/files/own", sync(|_| "own"));
    for (path, expected) in [
        ("/files", "/"),
        ("/files?q", "/?q"),
        ("/files/", "/"),
        ("/files/a/b%20c?q", "/a/b%20c?q"),
        ("/files//a", "//a"),
        ("/in/1/deep/x", "/x"),
        ("/in/1/deep", "/"),
        ("http://host/files/a?q", "http://host/a?q"),
        ("/files/own", "own"),
    ] {
        assert_eq!(said(&router, Method::GET, path), (200, expected.to_owned()), "{path}");
    }
    assert_eq!(said(&router, Method::GET, "/filesystem").0, 404);
}

fn service_of_paths() -> Says {
    Says(|request| Ok(request.uri().to_string()))
}

/// A layer that counts the requests of its services, and adds a field to the responses.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, count: self.0.clone() }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    count: Arc<AtomicUsize>,
}

type Answering<B> = Pin<Box<dyn Future<Output = Result<http::Response<B>, Infallible>> + Send>>;

impl<S, B> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<B>;
    type Error = Infallible;
    type Future = Answering<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.count.fetch_add(1, Ordering::SeqCst);
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            response.headers_mut().insert("x-counted", HeaderValue::from_static("yes"));
            Ok(response)
        })
    }
}

#[test]
fn a_layer_is_a_middleware_that_keeps_what_a_request_and_a_response_have() {
    let counting = Counting::default();
    fn show(request: Request) -> String {
        let id = request.param("id").map(|id| id.into_owned());
        let state = request.try_state::<u8>().map(|state| *state);
        let value = request.extensions().get::<u16>().copied();
        format!("{id:?} {state:?} {:?} {value:?}", request.route())
    }
    let later = on_disconnect(OnDisconnect::Detach, async |request: Request| show(request));
    let router = Router::new()
        .wrap(from_sync(|mut request, next| {
            request.extensions_mut().insert(3_u16);
            next.call(request)
        }))
        .layer(counting.clone())
        .layer(layer_fn(|inner| inner))
        .with_state(7_u8)
        .get("/sync/{id}", sync(show))
        .get("/later/{id}", later)
        .get("/upgrade", sync(|_| Response::upgrade(HeaderValue::from_static("echo"), async |_| {})));
    for path in ["/sync", "/later"] {
        let expected = format!("Some(\"a b\") Some(7) Some(\"{path}/{{id}}\") Some(3)");
        assert_eq!(said(&router, Method::GET, &format!("{path}/a%20b")), (200, expected));
    }
    assert_eq!(said(&router, Method::GET, "/none").0, 404);
    assert_eq!(counting.0.load(Ordering::SeqCst), 3, "the layer is also around responses without a handler");
    match router.call(Request::new(Method::GET, "/later/1", ())) {
        Answer::Later(_, options) => assert_eq!(options.on_disconnect, Some(OnDisconnect::Detach)),
        ready => panic!("{ready:?}"),
    }
    let response = block_on(router.call(Request::new(Method::GET, "/upgrade", ())).response());
    assert!(format!("{response:?}").contains("upgrade: true"), "{response:?}");
}

#[test]
fn a_handler_is_a_service_for_requests_with_any_body() {
    let echo = Router::new().post("/", sync(Request::into_body)).get("/", async |_: Request| "later");
    let mut service = HandlerService::new(echo);
    let request = http::Request::post("/").body(Full::new(Bytes::from_static(b"body"))).expect("a request");
    let response = block_on(service.call(request)).expect("it never fails");
    assert_eq!(block_on(response.into_body().bytes(10)).expect("it is in memory"), "body");
    let request = http::Request::get("/").body(Body::empty()).expect("a request");
    assert_eq!(block_on(service.call(request)).expect("it never fails").status(), StatusCode::OK);
    let large =
        http::Request::get("/").header("x", "y".repeat(70_000)).body(Body::empty()).expect("a request");
    assert_eq!(block_on(service.call(large)).expect("it never fails").status(), 431);
}

#[test]
fn a_request_made_elsewhere_has_no_context() {
    let request = http::Request::get("/").body(Body::empty()).expect("a request");
    assert!(RequestContext::of(request.extensions()).is_none());
    let request = Request::from_http(request).expect("a small one").into_http().expect("a target");
    let context = RequestContext::of(request.extensions()).expect("it was converted");
    assert!(
        context.peer().is_none() && context.runtime().is_none() && !context.cancel_token().is_cancelled()
    );
}
