//! Responses to requests for which a router has no handler.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::conn::handler::{Answer, Handler, RouteOptions};
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::web::router::list;

/// The response to a request without a handler. The router adds it to the extensions of the request, which then passes
/// through the middleware.
#[derive(Clone)]
pub(super) struct WithoutHandler {
    status: StatusCode,
    /// The value of `Allow`.
    allow: Option<HeaderValue>,
}

impl WithoutHandler {
    pub(super) fn of(status: StatusCode) -> WithoutHandler {
        WithoutHandler { status, allow: None }
    }

    /// With an `Allow` that lists `methods`.
    pub(super) fn allowing<'a>(status: StatusCode, methods: impl Iterator<Item = &'a str>) -> WithoutHandler {
        let allow = HeaderValue::try_from(list(methods)).expect("method names are valid field values");
        WithoutHandler { status, allow: Some(allow) }
    }

    /// Completes a response: status 200 becomes the status of the request, and `Allow` is added if it is missing.
    fn complete(self, response: Response) -> Response {
        let response = match response.status() {
            StatusCode::OK => response.with_status(self.status),
            _ => response,
        };
        match self.allow {
            Some(allow) if response.header(header::ALLOW).is_none() => {
                response.with_header(header::ALLOW, allow)
            }
            _ => response,
        }
    }
}

/// A handler of the application that may be set after the middleware was put around it.
pub(super) type Hook = Arc<OnceLock<Arc<dyn Handler>>>;

/// The handler of requests without a handler. It calls the application's handler, if there is one, in place of a 405.
pub(super) struct Unserved(pub(super) Hook);

impl Handler for Unserved {
    fn call(&self, mut request: Request) -> Answer {
        let without = request.extensions_mut().remove::<WithoutHandler>();
        let without = without.unwrap_or(WithoutHandler::of(StatusCode::NOT_FOUND));
        match self.0.get() {
            Some(hook) if without.status == StatusCode::METHOD_NOT_ALLOWED => {
                hook.call(request).map(|response| without.complete(response))
            }
            _ => {
                let response = without.status.into_response();
                without.complete(response).into()
            }
        }
    }
}

/// The fallback of [`Router::not_found`](crate::Router::not_found).
pub(super) struct NotFound<H>(pub(super) H);

impl<H: Handler> Handler for NotFound<H> {
    fn call(&self, request: Request) -> Answer {
        let without = WithoutHandler::of(StatusCode::NOT_FOUND);
        self.0.call(request).map(|response| without.complete(response))
    }

    fn options(&self) -> RouteOptions {
        self.0.options()
    }
}
