//! The requests that a connection has answered in one turn, counted when the turn ends.

use http::StatusCode;

use crate::runtime::counters::Counters;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: u32,
    /// Those of them that were counted one by one, as their status is not 2xx or was not known at once.
    counted: u32,
    /// Whether the connection counts as having a request in flight.
    busy: bool,
}

impl Tally {
    /// A request is about to be answered.
    #[inline]
    pub(crate) fn begin(&mut self, counters: &Counters) {
        if !self.busy {
            self.busy = true;
            counters.here().busy();
        }
    }

    /// A response has this status. [`Tally::answered`] is still to be said.
    #[inline]
    pub(crate) fn responds(&mut self, status: StatusCode, counters: &Counters) {
        if !status.is_success() {
            self.counted += 1;
            counters.here().responded(status);
        }
    }

    /// An exchange has counted its response itself. [`Tally::answered`] is still to be said.
    pub(crate) fn responded(&mut self) {
        self.counted += 1;
    }

    /// One more request was answered; says how many that are.
    #[inline]
    pub(crate) fn answered(&mut self) -> u32 {
        self.answered += 1;
        self.answered
    }

    /// How many were answered.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.answered
    }

    /// The turn ends, and nothing is in flight any more.
    #[inline]
    pub(crate) fn settle(&mut self, counters: &Counters) {
        if self.busy {
            counters.here().idle((self.answered - self.counted).into());
        }
        *self = Tally::default();
    }
}
