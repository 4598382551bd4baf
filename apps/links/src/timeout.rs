//! A layer of tower-http that uses a timer of tokio.

use gearshift::{Router, StatusCode};
use tower_http::timeout::TimeoutLayer;

use crate::state::Links;

pub(crate) fn layer(router: Router, links: &Links) -> Router {
    router.layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, links.timeout))
}
