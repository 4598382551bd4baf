//! Static files.

use axum::Router;
use tower_http::services::ServeDir;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().nest_service("/static", ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static")))
}
