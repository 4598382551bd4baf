//! The settings of HTTP/2 without the feature `http2`: there are none.

/// The settings of HTTP/2. Without the feature `http2`, there are none, and the server speaks HTTP/1.1 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2 {}

impl Http2 {
    /// The first setting that has a value with which no server can run, and why.
    pub(crate) fn invalid(self) -> Option<(&'static str, &'static str)> {
        None
    }
}
