//! A call to another service, which knows the titles of pages.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::get;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/title/{name}", get(title))
}

async fn title(State(links): State<Links>, Path(name): Path<String>) -> Result<String> {
    let link = links.store.get(&name).ok_or(StatusCode::NOT_FOUND)?;
    let call = async { links.client.post(&links.titles).body(link.url).send().await?.text().await };
    Ok(call.await.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?)
}
