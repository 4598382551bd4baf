//! A call to another service, which knows the titles of pages.

use async_compat::CompatExt;
use gearshift::{Refusal, Request, Router, StatusCode};

use crate::state::Links;

pub(crate) fn routes() -> Router {
    Router::new().get("/title/{name}", title)
}

async fn title(request: Request) -> Result<String, Refusal> {
    let links = request.state::<Links>();
    let link = links.store.get(&request.param("name").unwrap_or_default()).ok_or(StatusCode::NOT_FOUND)?;
    let call = async { links.client.post(&links.titles).body(link.url).send().await?.text().await };
    call.compat().await.map_err(|error| Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()))
}
