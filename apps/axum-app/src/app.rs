//! The application. It knows axum, tower-http and tokio, and nothing of the server that runs it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Multipart, Path, Query, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::services::ServeDir;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

/// The longest time that a handler takes.
const TIMEOUT: Duration = Duration::from_millis(500);
/// The number of events that a slow listener may be behind.
const EVENTS: usize = 64;

#[derive(Clone)]
struct Notes {
    all: Arc<Mutex<BTreeMap<u32, Note>>>,
    added: broadcast::Sender<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    text: String,
}

/// The application of axum.
pub fn app() -> Router {
    let notes = Notes { all: Arc::default(), added: broadcast::channel(EVENTS).0 };
    let request_id = HeaderName::from_static("x-request-id");
    let api = Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/{id}", get(read).delete(remove))
        .layer(middleware::from_fn(only_with_token));
    Router::new()
        .route("/", get(async || "an application of axum\n"))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: axum::body::Body| body))
        .route("/upload", post(upload))
        .route("/big", get(async || "a line of a large response\n".repeat(10_000)))
        .nest("/api", api)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .route("/events", get(events))
        .route("/ws", get(socket))
        .nest_service("/static", ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static")))
        .layer(DefaultBodyLimit::max(1 << 20))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(TraceLayer::new_for_http())
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
        .with_state(notes)
}

/// Refuses requests without the token.
async fn only_with_token(request: Request, next: Next) -> Response {
    match request.headers().get("authorization").map(|value| value.as_bytes()) {
        Some(b"Bearer secret") => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

#[derive(Deserialize)]
struct Range {
    from: Option<u32>,
}

async fn list(State(notes): State<Notes>, Query(range): Query<Range>) -> Json<Vec<(u32, Note)>> {
    let all = notes.all.lock().unwrap_or_else(PoisonError::into_inner);
    Json(all.range(range.from.unwrap_or(0)..).map(|(id, note)| (*id, note.clone())).collect())
}

async fn create(State(notes): State<Notes>, Json(note): Json<Note>) -> (StatusCode, Json<u32>) {
    let mut all = notes.all.lock().unwrap_or_else(PoisonError::into_inner);
    let id = all.keys().next_back().map_or(1, |last| last + 1);
    all.insert(id, note);
    // Nobody may listen.
    let _ = notes.added.send(id);
    (StatusCode::CREATED, Json(id))
}

async fn read(State(notes): State<Notes>, Path(id): Path<u32>) -> Result<Json<Note>, StatusCode> {
    let all = notes.all.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(&id).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn remove(State(notes): State<Notes>, Path(id): Path<u32>) -> StatusCode {
    let mut all = notes.all.lock().unwrap_or_else(PoisonError::into_inner);
    all.remove(&id).map_or(StatusCode::NOT_FOUND, |_| StatusCode::NO_CONTENT)
}

async fn slow() -> &'static str {
    tokio::time::sleep(TIMEOUT * 20).await;
    "late"
}

/// The names and the lengths of the uploaded fields.
async fn upload(mut form: Multipart) -> Result<Json<Vec<(String, usize)>>, Response> {
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.map_err(IntoResponse::into_response)? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(IntoResponse::into_response)?;
        fields.push((name, bytes.len()));
    }
    Ok(Json(fields))
}

/// An event for each note that is added.
async fn events(State(notes): State<Notes>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut added = notes.added.subscribe();
    let events = async_stream::stream! {
        yield Ok(Event::default().comment("open"));
        while let Ok(id) = added.recv().await {
            yield Ok(Event::default().event("added").data(id.to_string()));
        }
    };
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(1)))
}

/// Sends each message back.
async fn socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["echo"]).on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let is_close = matches!(message, Message::Close(_));
            if is_close || socket.send(message).await.is_err() {
                return;
            }
        }
    })
}
