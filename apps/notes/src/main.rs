//! Notes in a database, as pages and as JSON, on any backend.
//!
//! `cargo run --release -p notes -- --backend mio`, then <http://127.0.0.1:8000>. The notes are in a SQLite file; with
//! `--database postgres://USER@HOST/NAME` they are in PostgreSQL. The handlers are the same on every backend, for both
//! databases, and for both formats.

mod database;
mod notes;
mod postgres;
mod sqlite;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use askama::Template;
use gearshift::{App, Handler, IntoResponse, Refusal, Request, Response, Router, StatusCode, cli, sync};

use database::{Database, Options};
use notes::{Draft, Note};

/// Limit of a request body in bytes. A note of the largest size fits, even if every byte of it is percent-encoded.
const MAX_BODY: usize = 256 * 1024;
/// Limits what a browser does with a page, in case text of a note is ever taken for markup (CSP Level 3).
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Notes in a database, as pages and as JSON
#[derive(clap::Parser)]
#[command(version)]
struct Program {
    #[command(flatten)]
    settings: cli::Settings,

    /// SQLite file, created if missing, or postgres://USER:PASSWORD@HOST:PORT/NAME
    #[arg(long, value_name = "FILE|URL", env = "NOTES_DATABASE", default_value = "notes.db")]
    database: String,

    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match cli::parse::<Program>() {
        Ok(program) => cli::serve(&program.settings, app(program.database, program.options)),
        Err(status) => status,
    }
}

/// Opens the database before the first request is served. It is closed when the last request has ended, because a
/// connection to PostgreSQL is a background task, and a server that stops waits for its background tasks.
fn app(location: String, options: Options) -> App {
    let opened = Arc::new(OnceLock::<Database>::new());
    let closing = opened.clone();
    let start = async move |runtime| {
        let database = Database::open(&runtime, &location, options).await?;
        Ok(routes(opened.get_or_init(|| database)))
    };
    App::start(start).on_stop(async move || {
        if let Some(database) = closing.get() {
            database.close().await;
        }
    })
}

fn routes(db: &Database) -> Router {
    let style = include_str!("../templates/style.css");
    let style = move |_| Response::new(style).with_header("Content-Type", "text/css; charset=utf-8");
    Router::new()
        .get("/style.css", sync(style))
        .get("/", handler(db, list, page))
        .post("/notes", handler(db, save, page))
        .get("/notes/{id}", handler(db, history, page))
        .post("/notes/{id}", handler(db, save, page))
        .post("/notes/{id}/delete", handler(db, delete, page))
        .get("/api/notes", handler(db, list, json))
        .post("/api/notes", handler(db, save, json))
        .get("/api/notes/{id}", handler(db, note, json))
        .put("/api/notes/{id}", handler(db, save, json))
        .delete("/api/notes/{id}", handler(db, delete, json))
        .get("/api/notes/{id}/history", handler(db, history, json))
}

/// The outcome of a request, before it becomes a page or JSON.
#[derive(Template)]
#[template(path = "page.html")]
enum Outcome {
    Notes {
        search: String,
        notes: Vec<Note>,
    },
    Note(Note),
    /// Revisions of a note, the latest first; at least one.
    History(Vec<Note>),
    Added(Note),
    Deleted,
    /// A draft that breaks a rule is returned with the path that it was sent to, so that it can be corrected.
    Refused {
        refusal: Refusal,
        draft: Option<(String, Draft)>,
    },
}

/// Makes a handler that runs `action` and renders its outcome.
fn handler<A, F>(db: &Database, action: A, render: fn(Outcome) -> Response) -> impl Handler + use<A, F>
where
    A: Fn(Database, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Outcome, Refusal>> + Send + 'static,
{
    let db = db.clone();
    move |request| {
        let outcome = action(db.clone(), request);
        async move { render(outcome.await.unwrap_or_else(|refusal| Outcome::Refused { refusal, draft: None })) }
    }
}

async fn list(db: Database, request: Request) -> Result<Outcome, Refusal> {
    let search = request.query_param("q").unwrap_or_default().into_owned();
    if search.contains('\0') {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "text has no NUL"));
    }
    let notes = db.select(notes::SEARCH, notes::containing(&search)).await?;
    Ok(Outcome::Notes { search, notes })
}

async fn note(db: Database, request: Request) -> Result<Outcome, Refusal> {
    let note = db.select(notes::NOTE, request.parse_param::<i64>("id")?).await?.pop();
    note.map(Outcome::Note).ok_or_else(not_found)
}

async fn history(db: Database, request: Request) -> Result<Outcome, Refusal> {
    let history = db.select(notes::HISTORY, request.parse_param::<i64>("id")?).await?;
    if history.is_empty() { Err(not_found()) } else { Ok(Outcome::History(history)) }
}

/// Adds a note, or edits the note whose id is in the path.
async fn save(db: Database, request: Request) -> Result<Outcome, Refusal> {
    request.check_site()?;
    let path = request.path().to_owned();
    let id = request.param("id").map(|_| request.parse_param("id")).transpose()?;
    let mut draft: Draft = request.with_body_limit(MAX_BODY).json_or_form().await?;
    // A form sends each line break as CRLF (HTML, 4.10.22.4).
    draft.body = draft.body.replace("\r\n", "\n");
    if let Some(fault) = draft.fault() {
        let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, fault);
        return Ok(Outcome::Refused { refusal, draft: Some((path, draft)) });
    }
    draft.title = draft.title.trim().to_owned();
    let note = db.save(id, draft).await?.ok_or_else(not_found)?;
    Ok(if id.is_none() { Outcome::Added(note) } else { Outcome::Note(note) })
}

async fn delete(db: Database, request: Request) -> Result<Outcome, Refusal> {
    request.check_site()?;
    if db.delete(request.parse_param("id")?).await? { Ok(Outcome::Deleted) } else { Err(not_found()) }
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such note")
}

/// Renders an outcome as a page that works without scripts. A form that succeeded is answered with a redirect
/// (RFC 9110, 15.4.4), so that reloading the page does not send the form again.
fn page(outcome: Outcome) -> Response {
    let status = match &outcome {
        Outcome::Note(note) | Outcome::Added(note) => {
            return Response::redirect(format!("/notes/{}", note.id));
        }
        Outcome::Deleted => return Response::redirect("/"),
        Outcome::Refused { refusal, .. } => refusal.status(),
        Outcome::Notes { .. } | Outcome::History(_) => StatusCode::OK,
    };
    Response::html(outcome.to_string())
        .with_status(status)
        .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
}

/// Renders an outcome as JSON.
fn json(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Notes { notes, .. } | Outcome::History(notes) => Response::json(&notes),
        Outcome::Note(note) => Response::json(&note),
        Outcome::Added(note) => {
            let location = format!("/api/notes/{}", note.id);
            Response::json(&note).with_status(StatusCode::CREATED).with_header("Location", location)
        }
        Outcome::Deleted => StatusCode::NO_CONTENT.into_response(),
        Outcome::Refused { refusal, .. } => {
            Response::json(&serde_json::json!({ "error": refusal.why() })).with_status(refusal.status())
        }
    }
}
