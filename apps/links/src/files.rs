//! Uploads, and downloads with ranges.

use std::path::Path;

use async_fs::File;
use futures_lite::AsyncWriteExt;
use gearshift::{Refusal, Request, Router, StatusCode};
use tower_http::services::ServeDir;

use crate::state::Links;

pub(crate) fn routes(links: &Links) -> Router {
    Router::new().post("/upload", upload).nest_service("/files", ServeDir::new(&links.files))
}

async fn upload(request: Request) -> Result<StatusCode, Refusal> {
    let links = request.state::<Links>();
    let mut form = request.multipart()?;
    while let Some(mut field) = form.next_field().await? {
        let name = field.file_name().and_then(|name| Path::new(name).file_name());
        let path = links.files.join(name.ok_or(StatusCode::BAD_REQUEST)?);
        let mut file = File::create(path).await?;
        while let Some(chunk) = field.chunk().await? {
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
    }
    Ok(StatusCode::CREATED)
}
