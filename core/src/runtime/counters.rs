//! What connections count while they are served, so that counting costs no thread another one's time.
//!
//! Each thread adds to a shard of its own, once a turn where it can; whoever reads adds the shards up. A gauge may go up
//! in one shard and down in another: only the sum means something.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;

use crate::runtime::config::cores;

/// No machine has that many threads on a core each that it would matter.
const MAX_SHARDS: usize = 64;

/// The counts of one server.
#[derive(Debug)]
pub(crate) struct Counters {
    /// As many as a power of two.
    shards: Box<[Shard]>,
    accepted: AtomicU64,
    rejected: AtomicU64,
}

/// The connections of one server, which are looked at for each new one: not in shards.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicUsize,
    pub(crate) refused: AtomicU64,
}

/// The counts of some threads; no two shards are on one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    in_flight: AtomicU64,
    /// By the first digit of their status, less 1.
    responses: [AtomicU64; 5],
    received: AtomicU64,
    sent: AtomicU64,
}

/// All shards together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) in_flight: u64,
    pub(crate) responses: [u64; 5],
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        let n = (2 * cores()).next_power_of_two().min(MAX_SHARDS);
        let shards = (0..n).map(|_| Shard::default()).collect();
        Counters { shards, accepted: AtomicU64::new(0), rejected: AtomicU64::new(0) }
    }
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A number for the calling thread.
#[inline]
fn number() -> usize {
    match NUMBER.get() {
        usize::MAX => take_number(),
        number => number,
    }
}

#[cold]
fn take_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % MAX_SHARDS;
    NUMBER.set(number);
    number
}

impl Counters {
    /// The calling thread's shard.
    #[inline]
    pub(crate) fn here(&self) -> &Shard {
        &self.shards[number() & (self.shards.len() - 1)]
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection itself answered, in place of the application.
    pub(crate) fn rejected(&self, status: StatusCode) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.here().responded(status);
    }

    pub(crate) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals =
            Totals { accepted: read(&self.accepted), rejected: read(&self.rejected), ..Totals::default() };
        for shard in &self.shards {
            totals.in_flight = totals.in_flight.wrapping_add(read(&shard.in_flight));
            totals.received += read(&shard.received);
            totals.sent += read(&shard.sent);
            for (total, responses) in totals.responses.iter_mut().zip(&shard.responses) {
                *total += read(responses);
            }
        }
        // Something may have gone down in a shard after it was read to be up in another.
        totals.in_flight = u64::try_from(totals.in_flight.cast_signed()).unwrap_or(0);
        totals
    }
}

impl Shard {
    /// A connection has a request that is being answered.
    #[inline]
    pub(crate) fn busy(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// It has none any more; `ok` responses with a status of 2xx were not counted yet.
    #[inline]
    pub(crate) fn idle(&self, ok: u64) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.responses[1].fetch_add(ok, Ordering::Relaxed);
    }

    /// A response was given.
    pub(crate) fn responded(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.responses[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes came in.
    #[inline]
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes went out.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn what_goes_up_on_one_thread_may_go_down_on_another() {
        let counters = Arc::new(Counters::default());
        counters.here().busy();
        assert_eq!(counters.totals().in_flight, 1);
        for _ in 0..3 {
            let (begins, ends) = (counters.clone(), counters.clone());
            thread::spawn(move || begins.here().busy()).join().unwrap();
            thread::spawn(move || ends.here().idle(2)).join().unwrap();
        }
        counters.here().idle(0);
        let totals = counters.totals();
        assert_eq!((totals.in_flight, totals.responses), (0, [0, 6, 0, 0, 0]));
    }

    #[test]
    fn responses_are_counted_by_class_whatever_their_status() {
        let counters = Counters::default();
        for status in [101, 204, 304, 404, 431, 503, 999] {
            counters.here().responded(StatusCode::from_u16(status).unwrap());
        }
        counters.rejected(StatusCode::BAD_REQUEST);
        let totals = counters.totals();
        assert_eq!((totals.responses, totals.rejected), ([1, 1, 1, 3, 2], 1));
    }
}
