//! What the simulation's own application does about a request, written in the request's target.

use std::time::Duration;

use fastrand::Rng;

/// What to do, after how long a wait, and how much to answer in how many pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    pub(crate) pause: Duration,
    pub(crate) size: usize,
    pub(crate) pieces: usize,
}

/// The kinds of handlers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers at once, without looking at the body.
    Now,
    /// Answers after a wait, without looking at the body.
    Sleep,
    /// Reads the body as it comes and tells what it read.
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
    /// Keeps the body for a background task, which must find it gone, or all there.
    Keep,
    /// Has a background task read the body, and waits for that.
    Hand,
    /// Has a background task read the body, and answers after a wait, whether that has come to the end or not.
    Abandon,
    /// Has a background task read the body, and streams its answer in the same time.
    Split,
    /// Waits for a piece for so long only, then answers.
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
    /// Has a background task do it, and waits for that.
    Await,
    /// Computes elsewhere.
    Offload,
    /// Answers that this is the last.
    Close,
    /// Answers 204.
    Empty,
}

const KINDS: [(Kind, &str); 25] = [
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
    (Kind::Hand, "hand"),
    (Kind::Abandon, "abandon"),
    (Kind::Split, "split"),
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
    /// Any deed; ends and panics are rarer than the others.
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
            2 => Duration::from_millis(rng.u64(..1_000)),
            _ => Duration::from_micros(rng.u64(..50_000)),
        };
        Deed { kind, pause, size, pieces: rng.usize(1..6) }
    }

    /// The target that asks for it.
    pub(crate) fn target(self) -> String {
        let (_, name) = KINDS.iter().find(|(kind, _)| *kind == self.kind).expect("every kind is listed");
        format!("/{name}/{}/{}/{}", self.pause.as_micros(), self.size, self.pieces)
    }

    /// The deed that a target asks for.
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
    /// Whether the connection must not outlive it.
    pub(crate) fn ends_connection(self) -> bool {
        use Kind::{Broken, Close, PanicLater, PanicNow, PanicWithin};
        matches!(self, Close | PanicNow | PanicLater | PanicWithin | Broken)
    }

    /// Whether it tells what it read of the body, all of it.
    pub(crate) fn reads(self) -> bool {
        use Kind::{Hand, LateRead, Read, ReadLate, ReadSlow, Reader};
        matches!(self, Read | LateRead | ReadLate | ReadSlow | Reader | Hand)
    }

    /// Whether a body that has not arrived may be left unread by it.
    pub(crate) fn may_leave_body(self) -> bool {
        !self.reads() && self != Kind::Echo
    }

    /// Whether its answer is streamed.
    pub(crate) fn streams(self) -> bool {
        use Kind::{Broken, Echo, PanicWithin, Sized, Split, Stream};
        matches!(self, Echo | Stream | Sized | Split | Broken | PanicWithin)
    }
}
