//! Rooms in which browsers talk: one page, which uses a WebSocket, or an event stream and POST where no WebSocket
//! opens.
//!
//! | path | what it does |
//! | --- | --- |
//! | `GET /` | the page; `?room=NAME&name=NAME` |
//! | `GET /rooms/{room}/socket?after=ID` | a WebSocket: messages from the peer, entries to the peer |
//! | `GET /rooms/{room}/events?after=ID` | the entries as events; `Last-Event-ID` has precedence over `after` |
//! | `POST /rooms/{room}/messages` | adds a message, `{"from": "Ada", "text": "hello"}` |
//! | `GET /status` | the name of the backend and how many clients it holds |
//!
//! A client that connects receives the [history](MAX_HISTORY) after the entry that it names, and then what is said. It
//! holds no thread while nobody speaks, on any backend. A client that reads too slowly falls [behind](MAX_BEHIND) and
//! is closed, with 1013 on a WebSocket; the page connects again and receives the rest from the history. The server
//! closes every client when it stops, with 1001 on a WebSocket, without code of this application.

mod handlers;
mod rooms;

pub use handlers::app;

/// The entries that a room keeps for clients that connect later. Older ones are forgotten.
pub const MAX_HISTORY: usize = 100;
/// The entries that wait for one client while it reads. A client for which one more would wait is closed.
pub const MAX_BEHIND: usize = 64;
/// The number of rooms. For one more, the room without clients that was silent for the longest time is forgotten. If
/// all rooms have clients, the new one is refused with 503.
pub const MAX_ROOMS: usize = 100;
/// The longest name of a room or a person in bytes. A longer one is refused with 422, or closes the WebSocket with
/// 1008.
pub const MAX_NAME: usize = 64;
/// The longest text of a message in bytes. A longer one is refused as a longer name is.
pub const MAX_TEXT: usize = 4096;
