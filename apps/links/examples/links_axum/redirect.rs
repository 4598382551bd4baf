//! A short link leads to its URL.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/go/{name}", get(go))
}

async fn go(State(links): State<Links>, Path(name): Path<String>) -> Result<Redirect, StatusCode> {
    let link = links.store.get(&name).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Redirect::temporary(&link.url))
}
