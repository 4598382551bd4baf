//! An event for each link that is added.

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/events", get(events))
}

async fn events(
    State(links): State<Links>,
) -> Sse<impl Stream<Item = Result<Event, BroadcastStreamRecvError>>> {
    let added = BroadcastStream::new(links.store.added());
    let events = added.map(|link| link.map(|link| Event::default().event("added").data(link.name)));
    Sse::new(events).keep_alive(KeepAlive::default())
}
