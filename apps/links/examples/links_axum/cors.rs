//! Pages of other sites may call the API.

use axum::Router;
use tower_http::cors::CorsLayer;

use crate::state::Links;

pub(crate) fn layer(router: Router<Links>) -> Router<Links> {
    router.layer(CorsLayer::permissive())
}
