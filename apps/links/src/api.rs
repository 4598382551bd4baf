//! The JSON API, and the type of its errors.

use gearshift::{IntoResponse, Json, Refusal, Request, Response, Router, StatusCode, sync};
use serde_json::json;
use thiserror::Error;

use crate::state::Links;
use crate::store::Link;

pub(crate) fn routes() -> Router {
    Router::new()
        .post("/links", create)
        .get("/links/{name}", sync(read))
        .delete("/links/{name}", sync(remove))
}

#[derive(Debug, Error)]
enum Error {
    #[error("there is no link with this name")]
    Missing,
    #[error("the name is taken")]
    Taken,
    #[error("{}", .0.why())]
    Invalid(#[from] Refusal),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::Missing => StatusCode::NOT_FOUND,
            Error::Taken => StatusCode::CONFLICT,
            Error::Invalid(refusal) => refusal.status(),
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

async fn create(request: Request) -> Result<(StatusCode, Json<Link>), Error> {
    let links = request.state::<Links>();
    let link = links.store.add(request.json().await?).ok_or(Error::Taken)?;
    Ok((StatusCode::CREATED, Json(link)))
}

fn read(request: Request) -> Result<Json<Link>, Error> {
    let name = request.param("name").unwrap_or_default();
    request.state::<Links>().store.get(&name).map(Json).ok_or(Error::Missing)
}

fn remove(request: Request) -> Result<StatusCode, Error> {
    let name = request.param("name").unwrap_or_default();
    request.state::<Links>().store.remove(&name).ok_or(Error::Missing)?;
    Ok(StatusCode::NO_CONTENT)
}
