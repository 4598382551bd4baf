//! HTTP/2 without the feature `http2`: there is none. See `http2` for the counterparts.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::conn::driver::ConnectionState;
use crate::conn::io::Io;
use crate::conn::service::Service;
#[cfg(feature = "tls")]
use crate::runtime::config::Config;

/// A connection that speaks HTTP/2. There is none.
pub(crate) enum Http2 {}

impl Http2 {
    pub(crate) fn begin<T>(
        io: Box<Io<T>>,
        _: &ConnectionState,
        _: &Arc<Service>,
    ) -> Result<Http2, Box<Io<T>>> {
        Err(io)
    }

    pub(crate) fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match *self {}
    }
}

/// Whether the peers of a server with these settings may speak HTTP/2: never.
#[cfg(feature = "tls")]
pub(crate) fn speaks_http2(_: &Config, _: bool) -> bool {
    false
}
