//! The step `ProxyHeader`: the header of the PROXY protocol, before anything else of the connection.
//!
//! The header is a part of the wait for the first head, with one deadline for both, and holds no thread. Only
//! connections of the peers in [`Config::proxy_protocol_from`](crate::Config::proxy_protocol_from) have this step. The
//! header of any other peer is a malformed request.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::conn::client::Origin;
use crate::conn::context::Peer;
use crate::conn::driver::Driving;
use crate::conn::driver::step::Step;
use crate::conn::io::Closed;
use crate::conn::lease::IoOwner;
use crate::conn::maybe_tls::encrypt;
use crate::conn::transport::Transport;
use crate::proto::proxy_header::{ProxyHeader, Source};
use crate::runtime::config::Config;

/// The time for which connections without a header are not logged after one was.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Whether the connections of this peer begin with a header.
#[inline]
pub(super) fn has_header(peer: Peer, config: &Config) -> bool {
    let from = &config.proxy_protocol_from;
    !from.is_empty() && from.contains(peer.map(|peer| peer.ip()))
}

impl<T: Transport> Driving<T> {
    /// Reads the header. A connection without one is closed, because its peer may be any client of the proxy.
    pub(super) fn poll_proxy_header(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &mut self.state) else {
            return Poll::Ready(Err(Closed));
        };
        let service = &self.service;
        let header = loop {
            let connection = &mut io.connection;
            match ProxyHeader::parse(connection.read_buffer.as_slice()) {
                Ok(Some(header)) => {
                    connection.read_buffer.discard(header.len);
                    break header;
                }
                Ok(None) if !connection.has_ended() => {}
                // A peer that closes without a byte has checked that the server listens.
                Ok(None) if connection.read_buffer.is_empty() => return Poll::Ready(Err(Closed)),
                _ => return Poll::Ready(Err(self.without_header("sends no PROXY header"))),
            }
            let read = match io.poll_read(cx, service) {
                Poll::Pending if io.deadlines.bytes.is_none() => {
                    io.release();
                    io.wait_for_head(service);
                    ready!(io.poll_read(cx, service))
                }
                read => ready!(read),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Err(self.without_header("has sent no PROXY header in time")));
                }
                read => read?,
            };
        };
        io.end_wait_for_bytes();
        let peer = match header.source {
            Source::Ip(address) => Some(address),
            Source::Unix => None,
            Source::Proxy => state.context.origin.peer,
        };
        let is_https = header.is_https || service.config.tls.is_some();
        let origin = Origin::new(peer, is_https, &service.config);
        if let Some(access) = &mut io.access {
            access.set_origin(&origin);
        }
        // There was no request yet, so nothing shares the context.
        let Some(context) = Arc::get_mut(&mut state.context) else { return Poll::Ready(Err(Closed)) };
        context.origin = origin;
        // The bytes after the header belong to the handshake.
        encrypt(&mut io.transport, &mut io.connection.read_buffer, &state.context, &service.config);
        self.step = Step::Next;
        Poll::Ready(Ok(()))
    }

    #[cold]
    fn without_header(&self, what: &str) -> Closed {
        self.service.was_refused();
        if self.service.may_log_proxy(LOG_PERIOD) {
            match self.state.as_ref().and_then(|state| state.context.origin.peer) {
                Some(peer) => log::warn!("{peer} {what}, although it is a proxy, and was disconnected"),
                None => {
                    log::warn!("a peer on a Unix socket {what}, although it is a proxy, and was disconnected")
                }
            }
        }
        Closed
    }
}
