//! The protocols that a request offers in its `Upgrade` fields (RFC 9110, 7.8).

use http::header::{self, HeaderName, HeaderValue};

use crate::proto::framing::list;
use crate::proto::request::Request;
use crate::proto::scan::is_token;

/// The values of the `Upgrade` fields of one request, joined by commas.
pub(crate) struct Offer(Vec<u8>);

impl Offer {
    /// Copies the offer of a request, whose head the handler takes.
    pub(crate) fn of(request: &Request) -> Offer {
        let values: Vec<_> = request.headers().get_all(header::UPGRADE.as_str()).collect();
        Offer(values.join(&b','))
    }

    /// Whether the `Upgrade` fields of a response name protocols, and only protocols of this offer.
    pub(crate) fn includes(&self, fields: &[(HeaderName, HeaderValue)]) -> bool {
        let values = fields.iter().filter(|(name, _)| *name == header::UPGRADE).map(|(_, value)| value);
        let mut chosen = values.flat_map(|value| list(value.as_bytes())).peekable();
        let is_offered = |chosen| list(&self.0).any(|offered| is_same(chosen, offered));
        chosen.peek().is_some() && chosen.all(|chosen| is_protocol(chosen) && is_offered(chosen))
    }
}

/// Whether `value` is a protocol: a name, and perhaps a slash and a version, which are tokens.
fn is_protocol(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |&byte| byte == b'/');
    parts.all(|part| !part.is_empty() && part.iter().copied().all(is_token))
}

/// Whether two protocols are the same: the names without regard to case, and the versions, which follow a slash.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let name = |protocol: &[u8]| memchr::memchr(b'/', protocol).unwrap_or(protocol.len());
    let ((name, version), (other_name, other_version)) =
        (one.split_at(name(one)), other.split_at(name(other)));
    name.eq_ignore_ascii_case(other_name) && version == other_version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_included_if_all_of_its_protocols_are_offered() {
        for (offered, chosen, is_included) in [
            ("a", &["a"][..], true),
            ("websocket", &["WebSocket"], true),
            ("a/1", &["A/1"], true),
            ("a/x", &["a/X"], false),
            ("a", &["a/1"], false),
            ("a/1", &["a"], false),
            ("a/1", &["a/2"], false),
            ("a/1/1", &["a/1"], false),
            ("a/1/1", &["a/1/1"], false),
            ("a/", &["a/"], false),
            ("/1", &["/1"], false),
            ("a b", &["a b"], false),
            ("a\u{e4}", &["a\u{e4}"], false),
            ("ab", &["a"], false),
            ("a", &["ab"], false),
            ("x, , a/1\t, y", &["a/1"], true),
            ("a, b", &["b"], true),
            ("a, b", &["b, a"], true),
            ("a, b", &["b", "a"], true),
            ("a, b", &["a", "c"], false),
            ("a, b", &["a, c"], false),
            ("a, b", &[], false),
            ("a, b", &[" , "], false),
            (" ,", &[" ,"], false),
        ] {
            let fields: Vec<_> = chosen
                .iter()
                .map(|chosen| (header::UPGRADE, HeaderValue::from_bytes(chosen.as_bytes()).unwrap()))
                .chain([(header::VARY, HeaderValue::from_static("c"))])
                .collect();
            let offer = Offer(offered.as_bytes().into());
            assert_eq!(offer.includes(&fields), is_included, "{offered:?}, {chosen:?}");
        }
    }
}
