//! The request line and the field sections that this thread read last.
//!
//! A client says the same about itself in every request of a connection, and so do all that a proxy sends: of
//! request after request only the first line differs, and not always that. A field section that is, byte for byte,
//! one of the last few needs no second parsing, nor does a line that is the last one; the comparison also finds
//! their ends.

use std::cell::RefCell;

use http::{Method, Version};

use crate::proto::fields::{FieldSpan, FieldSpans, Span};
use crate::proto::framing::FieldFacts;
use crate::proto::limits::Limits;
use crate::proto::request::Head;

/// Sections that are kept.
const SECTIONS: usize = 4;
/// The longest line that is worth keeping, in bytes.
const LONGEST_LINE: usize = 256;
/// The longest section that is worth keeping, in bytes.
const LONGEST: usize = 2048;

thread_local! {
    static MEMO: RefCell<Memo> = const { RefCell::new(Memo { line: None, sections: Vec::new(), last: 0 }) };
}

struct Memo {
    line: Option<Line>,
    sections: Vec<Section>,
    /// Which was met last.
    last: usize,
}

/// A request line with its end, and what was made of it.
struct Line {
    bytes: Vec<u8>,
    method: Method,
    version: Version,
    target: Span,
    path: Span,
}

/// Field lines and the empty line behind them, and what was made of them.
struct Section {
    bytes: Vec<u8>,
    /// Relative to the section.
    fields: Vec<FieldSpan>,
    facts: FieldFacts,
    /// The limits that it was found to keep.
    limits: (usize, usize),
}

/// The request line at the start of `bytes`, if it is the last one again: what it says in `head`, and where it ends.
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

/// Keeps a line of the common kind that was read into `head`.
pub(crate) fn remember_line(bytes: &[u8], head: &Head) {
    if bytes.len() > LONGEST_LINE {
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

/// The fields at the start of `bytes`, if they are known: what they say, how long they are, and, in `spans`, where. `at`
/// is where `bytes` begin in the head.
#[inline]
pub(crate) fn recall_fields(
    bytes: &[u8],
    at: usize,
    limits: &Limits,
    spans: &mut FieldSpans,
) -> Option<(FieldFacts, usize)> {
    MEMO.with_borrow_mut(|memo| {
        let limits = (limits.field_line, limits.fields);
        let is_it = |section: &Section| bytes.starts_with(&section.bytes) && section.limits == limits;
        if !memo.sections.get(memo.last).is_some_and(is_it) {
            memo.last = memo.sections.iter().position(is_it)?;
        }
        let section = &memo.sections[memo.last];
        let at = u16::try_from(at).ok()?;
        u16::try_from(usize::from(at) + section.bytes.len()).ok()?;
        let shift = |span: Span| Span { start: span.start + at, len: span.len };
        let moved = section
            .fields
            .iter()
            .map(|field| FieldSpan { name: shift(field.name), value: shift(field.value) });
        spans.clear();
        spans.extend(moved);
        Some((section.facts, section.bytes.len()))
    })
}

/// Keeps a section that was parsed. `at` is where it began in the head.
pub(crate) fn remember_fields(
    bytes: &[u8],
    at: usize,
    fields: &FieldSpans,
    facts: FieldFacts,
    limits: &Limits,
) {
    if bytes.len() > LONGEST {
        return;
    }
    let at = at as u16;
    let shift = |span: Span| Span { start: span.start - at, len: span.len };
    let fields = fields.iter().map(|field| FieldSpan { name: shift(field.name), value: shift(field.value) });
    MEMO.with_borrow_mut(|memo| {
        if memo.sections.len() < SECTIONS {
            memo.last = memo.sections.len();
            let empty = Section { bytes: Vec::new(), fields: Vec::new(), facts, limits: (0, 0) };
            memo.sections.push(empty);
        } else {
            memo.last = (memo.last + 1) % SECTIONS;
        }
        // Memory is kept, so that strangers who take turns cost no allocation.
        let section = &mut memo.sections[memo.last];
        section.bytes.clear();
        section.bytes.extend_from_slice(bytes);
        section.fields.clear();
        section.fields.extend(fields);
        section.facts = facts;
        section.limits = (limits.field_line, limits.fields);
    });
}
