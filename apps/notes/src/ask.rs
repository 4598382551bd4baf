//! What stands between a request and its handler: the parts of a request that notes are made of, and what becomes of
//! one that cannot be served, as a page or as JSON.

use std::future::Future;
use std::sync::Arc;

use gearshift::{BodyError, Handler, JsonError, ParamError, Request, Response, StatusCode, header};

use crate::pages;
use crate::store::{Draft, Store, StoreError};

pub(crate) type Db = Arc<dyn Store>;

/// Bytes of a body: a note of the largest size, each byte of it percent-encoded, fits.
const LARGEST: usize = 256 * 1024;

/// A handler whose refusals are pages.
pub(crate) fn page<F, R>(db: &Db, handler: F) -> impl Handler
where
    F: Fn(Db, Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    with(db, handler, pages::failed)
}

/// A handler whose refusals are JSON.
pub(crate) fn json<F, R>(db: &Db, handler: F) -> impl Handler
where
    F: Fn(Db, Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    #[derive(serde::Serialize)]
    struct Failed<'a> {
        error: &'a str,
    }
    with(db, handler, |status, error| Response::json(&Failed { error }).with_status(status))
}

fn with<F, R>(db: &Db, handler: F, failed: fn(StatusCode, &str) -> Response) -> impl Handler + use<F, R>
where
    F: Fn(Db, Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    let db = db.clone();
    move |request| {
        let answer = handler(db.clone(), request);
        async move { answer.await.unwrap_or_else(|Refusal(status, why)| failed(status, &why)) }
    }
}

/// What is searched for: `q` of the query, nothing if it is not there.
pub(crate) fn search(request: &Request) -> Result<String, Refusal> {
    let search = request.query_pairs().find(|(name, _)| name == "q").map(|(_, value)| value.into_owned());
    match search.unwrap_or_default() {
        search if search.contains('\0') => Err(Refusal(StatusCode::BAD_REQUEST, "text has no NUL".into())),
        search => Ok(search),
    }
}

/// A form of this site's own pages. A browser says where one comes from (Fetch Metadata, 2.4), and another site must
/// not be able to change notes in its user's name.
pub(crate) async fn form(request: Request) -> Result<Draft, Refusal> {
    if request.header("Sec-Fetch-Site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Refusal(StatusCode::FORBIDDEN, "this form is of another site".into()));
    }
    let body = request.into_body().bytes(LARGEST).await?;
    let mut draft = Draft::default();
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "title" => draft.title = value.trim().to_owned(),
            // Line breaks are sent as CR LF (HTML, 4.10.22.4).
            "body" => draft.body = value.replace("\r\n", "\n"),
            _ => {}
        }
    }
    Ok(draft)
}

/// A draft as JSON. No page of another site can send that type without being asked about first (Fetch, 4.9).
pub(crate) async fn draft(request: Request) -> Result<Draft, Refusal> {
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a note is sent as application/json".into()));
    }
    let draft: Draft = request.json(LARGEST).await?;
    match draft.fault() {
        Some(fault) => Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, fault.into())),
        None => Ok(draft),
    }
}

/// The page to go to after a form (RFC 9110, 15.4.4), so that loading it again sends nothing again.
pub(crate) fn see_other(path: &str) -> Response {
    Response::status_only(StatusCode::SEE_OTHER).with_header("Location", path)
}

/// Why a request is not served: a status, and a word to its sender.
#[derive(Debug)]
pub(crate) struct Refusal(StatusCode, String);

/// There is no such note.
pub(crate) fn gone() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "there is no such note".into())
}

/// What went wrong goes to the log, not to the peer.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        log::error!("{error}");
        let why =
            if error.status() == StatusCode::SERVICE_UNAVAILABLE { "try again in a moment" } else { "sorry" };
        Refusal(error.status(), why.into())
    }
}

impl From<ParamError> for Refusal {
    fn from(_: ParamError) -> Refusal {
        gone()
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        Refusal(error.status(), error.to_string())
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Refusal {
        match error {
            JsonError::Body(error) => error.into(),
            JsonError::Json(_) => Refusal(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}
