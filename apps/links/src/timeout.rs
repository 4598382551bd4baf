//! A layer of tower-http that uses a timer of tokio.

use std::time::Duration;

use gearshift::{Router, StatusCode};
use tower_http::timeout::TimeoutLayer;

pub(crate) fn layer(router: Router) -> Router {
    router.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)))
}
