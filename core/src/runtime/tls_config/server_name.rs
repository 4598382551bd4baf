//! The name that a peer asks for, as the certificate is chosen for it.
//!
//! A session of rustls without buffers does not tell the name. It chooses its certificate while it processes the first
//! message, so the name is left in the thread until then.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Chooses as another resolver does, and leaves the name.
#[derive(Debug)]
pub(super) struct Recording(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Recording {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(|name| name.to_ascii_lowercase().into()));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// Takes the name from the thread: that of the message that was processed last.
pub(crate) fn take_server_name() -> Option<Box<str>> {
    ASKED.take()
}
