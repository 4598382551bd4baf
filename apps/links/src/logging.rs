//! A line of the log for each response, with the identifier of the request.

use gearshift::{Body, Router, http};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::{Level, info_span};

pub(crate) fn layer(router: Router) -> Router {
    let span = |request: &http::Request<Body>| {
        let id = request.headers().get("x-request-id");
        info_span!("request", method = %request.method(), uri = %request.uri(), ?id)
    };
    let done = DefaultOnResponse::new().level(Level::INFO);
    router.layer(TraceLayer::new_for_http().make_span_with(span).on_response(done))
}
