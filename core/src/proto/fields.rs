//! The header fields of a request, as spans of its head.
//!
//! A lookup is a scan that compares names without regard to case. For the dozen fields of a common head, the scan is
//! faster than building a map, and a request whose fields are not read costs nothing.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A range of bytes in a head or in its field section, which have at most
/// [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD) bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) len: u16,
}

impl Span {
    /// The bytes of the span in `bytes`, which must not end before it.
    #[inline]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..][..usize::from(self.len)]
    }

    /// The span of `part`, a subslice of `whole`; `None` if it does not fit into 16 bits.
    #[inline]
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Option<Span> {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Some(Span { start: u16::try_from(start).ok()?, len: u16::try_from(part.len()).ok()? })
    }
}

/// The name and the value of one field line, as spans of the field section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

pub(crate) type FieldSpans = Vec<FieldSpan>;

/// The header fields of a request, in the order in which the peer sent them.
///
/// Iteration gives names as the peer wrote them and values as bytes.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Fields, Request};
///
/// let request = Request::get("/").with_header("X-Tag", "a");
/// let fields: Fields<'_> = request.headers();
/// assert_eq!(fields.get_str("X-TAG"), Some("a"));
/// assert_eq!(fields.get("accept"), None);
/// ```
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub(crate) head: &'a Bytes,
    /// The start of the field section in `head`.
    pub(crate) start: usize,
    pub(crate) spans: &'a [FieldSpan],
}

impl<'a> Fields<'a> {
    /// The number of field lines.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the first field with this name. Names are compared without regard to case.
    pub fn get(&self, name: impl AsRef<str>) -> Option<&'a [u8]> {
        self.get_all(name.as_ref()).next()
    }

    /// The value of the first field with this name; `None` also if that value is not UTF-8.
    pub fn get_str(&self, name: impl AsRef<str>) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all fields with this name, in order.
    pub fn get_all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let section = &self.head[self.start..];
        let has_name = move |span: &&FieldSpan| span.name.of(section).eq_ignore_ascii_case(name.as_bytes());
        self.spans.iter().filter(has_name).map(|span| span.value.of(section))
    }

    /// Whether a field with this name exists.
    pub fn contains(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// The value of the first field with this name as a [`HeaderValue`] that shares the memory of the head.
    pub fn value(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
        let value = self.get(name)?;
        HeaderValue::from_maybe_shared(self.head.slice_ref(value)).ok()
    }

    /// All fields as a [`HeaderMap`]. Its values share the memory of the head.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in *self {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_maybe_shared(self.head.slice_ref(value));
            // The parser has validated both, so that no field is lost here.
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        map
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = FieldsIter<'a>;

    fn into_iter(self) -> FieldsIter<'a> {
        FieldsIter { section: &self.head[self.start..], spans: self.spans.iter() }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(value))))
            .finish()
    }
}

/// The iterator over [`Fields`]: names as the peer wrote them, values as bytes.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{FieldsIter, Request};
///
/// let request = Request::get("/").with_header("X-Tag", "a");
/// let mut fields: FieldsIter<'_> = request.headers().into_iter();
/// assert_eq!(fields.next(), Some(("x-tag", &b"a"[..])));
/// ```
#[derive(Clone, Debug)]
pub struct FieldsIter<'a> {
    section: &'a [u8],
    spans: std::slice::Iter<'a, FieldSpan>,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        let name = std::str::from_utf8(span.name.of(self.section)).expect("a field name is ASCII");
        Some((name, span.value.of(self.section)))
    }
}
