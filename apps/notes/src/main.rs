//! Notes in a database: an application as programs mostly are, on any backend.
//!
//! `cargo run --release -p notes -- --backend mio`, then <http://127.0.0.1:8000>; with
//! `--database postgres://USER@HOST/NAME` in PostgreSQL instead of a file. The handlers know neither which backend
//! nor which database they are on, nor whether what they say will be a page or JSON.

mod notes;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use askama::Template;
use gearshift::{App, Handler, IntoResponse, Refusal, Request, Response, Router, StatusCode, cli, sync};
use gearshift_sql::{Database, Options};

use notes::{Draft, Note};

/// Bytes of a body: a note of the largest size, each byte of it percent-encoded, fits.
const LARGEST: usize = 256 * 1024;
/// What a browser may do with a page, should a note ever be taken for markup (CSP Level 3).
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

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
    let opened = Arc::new(OnceLock::<Database>::new());
    let closing = opened.clone();
    let start = async move |runtime| {
        let db = Database::open(&runtime, &database, notes::MIGRATIONS, Options::default()).await?;
        Ok(routes(opened.get_or_init(|| db)))
    };
    App::start(start).on_stop(async move || closing.get().into_iter().for_each(Database::close))
}

fn routes(db: &Database) -> Router {
    let style = include_str!("../templates/style.css");
    let style = move |_| Response::new(style).with_header("Content-Type", "text/css; charset=utf-8");
    Router::new()
        .get("/style.css", sync(style))
        .get("/", said(db, list, page))
        .post("/notes", said(db, save, page))
        .get("/notes/{id}", said(db, history, page))
        .post("/notes/{id}", said(db, save, page))
        .post("/notes/{id}/delete", said(db, delete, page))
        .get("/api/notes", said(db, list, json))
        .post("/api/notes", said(db, save, json))
        .get("/api/notes/{id}", said(db, note, json))
        .put("/api/notes/{id}", said(db, save, json))
        .delete("/api/notes/{id}", said(db, delete, json))
        .get("/api/notes/{id}/history", said(db, history, json))
}

/// What there is to say to a request.
#[derive(Template)]
#[template(path = "page.html")]
enum Said {
    Notes(String, Vec<Note>),
    Note(Note),
    History(Vec<Note>),
    Added(Note),
    Deleted,
    /// With the draft, and where it was sent, if that is what is wrong.
    Refused(Refusal, Option<(String, Draft)>),
}

/// A handler that does `work` and says the outcome as `say` does.
fn said<F, R>(db: &Database, work: F, say: fn(Said) -> Response) -> impl Handler + use<F, R>
where
    F: Fn(Database, Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Said, Refusal>> + Send + 'static,
{
    let db = db.clone();
    move |request| {
        let outcome = work(db.clone(), request);
        async move { say(outcome.await.unwrap_or_else(|refusal| Said::Refused(refusal, None))) }
    }
}

async fn list(db: Database, request: Request) -> Result<Said, Refusal> {
    let search = request.query_param("q").unwrap_or_default().into_owned();
    if search.contains('\0') {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "text has no NUL"));
    }
    let notes = db.query(notes::SEARCH, [notes::containing(&search)]).await?;
    Ok(Said::Notes(search, notes))
}

async fn note(db: Database, request: Request) -> Result<Said, Refusal> {
    let note = db.query(notes::NOTE, [request.parse_param::<i64>("id")?.into()]).await?.pop();
    note.map(Said::Note).ok_or_else(gone)
}

async fn history(db: Database, request: Request) -> Result<Said, Refusal> {
    let history: Vec<_> = db.query(notes::HISTORY, [request.parse_param::<i64>("id")?.into()]).await?;
    if history.is_empty() { Err(gone()) } else { Ok(Said::History(history)) }
}

/// Adds a note, or edits the one whose id is in the path.
async fn save(db: Database, request: Request) -> Result<Said, Refusal> {
    request.check_site()?;
    let path = request.path().to_owned();
    let id = request.param("id").map(|_| request.parse_param("id")).transpose()?;
    let mut draft: Draft = request.json_or_form(LARGEST).await?;
    // As browsers send a line break (HTML, 4.10.22.4).
    draft.body = draft.body.replace("\r\n", "\n");
    if let Some(fault) = draft.fault() {
        let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, fault);
        return Ok(Said::Refused(refusal, Some((path, draft))));
    }
    let note = notes::save(&db, id, draft).await?.ok_or_else(gone)?;
    Ok(if id.is_none() { Said::Added(note) } else { Said::Note(note) })
}

async fn delete(db: Database, request: Request) -> Result<Said, Refusal> {
    request.check_site()?;
    if db.execute(notes::DELETE, [request.parse_param::<i64>("id")?.into()]).await? > 0 {
        Ok(Said::Deleted)
    } else {
        Err(gone())
    }
}

fn gone() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such note")
}

/// As a page that works without scripts; after a form, the one to go to (RFC 9110, 15.4.4), so that loading it again
/// sends nothing again.
fn page(said: Said) -> Response {
    let see_other = |path: &str| Response::status_only(StatusCode::SEE_OTHER).with_header("Location", path);
    let status = match &said {
        Said::Note(note) | Said::Added(note) => return see_other(&format!("/notes/{}", note.id)),
        Said::Deleted => return see_other("/"),
        Said::Refused(refusal, _) => refusal.status(),
        _ => StatusCode::OK,
    };
    Response::html(said.to_string())
        .with_status(status)
        .with_header("Content-Security-Policy", POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
}

/// As programs want it.
fn json(said: Said) -> Response {
    match said {
        Said::Notes(_, notes) | Said::History(notes) => Response::json(&notes),
        Said::Added(note) => {
            let location = format!("/api/notes/{}", note.id);
            Response::json(&note).with_status(StatusCode::CREATED).with_header("Location", &location)
        }
        Said::Note(note) => Response::json(&note),
        Said::Deleted => StatusCode::NO_CONTENT.into_response(),
        Said::Refused(refusal, _) => {
            Response::json(&serde_json::json!({ "error": refusal.why() })).with_status(refusal.status())
        }
    }
}
