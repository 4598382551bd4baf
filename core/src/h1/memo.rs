//! The field sections that this thread read last.
//!
//! A client says the same about itself in every request of a connection, and so do all that a proxy sends: of
//! request after request only the first line differs. A field section that is, byte for byte, one of the last few
//! needs no second parsing; the comparison also finds its end.

use std::cell::RefCell;

use super::framing::FieldFacts;
use crate::config::Limits;
use crate::message::{FieldSpan, FieldSpans, Span};

/// Sections that are kept.
const SECTIONS: usize = 4;
/// The longest that is worth keeping, in bytes.
const LONGEST: usize = 2048;

thread_local! {
    static MEMO: RefCell<Memo> = const { RefCell::new(Memo { sections: Vec::new(), last: 0 }) };
}

struct Memo {
    sections: Vec<Section>,
    /// Which was met last.
    last: usize,
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

/// The fields at the start of `bytes`, if they are known: what they say, how long they are, and, in `spans`, where. `at`
/// is where `bytes` begin in the head.
#[inline]
pub(crate) fn recall(
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
pub(crate) fn remember(bytes: &[u8], at: usize, fields: &FieldSpans, facts: FieldFacts, limits: &Limits) {
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
