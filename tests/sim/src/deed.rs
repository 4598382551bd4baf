//! The behaviour of the simulation's own application, which the target of a request selects.

use std::time::Duration;

use fastrand::Rng;

/// The kind of a handler, the length of its wait, and the size of its answer in bytes and pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    pub(crate) pause: Duration,
    pub(crate) size: usize,
    pub(crate) pieces: usize,
}

/// The kinds of handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers at once, without looking at the body.
    Now,
    /// Answers after a wait, without looking at the body.
    Sleep,
    /// Reads the body as it arrives and reports what it read.
    Read,
    /// Waits, then reads.
    LateRead,
    /// Reads, then waits.
    ReadLate,
    /// Reads one piece, waits, reads on.
    ReadSlow,
    /// Reads one piece, then answers.
    ReadSome,
    /// Reads by blocking calls. On an event loop it reads like [`Kind::Read`].
    Reader,
    /// Gives the body back.
    Echo,
    /// Keeps the body for a background task, which has to find it either gone or complete.
    Keep,
    /// Waits for a piece with a timeout, then answers.
    Patience,
    /// Streams an answer of unknown length.
    Stream,
    /// Streams an answer of known length.
    Sized,
    /// Streams an answer that fails before its end.
    Broken,
    /// Panics when it is called.
    PanicNow,
    /// Panics after a wait.
    PanicLater,
    /// Panics while its answer is streamed.
    PanicWithin,
    /// Leaves a background task behind.
    Spawn,
    /// Waits for a background task that does the work.
    Await,
    /// Computes on a thread of the compute pool.
    Offload,
    /// Answers with `Connection: close`.
    Close,
    /// Answers 204.
    Empty,
}

const KINDS: [(Kind, &str); 22] = [
    (Kind::Now, "now"),
    (Kind::Sleep, "sleep"),
    (Kind::Read, "read"),
    (Kind::LateRead, "late-read"),
    (Kind::ReadLate, "read-late"),
    (Kind::ReadSlow, "read-slow"),
    (Kind::ReadSome, "read-some"),
    (Kind::Reader, "reader"),
    (Kind::Echo, "echo"),
    (Kind::Keep, "keep"),
    (Kind::Patience, "patience"),
    (Kind::Stream, "stream"),
    (Kind::Sized, "sized"),
    (Kind::Broken, "broken"),
    (Kind::PanicNow, "panic-now"),
    (Kind::PanicLater, "panic-later"),
    (Kind::PanicWithin, "panic-within"),
    (Kind::Spawn, "spawn"),
    (Kind::Await, "await"),
    (Kind::Offload, "offload"),
    (Kind::Close, "close"),
    (Kind::Empty, "empty"),
];

impl Deed {
    /// A random deed. Closing answers and panics are rarer than the others.
    pub(crate) fn draw(rng: &mut Rng) -> Deed {
        let mut kind = KINDS[rng.usize(..KINDS.len())].0;
        if kind.ends_connection() && rng.u8(..3) > 0 {
            kind = Kind::Now;
        }
        if kind == Kind::Now && rng.bool() {
            kind = [Kind::Read, Kind::Echo, Kind::Sleep, Kind::Stream][rng.usize(..4)];
        }
        let size = match rng.u8(..16) {
            0 => rng.usize(..100_000),
            1..4 => rng.usize(..5_000),
            4 => 0,
            _ => rng.usize(..200),
        };
        let pause = match rng.u8(..8) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(rng.u64(..20_000)),
            _ => Duration::from_micros(rng.u64(..50_000)),
        };
        Deed { kind, pause, size, pieces: rng.usize(1..6) }
    }

    /// The target that selects this deed.
    pub(crate) fn target(self) -> String {
        let (_, name) = KINDS.iter().find(|(kind, _)| *kind == self.kind).expect("every kind is listed");
        format!("/{name}/{}/{}/{}", self.pause.as_micros(), self.size, self.pieces)
    }

    /// The deed that a target selects.
    pub(crate) fn parse(target: &str) -> Option<Deed> {
        let mut parts = target.strip_prefix('/')?.split('/');
        let name = parts.next()?;
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == name)?;
        let pause = Duration::from_micros(parts.next()?.parse().ok()?);
        Some(Deed {
            kind: *kind,
            pause,
            size: parts.next()?.parse().ok()?,
            pieces: parts.next()?.parse().ok()?,
        })
    }
}

impl Kind {
    /// Whether the connection has to end with this request.
    pub(crate) fn ends_connection(self) -> bool {
        use Kind::{Broken, Close, PanicLater, PanicNow, PanicWithin};
        matches!(self, Close | PanicNow | PanicLater | PanicWithin | Broken)
    }

    /// Whether the handler reads the whole body and reports what it read.
    pub(crate) fn reads(self) -> bool {
        use Kind::{LateRead, Read, ReadLate, ReadSlow, Reader};
        matches!(self, Read | LateRead | ReadLate | ReadSlow | Reader)
    }

    /// Whether the handler may leave a body unread that has not arrived.
    pub(crate) fn may_leave_body(self) -> bool {
        !self.reads() && self != Kind::Echo
    }

    /// Whether the answer is streamed.
    pub(crate) fn streams(self) -> bool {
        use Kind::{Broken, Echo, PanicWithin, Sized, Stream};
        matches!(self, Echo | Stream | Sized | Broken | PanicWithin)
    }
}
