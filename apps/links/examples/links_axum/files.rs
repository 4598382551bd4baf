//! Uploads, and downloads with ranges.

use std::io;
use std::path::Path;

use axum::Router;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tower_http::services::ServeDir;

use crate::state::Links;

pub(crate) fn routes(links: &Links) -> Router<Links> {
    Router::new().route("/upload", post(upload)).nest_service("/files", ServeDir::new(&links.files))
}

async fn upload(State(links): State<Links>, mut form: Multipart) -> Result<StatusCode> {
    while let Some(mut field) = form.next_field().await? {
        let name = field.file_name().and_then(|name| Path::new(name).file_name());
        let path = links.files.join(name.ok_or(StatusCode::BAD_REQUEST)?);
        let mut file = File::create(path).await.map_err(failed)?;
        while let Some(chunk) = field.chunk().await? {
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
    }
    Ok(StatusCode::CREATED)
}

fn failed(error: io::Error) -> StatusCode {
    tracing::error!("the upload failed: {error}");
    StatusCode::INTERNAL_SERVER_ERROR
}
