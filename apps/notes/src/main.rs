//! Notes in a database: an application as programs mostly are, on any backend.
//!
//! `cargo run --release -p notes -- --backend mio`, then <http://127.0.0.1:8000>; with
//! `--database postgres://USER@HOST/NAME` in PostgreSQL instead of a file. The handlers know neither which backend
//! nor which database they are on.

mod ask;
mod pages;
mod pool;
mod postgres;
mod server;
mod sqlite;
mod steps;
mod store;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use gearshift::{App, IntoResponse, Request, Response, Router, StatusCode, cli, sync};

use ask::{Db, Refusal, draft, form, gone, json, page, search, see_other};

/// Notes, as pages and as JSON.
#[derive(clap::Parser)]
#[command(version)]
struct Program {
    #[command(flatten)]
    settings: cli::Settings,

    /// A file, made if it is not there, or postgres://USER@HOST:PORT/NAME
    #[arg(long, value_name = "FILE|URL", env = "NOTES_DATABASE", default_value = "notes.db")]
    database: String,
}

fn main() -> ExitCode {
    match cli::parse::<Program>() {
        Ok(program) => cli::serve(&program.settings, app(program.database)),
        Err(status) => status,
    }
}

/// Opens the database before the first request is served, and closes it after the last: a connection is a
/// background task, and a server that stops waits for those.
fn app(database: String) -> App {
    let opened = Arc::new(OnceLock::<Db>::new());
    let closing = opened.clone();
    App::start(move |runtime| async move {
        let store = store::open(runtime, &database).await?;
        Ok(routes(opened.get_or_init(|| store)))
    })
    .on_stop(move || async move {
        if let Some(store) = closing.get() {
            store.close();
        }
    })
}

fn routes(db: &Db) -> Router {
    let style = || Response::new(pages::STYLE).with_header("Content-Type", "text/css; charset=utf-8");
    Router::new()
        .get("/style.css", sync(move |_| style()))
        .get("/", page(db, list))
        .post("/notes", page(db, add))
        .get("/notes/{id}", page(db, show))
        .post("/notes/{id}", page(db, edit))
        .post("/notes/{id}/delete", page(db, delete))
        .get("/api/notes", json(db, api_list))
        .post("/api/notes", json(db, api_add))
        .get("/api/notes/{id}", json(db, api_note))
        .put("/api/notes/{id}", json(db, api_edit))
        .delete("/api/notes/{id}", json(db, api_delete))
        .get("/api/notes/{id}/history", json(db, api_history))
}

async fn list(db: Db, request: Request) -> Result<Response, Refusal> {
    let search = search(&request)?;
    Ok(pages::list(&db.search(&search).await?, &search))
}

async fn show(db: Db, request: Request) -> Result<Response, Refusal> {
    let id = request.parse_param("id")?;
    let note = db.note(id).await?.ok_or_else(gone)?;
    Ok(pages::note(&note, &db.history(id).await?))
}

async fn add(db: Db, request: Request) -> Result<Response, Refusal> {
    let draft = form(request).await?;
    match draft.fault() {
        Some(fault) => Ok(pages::again("/notes", &draft, fault)),
        None => Ok(see_other(&format!("/notes/{}", db.add(draft).await?.id))),
    }
}

async fn edit(db: Db, request: Request) -> Result<Response, Refusal> {
    let id: i64 = request.parse_param("id")?;
    let draft = form(request).await?;
    let path = format!("/notes/{id}");
    match draft.fault() {
        Some(fault) => Ok(pages::again(&path, &draft, fault)),
        None => db.edit(id, draft).await?.map(|_| see_other(&path)).ok_or_else(gone),
    }
}

async fn delete(db: Db, request: Request) -> Result<Response, Refusal> {
    let id = request.parse_param("id")?;
    form(request).await?;
    if db.delete(id).await? { Ok(see_other("/")) } else { Err(gone()) }
}

async fn api_list(db: Db, request: Request) -> Result<Response, Refusal> {
    Ok(Response::json(&db.search(&search(&request)?).await?))
}

async fn api_note(db: Db, request: Request) -> Result<Response, Refusal> {
    Ok(Response::json(&db.note(request.parse_param("id")?).await?.ok_or_else(gone)?))
}

async fn api_history(db: Db, request: Request) -> Result<Response, Refusal> {
    let history = db.history(request.parse_param("id")?).await?;
    if history.is_empty() { Err(gone()) } else { Ok(Response::json(&history)) }
}

async fn api_add(db: Db, request: Request) -> Result<Response, Refusal> {
    let note = db.add(draft(request).await?).await?;
    let location = format!("/api/notes/{}", note.id);
    Ok(Response::json(&note).with_status(StatusCode::CREATED).with_header("Location", &location))
}

async fn api_edit(db: Db, request: Request) -> Result<Response, Refusal> {
    let id = request.parse_param("id")?;
    Ok(Response::json(&db.edit(id, draft(request).await?).await?.ok_or_else(gone)?))
}

async fn api_delete(db: Db, request: Request) -> Result<Response, Refusal> {
    if db.delete(request.parse_param("id")?).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(gone())
    }
}
