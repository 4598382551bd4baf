//! The access log: one line for each response.

use http::StatusCode;

use crate::conn::context::Peer;
use crate::proto::request::Request;

/// The part of an access log line that describes the request. It is formatted before the handler takes the request.
pub(crate) struct AccessLine(Box<str>);

impl AccessLine {
    pub(crate) fn new(peer: Peer, request: &Request) -> AccessLine {
        let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        AccessLine(
            format!("{peer} - \"{} {} {:?}\"", request.method(), request.target(), request.version()).into(),
        )
    }

    /// Logs the line with the status of the response, to the target `gearshift::access`.
    pub(crate) fn log(self, status: StatusCode) {
        log::info!(target: "gearshift::access", "{} {}", self.0, status.as_u16());
    }
}
