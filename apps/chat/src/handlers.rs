//! The routes: the page, the two ways to listen, the two ways to speak, and the status.

use std::time::Duration;

use futures_lite::{StreamExt, future};
use gearshift::sse::{Event, Sse};
use gearshift::ws::{self, HandshakeError, WebSocket, WebSocketReceiver, WebSocketSender, close_code};
use gearshift::{IntoResponse, Refusal, Request, Response, Router, StatusCode, sync};
use serde::Serialize;

use crate::rooms::{Listener, Message, Room, Rooms};
use crate::{MAX_NAME, MAX_TEXT};

/// The largest message of a client in bytes: a name and a text in JSON, in which a byte takes up to six.
const MAX_MESSAGE: usize = 6 * (MAX_NAME + MAX_TEXT) + 100;
/// How long a browser waits before it asks for the events again.
const RETRY: Duration = Duration::from_secs(1);

/// Creates the application, with no rooms yet.
pub fn app() -> Router {
    Router::new()
        .get("/", sync(|_| Response::html(include_str!("page.html"))))
        .get("/rooms/{room}/socket", sync(socket))
        .get("/rooms/{room}/events", sync(events))
        .post("/rooms/{room}/messages", say)
        .get("/status", sync(status))
        .with_state(Rooms::default())
}

fn socket(request: Request) -> Result<Response, HandshakeError> {
    let upgrade = request.websocket()?.max_message_size(MAX_MESSAGE);
    if !is_of_this_site(&request) {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let room = match request.state::<Rooms>().room(&name(&request)) {
        Ok(room) => room,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let listener = room.listen(after(&request));
    Ok(upgrade.on_upgrade(async move |socket: WebSocket| {
        let (mut sender, mut receiver) = socket.split();
        let end = future::or(deliver(listener, &mut sender), hear(&mut receiver, &room)).await;
        if let Some((code, reason)) = end {
            let _ = sender.close(code, &reason).await;
        }
    }))
}

/// The code and the reason of a close.
type End = Option<(u16, String)>;

/// Sends the entries of the room to the client. A stop of the server ends it, because a socket that closes sends
/// nothing.
async fn deliver(mut listener: Listener, sender: &mut WebSocketSender) -> End {
    while let Some(entry) = listener.next().await {
        if sender.send(ws::Message::Text(entry.json)).await.is_err() {
            return None;
        }
    }
    Some((close_code::AGAIN, "too far behind".to_owned()))
}

/// Adds the messages of the client to the room.
async fn hear(receiver: &mut WebSocketReceiver, room: &Room) -> End {
    while let Some(Ok(received)) = receiver.recv().await {
        let text = match &received {
            ws::Message::Text(text) => text,
            ws::Message::Binary(_) => return Some((close_code::UNSUPPORTED, "a message is text".to_owned())),
            _ => continue,
        };
        let said = serde_json::from_str(text).map_err(|error| error.to_string());
        if let Err(why) = said.and_then(|message| room.say(&message).map_err(|why| why.why().to_owned())) {
            return Some((close_code::POLICY, why));
        }
    }
    None
}

fn events(request: Request) -> Result<Sse, Refusal> {
    let listener = request.state::<Rooms>().room(&name(&request))?.listen(after(&request));
    let events = listener.map(|entry| Event::new(entry.json.as_str()).id(entry.id.to_string()).retry(RETRY));
    Ok(Sse::new(request.runtime(), events))
}

async fn say(request: Request) -> Result<StatusCode, Refusal> {
    let room = request.state::<Rooms>().room(&name(&request))?;
    let message: Message = request.with_body_limit(MAX_MESSAGE).json().await?;
    room.say(&message)?;
    Ok(StatusCode::NO_CONTENT)
}

fn status(request: Request) -> Response {
    #[derive(Serialize)]
    struct Status {
        backend: &'static str,
        /// The clients that listen, through a WebSocket or an event stream.
        clients: usize,
        /// The open connections, which browsers also keep between requests.
        connections: usize,
    }
    let stats = request.runtime().stats();
    let clients = request.state::<Rooms>().listeners();
    Response::json(&Status { backend: stats.backend, clients, connections: stats.connections_open })
        .with_header("Cache-Control", "no-store")
}

/// The name of the room in the path.
fn name(request: &Request) -> String {
    request.param("room").unwrap_or_default().into_owned()
}

/// The last entry that the client has received.
fn after(request: &Request) -> Option<u64> {
    let last = request.last_event_id().and_then(|id| id.parse().ok());
    last.or_else(|| request.query_param("after")?.parse().ok())
}

/// Whether a page of this site opens the WebSocket, or a client that is no browser. A browser asks before it sends JSON
/// to another site, and keeps the events of another site from a page, but it lets a page open any WebSocket.
fn is_of_this_site(request: &Request) -> bool {
    let Some(origin) = request.header("origin") else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| request.header("host").is_some_and(|own| own.eq_ignore_ascii_case(host)))
}
