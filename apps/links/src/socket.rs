//! A WebSocket that answers names with URLs.

use gearshift::ws::{HandshakeError, WebSocket};
use gearshift::{Request, Response, Router, sync};

use crate::state::Links;

pub(crate) fn routes() -> Router {
    Router::new().get("/ws", sync(upgrade))
}

fn upgrade(request: Request) -> Result<Response, HandshakeError> {
    let links = request.state::<Links>();
    Ok(request.websocket()?.on_upgrade(async move |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let Some(name) = message.as_text() else { continue };
            let url = links.store.get(name).map_or_else(String::new, |link| link.url);
            if socket.send(url.into()).await.is_err() {
                return;
            }
        }
    }))
}
