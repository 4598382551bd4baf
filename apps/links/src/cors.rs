//! Pages of other sites may call the API.

use gearshift::Router;
use tower_http::cors::CorsLayer;

pub(crate) fn layer(router: Router) -> Router {
    router.layer(CorsLayer::permissive())
}
