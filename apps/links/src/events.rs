//! An event for each link that is added.

use gearshift::sse::{Event, Sse};
use gearshift::{Request, Router, sync};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::state::Links;

pub(crate) fn routes() -> Router {
    Router::new().get("/events", sync(events))
}

fn events(request: Request) -> Sse {
    let added = BroadcastStream::new(request.state::<Links>().store.added());
    // A listener that is too far behind is cut, and connects again.
    let events = added.map(|link| link.map(|link| Event::new(link.name).event("added")));
    Sse::new(request.runtime(), events)
}
