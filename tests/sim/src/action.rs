//! What the simulation's own application does for a request. The target of the request says it.

use std::time::Duration;

use fastrand::Rng;

/// What a handler does, how long it waits, the size of its response, and the number of pieces of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) kind: Kind,
    pub(crate) pause: Duration,
    pub(crate) size: usize,
    pub(crate) pieces: usize,
}

/// The kinds of handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers at once, without reading the body.
    Now,
    /// Answers after a wait, without reading the body.
    Sleep,
    /// Reads the body as it arrives, and says in the response what it read.
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
    /// Answers with the body of the request.
    Echo,
    /// Waits, then answers with the body of the request.
    LateEcho,
    /// Answers with the body of the request, holds its thread in that time, and reads by blocking calls where threads
    /// block.
    HeldEcho,
    /// Keeps the body for a background task, which must find it gone, or complete.
    Keep,
    /// Has a background task read the body, and waits for the task.
    Hand,
    /// Has a background task read the body, and answers after a wait, whether the task has read everything or not.
    Abandon,
    /// Has a background task poll for the body and hand it to another task, and answers after a wait.
    Pass,
    /// Has a background task read the body, and streams its answer in the same time.
    Split,
    /// Waits for a piece of the body for a limited time, then answers.
    Patience,
    /// Streams a response of unknown length.
    Stream,
    /// Streams a response that holds its thread.
    Held,
    /// Streams a response of known length.
    Sized,
    /// Streams a response that fails before its end.
    Broken,
    /// Panics when it is called.
    PanicNow,
    /// Panics after a wait.
    PanicLater,
    /// Panics while its response is streamed.
    PanicWithin,
    /// Leaves a background task behind.
    Spawn,
    /// Has a background task make the response, and waits for the task.
    Await,
    /// Makes the response on a pool.
    Offload,
    /// Has a background task keep the cancel token for longer than the request.
    Token,
    /// Looks at its cancel token while it works.
    Watch,
    /// Switches to a protocol that echoes all bytes, and ends when the server stops.
    Upgrade,
    /// Switches to a protocol that echoes all bytes, and does not care for the stop.
    Tunnel,
    /// Switches to another protocol, and neither reads nor writes for a while.
    Hold,
    /// Switches to another protocol, closes the connection, and goes on.
    Release,
    /// Answers with `Connection: close`.
    Close,
    /// Answers 204.
    Empty,
}

const KINDS: [(Kind, &str); 35] = [
    (Kind::Now, "now"),
    (Kind::Sleep, "sleep"),
    (Kind::Read, "read"),
    (Kind::LateRead, "late-read"),
    (Kind::ReadLate, "read-late"),
    (Kind::ReadSlow, "read-slow"),
    (Kind::ReadSome, "read-some"),
    (Kind::Reader, "reader"),
    (Kind::Echo, "echo"),
    (Kind::LateEcho, "late-echo"),
    (Kind::HeldEcho, "held-echo"),
    (Kind::Keep, "keep"),
    (Kind::Hand, "hand"),
    (Kind::Abandon, "abandon"),
    (Kind::Pass, "pass"),
    (Kind::Split, "split"),
    (Kind::Patience, "patience"),
    (Kind::Stream, "stream"),
    (Kind::Held, "held"),
    (Kind::Sized, "sized"),
    (Kind::Broken, "broken"),
    (Kind::PanicNow, "panic-now"),
    (Kind::PanicLater, "panic-later"),
    (Kind::PanicWithin, "panic-within"),
    (Kind::Spawn, "spawn"),
    (Kind::Await, "await"),
    (Kind::Offload, "offload"),
    (Kind::Token, "token"),
    (Kind::Watch, "watch"),
    (Kind::Upgrade, "upgrade"),
    (Kind::Tunnel, "tunnel"),
    (Kind::Hold, "hold"),
    (Kind::Release, "release"),
    (Kind::Close, "close"),
    (Kind::Empty, "empty"),
];

impl Action {
    /// A random action. Those that end the connection are rarer than the others.
    pub(crate) fn draw(rng: &mut Rng) -> Action {
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
            // Nothing limits the pauses of a stream, which are a quarter of this.
            1..4 if kind == Kind::Hold => Duration::from_millis(rng.u64(..120_000)),
            1 | 2 if kind.streams() && kind != Kind::Held => Duration::from_millis(rng.u64(..120_000)),
            1 => Duration::from_millis(rng.u64(..20_000)),
            2 => Duration::from_millis(rng.u64(..1_000)),
            _ => Duration::from_micros(rng.u64(..50_000)),
        };
        Action { kind, pause, size, pieces: rng.usize(1..6) }
    }

    /// The target that asks for this action.
    pub(crate) fn target(self) -> String {
        let (_, name) = KINDS.iter().find(|(kind, _)| *kind == self.kind).expect("every kind is listed");
        format!("/{name}/{}/{}/{}", self.pause.as_micros(), self.size, self.pieces)
    }

    /// The action that a target asks for.
    pub(crate) fn parse(target: &str) -> Option<Action> {
        let mut parts = target.strip_prefix('/')?.split('/');
        let name = parts.next()?;
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == name)?;
        let pause = Duration::from_micros(parts.next()?.parse().ok()?);
        Some(Action {
            kind: *kind,
            pause,
            size: parts.next()?.parse().ok()?,
            pieces: parts.next()?.parse().ok()?,
        })
    }
}

impl Action {
    /// Whether the handler adds a trailer to its response.
    pub(crate) fn has_trailer(self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Held | Kind::Split | Kind::Broken)
            && self.pieces.is_multiple_of(2)
    }
}

impl Kind {
    /// Whether the connection has to end after it.
    pub(crate) fn ends_connection(self) -> bool {
        use Kind::{Broken, Close, PanicLater, PanicNow, PanicWithin};
        matches!(self, Close | PanicNow | PanicLater | PanicWithin | Broken)
    }

    /// Whether the handler reads the whole body and says what it read.
    pub(crate) fn reads(self) -> bool {
        use Kind::{Hand, LateRead, Read, ReadLate, ReadSlow, Reader};
        matches!(self, Read | LateRead | ReadLate | ReadSlow | Reader | Hand)
    }

    /// Whether the handler may leave a part of the body unread.
    pub(crate) fn may_leave_body(self) -> bool {
        !self.reads() && !self.echoes()
    }

    /// Whether the response is the body of the request.
    pub(crate) fn echoes(self) -> bool {
        matches!(self, Kind::Echo | Kind::LateEcho | Kind::HeldEcho)
    }

    /// Whether the connection leaves HTTP with the response, if the request offers that.
    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Kind::Upgrade | Kind::Tunnel | Kind::Hold | Kind::Release)
    }

    /// Whether the response is streamed.
    pub(crate) fn streams(self) -> bool {
        use Kind::{Broken, Held, PanicWithin, Sized, Split, Stream};
        matches!(self, Stream | Held | Sized | Split | Broken | PanicWithin) || self.echoes()
    }
}
