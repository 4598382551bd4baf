//! The flags of HTTP/2 without the feature `http2`: there are none.

use gearshift_core::Http2;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Http2Flags {}

impl Http2Flags {
    /// Does nothing: there are no settings of HTTP/2.
    pub(crate) fn set(&self, _: &mut Http2) {}
}
