//! Responses are compressed.

use axum::Router;
use tower_http::compression::CompressionLayer;

use crate::state::Links;

pub(crate) fn layer(router: Router<Links>) -> Router<Links> {
    router.layer(CompressionLayer::new())
}
