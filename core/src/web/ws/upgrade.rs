//! The answer to an opening handshake, with the options of the socket.

use std::future::Future;
use std::time::Duration;

use http::header::{self, HeaderValue};

use crate::proto::framing::list;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::proto::stream::Stream;
use crate::runtime::handle::Runtime;
use crate::web::ws::Settings;
use crate::web::ws::deflate::{Deflate, Offer, offers};
use crate::web::ws::handshake::PROTOCOL;
use crate::web::ws::socket::{self, WebSocket};

/// A valid opening handshake, from [`Request::websocket`]. Its methods set the options of the socket;
/// [`WebSocketUpgrade::on_upgrade`] makes it a response.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::ws::{HandshakeError, WebSocket};
/// use gearshift::{Request, Response};
///
/// fn prices(request: Request) -> Result<Response, HandshakeError> {
///     let upgrade = request
///         .websocket()?
///         .protocols(&["prices.v2", "prices.v1"])
///         .deflate(true)
///         .max_message_size(16 << 10)
///         .ping_interval(Some(Duration::from_secs(10)));
///     let is_new = upgrade.protocol() == Some("prices.v2");
///     Ok(upgrade.on_upgrade(async move |mut socket: WebSocket| {
///         let first = if is_new { "{\"price\":1}" } else { "1" };
///         let _ = socket.send(first.into()).await;
///     }))
/// }
/// # drop(prices);
/// ```
#[derive(Debug)]
pub struct WebSocketUpgrade {
    runtime: Runtime,
    accept: HeaderValue,
    /// The values of `Sec-WebSocket-Protocol`, in the order of the peer's preference.
    offered: Vec<HeaderValue>,
    protocol: Option<HeaderValue>,
    /// The compression that the peer offers first among those that this server can do.
    offer: Option<Offer>,
    deflate: bool,
    keep_context: bool,
    settings: Settings,
}

impl WebSocketUpgrade {
    /// The request has been checked, and `accept` proves it.
    pub(super) fn new(request: &Request, accept: HeaderValue) -> WebSocketUpgrade {
        let fields = request.headers();
        let offered = fields.get_all(header::SEC_WEBSOCKET_PROTOCOL.as_str()).flat_map(list);
        let mut offers = fields.get_all(header::SEC_WEBSOCKET_EXTENSIONS.as_str()).flat_map(offers);
        WebSocketUpgrade {
            runtime: request.runtime().clone(),
            accept,
            offered: offered.filter_map(|name| HeaderValue::from_bytes(name).ok()).collect(),
            protocol: None,
            offer: offers.find_map(Offer::parse),
            deflate: false,
            keep_context: false,
            settings: Settings::default(),
        }
    }

    /// Sets the sub-protocols that the application speaks, in the order of its preference. The first one that the peer
    /// offers is chosen. Without a common one, the socket has no sub-protocol, and most peers then close it.
    pub fn protocols(mut self, spoken: &[&str]) -> WebSocketUpgrade {
        let chosen = spoken.iter().find_map(|name| self.offered.iter().find(|offered| offered == name));
        self.protocol = chosen.cloned();
        self
    }

