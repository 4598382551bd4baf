//! Static files.

use gearshift::Router;
use tower_http::services::ServeDir;

pub(crate) fn routes() -> Router {
    Router::new().nest_service("/static", ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static")))
}
