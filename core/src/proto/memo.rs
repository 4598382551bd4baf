//! A cache, in each thread, of the request line and the field sections that were parsed last.
//!
//! A client sends the same fields with each request, and a proxy often does too: only the request line differs, and
//! not always. Bytes that equal a cached line or section need no second parsing. The comparison also finds their end.

use std::cell::RefCell;

use http::{Method, Version};

use crate::proto::fields::{FieldSpans, Span};
use crate::proto::framing::FieldFacts;
use crate::proto::limits::Limits;
use crate::proto::request_parts::Head;

/// The largest number of cached sections.
const MAX_SECTIONS: usize = 4;
/// The longest cached line in bytes.
const MAX_LINE: usize = 256;
/// The longest cached section in bytes.
const MAX_SECTION: usize = 2048;

thread_local! {
    static MEMO: RefCell<Memo> = const { RefCell::new(Memo { line: None, sections: Vec::new(), last: 0 }) };
}

struct Memo {
    line: Option<Line>,
    sections: Vec<Section>,
    /// The index of the section that was used last.
    last: usize,
}

/// A request line with its line end, and the result of parsing it.
struct Line {
    bytes: Vec<u8>,
    method: Method,
    version: Version,
    target: Span,
    path: Span,
}

/// A field section with its empty line, and the result of parsing it.
struct Section {
    bytes: Vec<u8>,
    fields: FieldSpans,
    facts: FieldFacts,
    /// The values of `Limits::field_line` and `Limits::fields` with which the section was parsed.
    limits: (usize, usize),
}

/// If `bytes` begin with the cached request line, copies its parts to `head` and returns its length with its line end.
#[inline]
pub(crate) fn recall_line(bytes: &[u8], limits: &Limits, head: &mut Head) -> Option<usize> {
    MEMO.with_borrow(|memo| {
        let line = memo.line.as_ref()?;
        if !bytes.starts_with(&line.bytes) || line.bytes.len() - "\r\n".len() > limits.request_line {
            return None;
        }
        head.method.clone_from(&line.method);
        (head.version, head.target, head.path) = (line.version, line.target, line.path);
        Some(line.bytes.len())
    })
}

/// Caches the request line `bytes`, which was parsed into `head`. Its spans must be relative to the start of `bytes`.
pub(crate) fn remember_line(bytes: &[u8], head: &Head) {
    if bytes.len() > MAX_LINE {
        return;
    }
    MEMO.with_borrow_mut(|memo| {
        let mut kept = memo.line.take().map_or_else(Vec::new, |line| line.bytes);
        kept.clear();
        kept.extend_from_slice(bytes);
        let Head { version, target, path, .. } = *head;
        memo.line = Some(Line { bytes: kept, method: head.method.clone(), version, target, path });
    });
}

/// If `bytes` begin with a cached field section, returns its facts and its length, and sets `spans`.
#[inline]
pub(crate) fn recall_fields(
    bytes: &[u8],
    limits: &Limits,
    spans: &mut FieldSpans,
) -> Option<(FieldFacts, usize)> {
    MEMO.with_borrow_mut(|memo| {
        let limits = (limits.field_line, limits.fields);
        let is_hit = |section: &Section| bytes.starts_with(&section.bytes) && section.limits == limits;
        if !memo.sections.get(memo.last).is_some_and(is_hit) {
            memo.last = memo.sections.iter().position(is_hit)?;
        }
        let section = &memo.sections[memo.last];
        spans.clone_from(&section.fields);
        Some((section.facts, section.bytes.len()))
    })
}

