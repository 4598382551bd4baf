//! The tally of the requests that a connection has answered since its last flush.
//!
//! The counters of the server are shared by connections. Pipelined requests are therefore counted together, when their
//! responses have been written.

use http::StatusCode;

use crate::runtime::counters::Counters;

/// See the [module](self). The calls for one request are `begin`, then `responds` or `responded`; then it is answered.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The number of requests that were answered.
    pub(crate) answered: u32,
    /// The number of answered requests that the counters include already, because their status is not 2xx or an
    /// exchange has counted them.
    counted: u32,
    /// The number of requests whose handlers the stall detector has timed, with the one that is not answered yet.
    pub(crate) timed: u32,
    /// Whether the counters include this connection in the requests in flight.
    busy: bool,
}

impl Tally {
    /// Records that a handler is about to be called.
    #[inline]
    pub(crate) fn begin(&mut self, counters: &Counters) {
        if !self.busy {
            self.busy = true;
            counters.here().busy();
        }
    }

    /// Records the status of a response.
    #[inline]
    pub(crate) fn responds(&mut self, status: StatusCode, counters: &Counters) {
        if !status.is_success() {
            self.counted += 1;
            counters.here().responded(status);
        }
    }

    /// Records a response that its exchange has counted.
    pub(crate) fn responded(&mut self) {
        self.counted += 1;
    }

    /// Adds the tally to the counters and resets it. No request is in flight after this.
    #[inline]
    pub(crate) fn settle(&mut self, counters: &Counters) {
        if self.busy {
            counters.here().idle((self.answered - self.counted).into());
        }
        *self = Tally::default();
    }
}
