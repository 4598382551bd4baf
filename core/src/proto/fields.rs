//! The header fields of a request: spans into its head, never a map.
//!
//! Looking a field up is a scan that compares names without regard to case; for the dozen fields of a usual head
//! that is quicker than building a table, and costs nothing when nobody looks.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A piece of a head, which is at most [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD) bytes long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) len: u16,
}

impl Span {
    #[inline]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..][..usize::from(self.len)]
    }

    /// The span of `part`, which must lie inside `whole`; `None` if it is out of a span's reach.
    #[inline]
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Option<Span> {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Some(Span { start: u16::try_from(start).ok()?, len: u16::try_from(part.len()).ok()? })
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// Where the fields of a head are.
pub(crate) type FieldSpans = Vec<FieldSpan>;

/// The header fields of a request, in the order they were sent.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub(crate) head: &'a Bytes,
    pub(crate) spans: &'a [FieldSpan],
}

impl<'a> Fields<'a> {
    /// How many field lines there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the first field called `name`, without regard to case.
    pub fn get(&self, name: impl AsRef<str>) -> Option<&'a [u8]> {
        let name = name.as_ref();
        self.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first field called `name`, if it is UTF-8.
    pub fn get_str(&self, name: impl AsRef<str>) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all fields called `name`, in order.
    pub fn get_all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.into_iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether there is a field called `name`.
    pub fn contains(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// The value of the first field called `name` as a value of its own, which shares the head's memory.
    pub fn value(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
        let value = self.get(name)?;
        HeaderValue::from_maybe_shared(self.head.slice_ref(value)).ok()
    }

    /// All fields as the `http` crate's map; values share the head's memory.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in *self {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_maybe_shared(self.head.slice_ref(value));
            // Both were checked when the head was read.
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
        FieldsIter { head: self.head, spans: self.spans.iter() }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(value))))
            .finish()
    }
}

/// The field lines of [`Fields`]: names as they were sent, values as bytes.
#[derive(Clone, Debug)]
pub struct FieldsIter<'a> {
    head: &'a [u8],
    spans: std::slice::Iter<'a, FieldSpan>,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        let name = std::str::from_utf8(span.name.of(self.head)).expect("a field name is ASCII");
        Some((name, span.value.of(self.head)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for FieldsIter<'_> {}
