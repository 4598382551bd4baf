//! A WebSocket that answers names with URLs.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/ws", any(upgrade))
}

async fn upgrade(State(links): State<Links>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let Ok(name) = message.to_text() else { continue };
            let url = links.store.get(name).map_or_else(String::new, |link| link.url);
            if socket.send(url.into()).await.is_err() {
                return;
            }
        }
    })
}
