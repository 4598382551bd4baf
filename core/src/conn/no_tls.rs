//! The transport of a connection without the feature `tls`; see `tls` for the counterparts.

use std::sync::Arc;

use crate::conn::context::Context;
use crate::proto::read_buffer::ReadBuffer;
use crate::runtime::config::Config;

/// The place of the TLS session of a connection. There is none.
#[derive(Clone, Default)]
pub(crate) struct TlsSlot {}

impl TlsSlot {
    /// Whether the protocol that was negotiated, if there is a session, is HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) fn allows_http2(&self) -> bool {
        true
    }
}

/// The transport of a connection.
pub(crate) type MaybeTls<T> = T;

/// Returns the transport of a connection.
#[inline]
pub(crate) fn plain<T>(transport: T) -> MaybeTls<T> {
    transport
}

/// Does nothing: there are no settings of TLS.
#[inline]
pub(crate) fn encrypt<T>(_: &mut MaybeTls<T>, _: &mut ReadBuffer, _: &Arc<Context>, _: &Config) {}
