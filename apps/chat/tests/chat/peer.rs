//! Clients of the chat: a WebSocket, and an event stream.

use std::net::{SocketAddr, TcpStream};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, Socket, Type};
use test_support::PATIENCE;
use test_support::client::Client;
use test_support::server::Launched;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// What a client receives.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) from: String,
    pub(crate) text: String,
}

impl Entry {
    pub(crate) fn said(&self) -> (&str, &str) {
        (&self.from, &self.text)
    }
}

/// The answer of `/status`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) backend: String,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
}

pub(crate) fn status(client: &mut Client) -> Status {
    json(&client.get("/status").text())
}

/// A WebSocket in the lobby.
pub(crate) struct Peer(WebSocket<TcpStream>);

impl Peer {
    pub(crate) fn open(server: &Launched, query: &str) -> Peer {
        Peer::on(server.client().socket, server, query)
    }

    pub(crate) fn on(socket: TcpStream, server: &Launched, query: &str) -> Peer {
        let url = format!("ws://{}/rooms/lobby/socket{query}", server.addr());
        Peer(tungstenite::client::client(url, socket).expect("the handshake succeeds").0)
    }

    /// The status with which the handshake of a page of `origin` is refused.
    pub(crate) fn refusal(server: &Launched, origin: &str) -> Option<u16> {
        let url = format!("ws://{}/rooms/lobby/socket", server.addr());
        let mut request = url.into_client_request().expect("an address is a URL");
        request.headers_mut().insert("origin", origin.parse().expect("a field value"));
        match tungstenite::client::client(request, server.client().socket) {
            Ok(_) => None,
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Some(response.status().as_u16())
            }
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.0.send(message).expect("the server reads");
    }

    pub(crate) fn say(&mut self, from: &str, text: &str) {
        self.send(Message::text(serde_json::json!({ "from": from, "text": text }).to_string()));
    }

    /// Receives an entry, or the code and the reason of the close.
    pub(crate) fn read(&mut self) -> Result<Entry, (CloseCode, String)> {
        match self.0.read().expect("the connection is open") {
            Message::Text(text) => Ok(json(&text)),
            Message::Close(Some(close)) => Err((close.code, close.reason.to_string())),
            other => panic!("{other:?} is no entry"),
        }
    }

    pub(crate) fn entry(&mut self) -> Entry {
        self.read().expect("an entry")
    }

    /// Answers a close that was received, and waits for the end of the connection.
    pub(crate) fn end(&mut self) {
        let end = self.0.read();
        assert!(matches!(end, Err(tungstenite::Error::ConnectionClosed)), "{end:?}");
    }
}

/// Asks for events, and reads the head of the answer.
pub(crate) fn events(mut client: Client, path: &str, fields: &str) -> Client {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    let head = client.expect_head();
    assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream")));
    client
}

/// The entry in an event, whose identifier is that of the entry.
pub(crate) fn event(event: &str) -> Entry {
    let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).expect("a field of the event");
    let entry: Entry = json(field("data: "));
    assert_eq!(field("id: "), entry.id.to_string());
    entry
}

/// The number that is the text of an entry.
pub(crate) fn number(entry: &Entry) -> usize {
    entry.text.parse().expect("a number")
}

/// A connection with a small receive buffer, so that little is underway to a client that does not read.
pub(crate) fn narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a socket has a buffer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("a socket has a write timeout");
    socket.connect(&to.into()).expect("the server listens");
    socket.into()
}

fn json<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
