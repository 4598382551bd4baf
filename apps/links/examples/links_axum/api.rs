//! The JSON API, and the type of its errors.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use links::store::Link;
use serde_json::json;
use thiserror::Error;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/links", post(create)).route("/links/{name}", get(read).delete(remove))
}

#[derive(Debug, Error)]
enum Error {
    #[error("there is no link with this name")]
    Missing,
    #[error("the name is taken")]
    Taken,
    #[error("{}", .0.body_text())]
    Invalid(#[from] JsonRejection),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::Missing => StatusCode::NOT_FOUND,
            Error::Taken => StatusCode::CONFLICT,
            Error::Invalid(rejection) => rejection.status(),
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

async fn create(
    State(links): State<Links>,
    link: Result<Json<Link>, JsonRejection>,
) -> Result<(StatusCode, Json<Link>), Error> {
    let link = links.store.add(link?.0).ok_or(Error::Taken)?;
    Ok((StatusCode::CREATED, Json(link)))
}

async fn read(State(links): State<Links>, Path(name): Path<String>) -> Result<Json<Link>, Error> {
    links.store.get(&name).map(Json).ok_or(Error::Missing)
}

async fn remove(State(links): State<Links>, Path(name): Path<String>) -> Result<StatusCode, Error> {
    links.store.remove(&name).ok_or(Error::Missing)?;
    Ok(StatusCode::NO_CONTENT)
}
