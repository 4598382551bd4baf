//! The input of the targets: a script of choices, then the bytes that the peer sends.
//!
//! The layout is the same for every target, so that an input that one target found is a seed for the others. The
//! script has a fixed length, so that a mutation of the wire does not shift the choices, and a mutation of the choices
//! does not shift the wire.

use std::sync::Arc;

use gearshift_core::h1::{Connection, Event};
use gearshift_core::{Limits, Response};

/// Bytes of choices at the start of an input.
pub const SCRIPT: usize = 16;

/// The two parts of an input.
#[derive(Clone)]
pub struct Input<'a> {
    /// The choices of the target.
    pub choices: Choices<'a>,
    /// What the peer sends.
    pub wire: &'a [u8],
}

impl<'a> Input<'a> {
    /// Splits `bytes`. `None` if they are shorter than a script.
    pub fn read(bytes: &'a [u8]) -> Option<Input<'a>> {
        let (script, wire) = bytes.split_first_chunk::<SCRIPT>()?;
        Some(Input { choices: Choices { script, at: 0 }, wire })
    }
}

/// The choices. The script is repeated at its end.
#[derive(Clone)]
pub struct Choices<'a> {
    script: &'a [u8; SCRIPT],
    at: usize,
}

impl Choices<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let byte = self.script[self.at % SCRIPT];
        self.at += 1;
        byte
    }

    /// One of `options`.
    pub fn of<T: Copy>(&mut self, options: &[T]) -> T {
        options[usize::from(self.byte()) % options.len()]
    }

    /// The limits of a connection: the default limits if all choices are 0, else mostly small limits.
    pub fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        limits.request_line = self.of(&[limits.request_line, 64, 30, 15]);
        limits.field_line = self.of(&[limits.field_line, 64, 20]);
        (limits.fields, limits.head) = self.of(&[
            (limits.fields, limits.head),
            (3, 256),
            (1, 64),
            (Limits::MAX_FIELDS, Limits::MAX_HEAD),
        ]);
        (limits.body, limits.drain) =
            self.of(&[(limits.body, limits.drain), (40, 10), (1000, 0), (0, 0), (u64::MAX, u64::MAX)]);
        limits
    }
}

/// Makes this thread forget the heads that it has read, so that the result of an input depends on that input alone.
///
/// Each thread keeps the last request line and the last few field sections. This function replaces them by heads that
/// occur nowhere else.
pub(crate) fn forget() {
    thread_local! {
        static NEVER_BEFORE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let limits = Arc::new(Limits::default());
    for _ in 0..8 {
        let number = NEVER_BEFORE.replace(NEVER_BEFORE.get() + 1);
        let mut connection = Connection::new(limits.clone(), false, false);
        let head = format!("GET /forget/{number} HTTP/1.1\r\nHost: forget\r\nNumber: {number}\r\n\r\n");
        connection.read_buffer.extend(head.as_bytes());
        assert!(matches!(connection.next_event(), Event::Request(_)), "a plain request was not taken");
        connection.respond_whole(&mut Response::text(""), 0);
    }
}
