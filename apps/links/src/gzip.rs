//! Responses are compressed.

use gearshift::Router;
use tower_http::compression::CompressionLayer;

pub(crate) fn layer(router: Router) -> Router {
    router.layer(CompressionLayer::new())
}
