//! One connection, as the poller and the workers pass it between them.
//!
//! A connection is registered with the poller once and never disarmed, so news may come while a worker drives it.
//! The slot remembers that, and the worker drives it once more instead of parking it: that is what saves a system
//! call for each request, and loses nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gearshift_core::clock::CoarseInstant;
use mio::Token;

/// Where one connection is; `W` is what is driven. The lock is held for no longer than a move.
#[derive(Debug)]
pub(crate) struct Slot<W> {
    token: Token,
    inner: Mutex<Inner<W>>,
}

#[derive(Debug)]
struct Inner<W> {
    state: State<W>,
    /// Whether the peer has sent all it will, so that the connection is driven on to its end.
    ended: bool,
}

#[derive(Debug)]
enum State<W> {
    /// It is idle.
    Parked(W),
    /// It is in the queue, or about to be, since then.
    Ready(W, CoarseInstant),
    /// A worker has it.
    Driven {
        /// Whether something has arrived since the worker took it.
        news: bool,
    },
    /// It has ended.
    Closed,
}

/// What has become of a connection that a worker gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It waits for news.
    Parked,
    /// It is to be driven again, by whoever queues it or takes it.
    Ready,
}

impl<W> Slot<W> {
    /// A connection that is idle.
    pub(crate) fn new(token: Token, wire: W) -> Slot<W> {
        Slot { token, inner: Mutex::new(Inner { state: State::Parked(wire), ended: false }) }
    }

    /// How the poller speaks of it.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// There is news, maybe the last: says whether the connection is to be queued for it.
    pub(crate) fn tell(&self, ended: bool) -> bool {
        let mut inner = self.lock();
        inner.ended |= ended;
        match std::mem::replace(&mut inner.state, State::Closed) {
            State::Parked(wire) => {
                inner.state = State::Ready(wire, CoarseInstant::now());
                true
            }
            State::Driven { .. } => {
                inner.state = State::Driven { news: true };
                false
            }
            state @ (State::Ready(..) | State::Closed) => {
                inner.state = state;
                false
            }
        }
    }

    /// A worker takes the connection to drive it, and is told since when that was due; `None` if it is not.
    pub(crate) fn take(&self) -> Option<(W, CoarseInstant)> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.state, State::Driven { news: false }) {
            State::Ready(wire, since) => Some((wire, since)),
            state => {
                inner.state = state;
                None
            }
        }
    }

    /// A worker gives the connection back, to be driven again if it says so, or if there was news.
    pub(crate) fn give(&self, wire: W, again: bool) -> Given {
        let mut inner = self.lock();
        if again || inner.ended || matches!(inner.state, State::Driven { news: true }) {
            inner.state = State::Ready(wire, CoarseInstant::now());
            Given::Ready
        } else {
            inner.state = State::Parked(wire);
            Given::Parked
        }
    }

    /// The connection has ended.
    pub(crate) fn close(&self) {
        let before = std::mem::replace(&mut self.lock().state, State::Closed);
        drop(before);
    }

    /// Looks at the connection if it is idle.
    pub(crate) fn parked<R>(&self, look: impl FnOnce(&W) -> R) -> Option<R> {
        match &self.lock().state {
            State::Parked(wire) => Some(look(wire)),
            _ => None,
        }
    }

    /// Whether a worker has it.
    pub(crate) fn is_driven(&self) -> bool {
        matches!(self.lock().state, State::Driven { .. })
    }

    /// Nothing is left half done by a panic under this lock.
    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked() -> Slot<&'static str> {
        Slot::new(Token(7), "wire")
    }

    #[test]
    fn news_queues_a_parked_connection_once() {
        let slot = parked();
        assert!(slot.tell(false));
        assert!(!slot.tell(false), "it is in the queue already");
        assert!(slot.take().is_some());
        assert!(slot.take().is_none(), "one worker has it");
        assert!(slot.is_driven());
        assert_eq!(slot.give("wire", false), Given::Parked);
        assert!(slot.take().is_none(), "it is parked");
        assert_eq!(slot.parked(|wire| *wire), Some("wire"));
    }

    #[test]
    fn news_for_a_driven_connection_has_it_driven_once_more() {
        let slot = parked();
        assert!(slot.tell(false));
        assert!(slot.take().is_some());
        assert!(!slot.tell(false), "its worker sees to that");
        assert_eq!(slot.give("wire", false), Given::Ready);
        assert!(slot.take().is_some());
        assert_eq!(slot.give("wire", false), Given::Parked, "the news was used up");
    }

    #[test]
    fn a_connection_that_is_ready_is_not_parked() {
        let slot = parked();
        assert!(slot.tell(false));
        assert!(slot.take().is_some());
        assert_eq!(slot.give("wire", true), Given::Ready);
        assert_eq!(slot.parked(|_| ()), None);
    }

    #[test]
    fn a_connection_whose_peer_is_done_is_driven_to_its_end() {
        let slot = parked();
        assert!(slot.tell(true));
        for _ in 0..3 {
            assert!(slot.take().is_some());
            assert_eq!(slot.give("wire", false), Given::Ready);
        }
        slot.close();
        assert!(slot.take().is_none());
    }

    #[test]
    fn nothing_reaches_a_closed_connection() {
        let slot = parked();
        assert!(slot.tell(false));
        assert!(slot.take().is_some());
        slot.close();
        assert!(!slot.tell(true));
        assert!(slot.take().is_none());
        assert_eq!(slot.parked(|_| ()), None);
        assert!(!slot.is_driven());
    }
}