/// Caches the parsed field section `bytes`. It replaces the section that follows the one used last.
pub(crate) fn remember_fields(bytes: &[u8], fields: &FieldSpans, facts: FieldFacts, limits: &Limits) {
    if bytes.len() > MAX_SECTION {
        return;
    }
    MEMO.with_borrow_mut(|memo| {
        if memo.sections.len() < MAX_SECTIONS {
            memo.last = memo.sections.len();
            memo.sections.push(Section { bytes: Vec::new(), fields: Vec::new(), facts, limits: (0, 0) });
        } else {
            memo.last = (memo.last + 1) % MAX_SECTIONS;
        }
        // The section reuses the memory of the one that it replaces, so that a miss does not allocate.
        let section = &mut memo.sections[memo.last];
        section.bytes.clear();
        section.bytes.extend_from_slice(bytes);
        section.fields.clone_from(fields);
        section.facts = facts;
        section.limits = (limits.field_line, limits.fields);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(request_line: usize) -> Limits {
        Limits { request_line, ..Limits::default() }
    }

    #[test]
    fn the_last_line_is_recalled_within_the_limit() {
        let span = |start, len| Span { start, len };
        let line = b"PUT /a?b HTTP/1.0\r\n";
        let (target, path) = (span(4, 4), span(4, 2));
        let head = Head { method: Method::PUT, version: Version::HTTP_10, target, path, ..Head::default() };
        let mut recalled = Head::default();
        assert_eq!(recall_line(line, &limits(17), &mut recalled), None);
        remember_line(line, &head);
        for (bytes, request_line, len) in [
            (&b"PUT /a?b HTTP/1.0\r\nA: b"[..], 17, Some(19)),
            (b"PUT /a?b HTTP/1.0\r\n", 16, None),
            (b"PUT /a?b HTTP/1.1\r\n", 17, None),
            (b"PUT /a?b HTTP/1.0\r", 17, None),
        ] {
            assert_eq!(recall_line(bytes, &limits(request_line), &mut recalled), len, "{bytes:?}");
        }
        assert_eq!((recalled.method, recalled.version), (Method::PUT, Version::HTTP_10));
        assert_eq!((recalled.target, recalled.path), (target, path));
        for (len, is_kept) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
            let line = vec![len as u8; len];
            remember_line(&line, &head);
            let mut recalled = Head::default();
            assert_eq!(recall_line(&line, &limits(len), &mut recalled), is_kept.then_some(len));
        }
    }

    /// The cached sections among `sections`.
    fn recalled<'a>(sections: &[&'a str], limits: &Limits) -> Vec<&'a str> {
        let is_recalled = |section: &&&str| {
            let mut fields = FieldSpans::new();
            let found = recall_fields(section.as_bytes(), limits, &mut fields).map(|(_, len)| len);
            assert!(found.is_none_or(|len| len == section.len()));
            found.is_some()
        };
        sections.iter().filter(is_recalled).copied().collect()
    }

    fn remember(section: &str) {
        remember_fields(section.as_bytes(), &FieldSpans::new(), FieldFacts::default(), &Limits::default());
    }

    #[test]
    fn a_section_replaces_the_one_that_follows_the_section_used_last() {
        let limits = Limits::default();
        let sections = ["a", "b", "c", "d", "e", "f", "g"];
        sections[..MAX_SECTIONS].iter().for_each(|section| remember(section));
        assert_eq!(recalled(&sections, &limits), sections[..MAX_SECTIONS]);
        remember("e");
        assert_eq!(recalled(&sections, &limits), ["b", "c", "d", "e"]);
        assert_eq!(recalled(&["c"], &limits), ["c"]);
        remember("f");
        assert_eq!(recalled(&sections, &limits), ["b", "c", "e", "f"]);
        assert_eq!(recalled(&["c"], &limits), ["c"]);
        remember("g");
        assert_eq!(recalled(&sections, &limits), ["b", "c", "e", "g"]);
    }

    #[test]
    fn a_section_is_recalled_with_the_limits_it_was_parsed_with() {
        remember("a");
        for (field_line, fields, is_recalled) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            let mut limits = Limits::default();
            (limits.field_line, limits.fields) = (limits.field_line + field_line, limits.fields + fields);
            assert_eq!(recalled(&["a"], &limits).len(), usize::from(is_recalled));
        }
        for (len, is_kept) in [(MAX_SECTION, true), (MAX_SECTION + 1, false)] {
            let section = format!("{len}").repeat(len / 4) + &"x".repeat(len % 4);
            remember(&section);
            assert_eq!(recalled(&[&section], &Limits::default()).len(), usize::from(is_kept));
        }
    }
}
