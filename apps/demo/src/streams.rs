//! Connections that live long: an echo over WebSocket, and a clock of server-sent events.

use std::time::Duration;

use futures_lite::stream;
use gearshift::sse::{Event, Sse};
use gearshift::ws::{HandshakeError, Message, WebSocket};
use gearshift::{Request, Response};

/// The largest message of `/ws` in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// Sends each message back, compressed if the peer can do so.
pub(crate) fn echo(request: Request) -> Result<Response, HandshakeError> {
    let upgrade = request.websocket()?.deflate(true).keep_deflate_context(true);
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                return;
            }
        }
    }))
}

/// Counts the seconds. A browser that connects again continues where it was.
pub(crate) fn ticks(request: Request) -> Sse {
    let runtime = request.runtime();
    let first =
        request.last_event_id().and_then(|id| id.parse().ok()).map_or(0, |last: u64| last.wrapping_add(1));
    let pause = runtime.clone();
    let events = stream::unfold(first, move |n| {
        let tick = Event::new(format!("tick {n}")).id(n.to_string());
        // The first event is sent at once.
        let wait = (n != first).then(|| pause.sleep(Duration::from_secs(1)));
        async move {
            if let Some(wait) = wait {
                wait.await;
            }
            Some((tick, n.wrapping_add(1)))
        }
    });
    Sse::new(runtime, events)
}
