//! The state that a connection of HTTP/2 shares with its exchanges.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use crate::conn::client::Origin;
use crate::conn::driver::ConnectionState;
use crate::conn::http2::timers::Timers;
use crate::conn::maybe_tls::TlsSlot;
use crate::conn::maybe_trace::ConnectionTrace;
use crate::conn::service::Service;
use crate::proto::encode::{BodyLength, http_date};
use crate::runtime::task::lock;

/// The state that a connection shares with its exchanges.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) timers: Arc<Timers>,
    pub(super) origin: Origin,
    pub(super) tls: TlsSlot,
    pub(super) trace: ConnectionTrace,
    /// Whether a handler has asked for the end of the connection.
    pub(super) must_close: AtomicBool,
    /// Whether an exchange has used its stream, so that `h2` has frames to send.
    pub(super) has_acted: AtomicBool,
    /// The number of bytes of bodies that the windows of the peer have admitted.
    pub(super) admitted: AtomicU64,
    /// The number of exchanges that wait for a window of the peer.
    pub(super) waiting: AtomicUsize,
    /// Whether an exchange has given several pieces to `h2` since the last call of [`Shared::was_emptied`].
    pub(super) has_pieces: AtomicBool,
    /// The number of calls of [`Shared::was_emptied`].
    pub(super) emptied: AtomicU64,
    /// The exchanges that wait until `h2` has written all it has.
    pub(super) full: Mutex<Vec<Waker>>,
    /// The field `Date` of the current second.
    date: Mutex<Option<(u64, HeaderValue)>>,
}

impl Shared {
    pub(super) fn new(service: &Arc<Service>, state: &ConnectionState) -> Shared {
        Shared {
            service: service.clone(),
            timers: Arc::default(),
            origin: state.context.origin.clone(),
            tls: state.context.tls.clone(),
            trace: state.trace.clone(),
            must_close: AtomicBool::new(false),
            has_acted: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            has_pieces: AtomicBool::new(false),
            emptied: AtomicU64::new(0),
            full: Mutex::default(),
            date: Mutex::new(None),
        }
    }

    /// Records that `h2` has written all it had.
    pub(super) fn was_emptied(&self) {
        self.has_pieces.store(false, Ordering::Relaxed);
        self.emptied.fetch_add(1, Ordering::Relaxed);
        let full = std::mem::take(&mut *lock(&self.full));
        full.into_iter().for_each(Waker::wake);
    }

    fn date(&self) -> Option<HeaderValue> {
        let seconds = self.service.clock.unix_seconds();
        let mut date = lock(&self.date);
        if date.as_ref().is_none_or(|(known, _)| *known != seconds) {
            let text = http_date(seconds).to_string();
            *date = HeaderValue::try_from(text).ok().map(|value| (seconds, value));
        }
        date.as_ref().map(|(_, value)| value.clone())
    }

    /// The head of a response. Fields of a connection are left out (RFC 9113, 8.2.2).
    pub(super) fn head(
        &self,
        status: StatusCode,
        fields: &[(HeaderName, HeaderValue)],
        length: BodyLength,
    ) -> http::Response<()> {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(fields.len() + 3);
        for (name, value) in fields.iter().filter(|(name, _)| !is_of_connection(name)) {
            headers.append(name, value.clone());
        }
        let config = &self.service.config;
        if config.server_header && !headers.contains_key(header::SERVER) {
            headers.insert(header::SERVER, const { HeaderValue::from_static("gearshift") });
        }
        if config.date_header
            && !headers.contains_key(header::DATE)
            && let Some(date) = self.date()
        {
            headers.insert(header::DATE, date);
        }
        if let BodyLength::Known(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// Whether the server decides about a field with this name, or HTTP/2 has none.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