    /// The sub-protocol that [`WebSocketUpgrade::protocols`] has chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().and_then(|name| name.to_str().ok())
    }

    /// Sets whether messages are compressed if the peer offers `permessage-deflate` (RFC 7692). The default is false.
    ///
    /// Each message is compressed alone, so that a socket that waits holds no memory for compression.
    pub fn deflate(mut self, deflate: bool) -> WebSocketUpgrade {
        self.deflate = deflate;
        self
    }

    /// Sets whether a message can refer to the messages before it in compression, in both directions. Similar messages
    /// become much smaller, and each socket holds about 300 KB of memory. The default is false.
    pub fn keep_deflate_context(mut self, keep: bool) -> WebSocketUpgrade {
        self.keep_context = keep;
        self
    }

    /// Sets the largest message from the peer in bytes, after decompression. The default is
    /// [`MAX_MESSAGE_SIZE`](crate::ws::MAX_MESSAGE_SIZE). The peer of a larger message is closed with 1009.
    pub fn max_message_size(mut self, bytes: usize) -> WebSocketUpgrade {
        self.settings.max_message_size = bytes;
        self
    }

    /// Sets the largest frame from the peer in bytes, before decompression. The default is
    /// [`MAX_FRAME_SIZE`](crate::ws::MAX_FRAME_SIZE). The peer of a larger frame is closed with 1009.
    pub fn max_frame_size(mut self, bytes: usize) -> WebSocketUpgrade {
        self.settings.max_frame_size = bytes;
        self
    }

    /// Sets after how long a silence the peer is sent a ping, or that there are no pings. The default is
    /// [`PING_INTERVAL`](crate::ws::PING_INTERVAL). A peer that sends a part of a message is not silent. The time
    /// passes only while the application receives, or waits in
    /// [`WebSocketReceiver::failed`](crate::ws::WebSocketReceiver::failed).
    ///
    /// # Panics
    /// If the interval is zero.
    #[track_caller]
    pub fn ping_interval(mut self, interval: Option<Duration>) -> WebSocketUpgrade {
        assert_ne!(interval, Some(Duration::ZERO), "the time between pings is longer than zero");
        self.settings.ping_interval = interval;
        self
    }

    /// Sets how long a peer may be silent after a ping. The default is the
    /// [`ping_interval`](WebSocketUpgrade::ping_interval). After that the peer has left: the receive fails with
    /// [`Error::Silent`](crate::ws::Error::Silent), and the peer is sent 1001. The time passes only while the
    /// application receives. With [`Duration::MAX`] a silent peer is sent pings, and is never closed.
    ///
    /// # Panics
    /// If the timeout is zero.
    #[track_caller]
    pub fn ping_timeout(mut self, timeout: Duration) -> WebSocketUpgrade {
        assert_ne!(timeout, Duration::ZERO, "the time for the answer to a ping is longer than zero");
        self.settings.ping_timeout = Some(timeout);
        self
    }

    /// Sets how long a send may wait for a peer that does not read. The default is
    /// [`SEND_TIMEOUT`](crate::ws::SEND_TIMEOUT). After that the connection is cut.
    pub fn send_timeout(mut self, timeout: Duration) -> WebSocketUpgrade {
        self.settings.send_timeout = timeout;
        self
    }

    /// Sets how long a closing handshake may take. The default is [`CLOSE_TIMEOUT`](crate::ws::CLOSE_TIMEOUT). After
    /// that the connection is cut.
    pub fn close_timeout(mut self, timeout: Duration) -> WebSocketUpgrade {
        self.settings.close_timeout = timeout;
        self
    }

    /// Sets whether the peer is closed with 1001 when the server begins to stop. The default is true: messages that
    /// are on their way are still received, and nothing more can be sent.
    ///
    /// With false, the application waits for [`Runtime::stopping`](crate::Runtime::stopping) itself, says its last
    /// words, and closes the socket. It has the grace period for this.
    pub fn close_on_stop(mut self, close: bool) -> WebSocketUpgrade {
        self.settings.close_on_stop = close;
        self
    }

    /// Creates the response with status 101, after which `then` receives the socket.
    ///
    /// `then` runs as described at [`Response::upgrade`]. The socket is closed when `then` drops it, or both of its
    /// halves: the peer is sent 1000 unless it was closed before, and has
    /// [`close_timeout`](WebSocketUpgrade::close_timeout) to answer. If `then` panics, the peer is sent 1011.
    #[track_caller]
    pub fn on_upgrade<F, U>(self, then: F) -> Response
    where
        F: FnOnce(WebSocket) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let WebSocketUpgrade { runtime, accept, protocol, offer, settings, .. } = self;
        let deflate = offer.filter(|_| self.deflate).map(|offer| Deflate::accept(offer, self.keep_context));
        let extension = deflate.map(Deflate::response_value);
        let mut response = Response::upgrade(PROTOCOL, move |stream: Stream| {
            socket::run(stream, runtime, settings, deflate, async move |socket| then(socket).await)
        });
        response = response.with_header(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            response = response.with_header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(extension) = extension {
            response = response.with_header(header::SEC_WEBSOCKET_EXTENSIONS, extension);
        }
        response
    }
}
