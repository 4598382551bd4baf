//! A layer of tower-http that uses a timer of tokio.

use axum::Router;
use axum::http::StatusCode;
use tower_http::timeout::TimeoutLayer;

use crate::state::Links;

pub(crate) fn layer(router: Router<Links>, links: &Links) -> Router<Links> {
    router.layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, links.timeout))
}
