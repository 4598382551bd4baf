//! The counters of a server. Threads do not contend for them.
//!
//! Each thread adds to a shard, and a reader sums all shards. A gauge may be incremented in one shard and decremented
//! in another, so that only the sum is meaningful.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::runtime::config::cores;
use crate::runtime::histograms::Histograms;
use crate::runtime::stall::RouteName;
use crate::runtime::stats::Stats;

/// The largest number of shards. Beyond it, threads share shards.
const MAX_SHARDS: usize = 64;

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Counters {
    /// The number of shards is a power of two.
    shards: Box<[Shard]>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    /// `None` unless the settings ask for them.
    histograms: Option<Histograms>,
}

/// The counters that the server reads for each new connection. They are not sharded.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicUsize,
    /// The open connections that have left HTTP.
    pub(crate) upgraded: AtomicUsize,
    pub(crate) refused: AtomicU64,
}

/// The counters of one or more threads. The alignment keeps two shards off one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    in_flight: AtomicU64,
    /// By class of status: index 0 is 1xx.
    responses: [AtomicU64; 5],
    received: AtomicU64,
    sent: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new(0)
    }
}

/// The number of threads that have a shard number.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The shard number of the thread.
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % MAX_SHARDS;
}

impl Counters {
    /// Creates the counters with histograms for this number of routes.
    pub(crate) fn new(routes: usize) -> Counters {
        let n = (2 * cores()).next_power_of_two().min(MAX_SHARDS);
        let shards = (0..n).map(|_| Shard::default()).collect();
        let histograms = Histograms::new(routes, n);
        Counters { shards, accepted: AtomicU64::new(0), rejected: AtomicU64::new(0), histograms }
    }

    /// The shard of the calling thread.
    #[inline]
    pub(crate) fn here(&self) -> &Shard {
        NUMBER.with(|number| &self.shards[number & (self.shards.len() - 1)])
    }

    /// Whether the requests of routes are counted by their duration.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.is_some()
    }

    /// Counts a request by its duration.
    pub(crate) fn observe(&self, route: RouteName, duration: Duration) {
        if let Some(histograms) = &self.histograms {
            let shard = NUMBER.with(|number| number & (self.shards.len() - 1));
            histograms.observe(route, shard, duration);
        }
    }

    /// Counts an accepted connection.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a response of the server itself, instead of the application.
    pub(crate) fn rejected(&self, status: StatusCode) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.here().responded(status);
    }

    /// Sums the shards. The other statistics have their default.
    pub(crate) fn totals(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals = Stats {
            connections_accepted: read(&self.accepted),
            requests_rejected: read(&self.rejected),
            routes: self.histograms.as_ref().map(Histograms::totals).unwrap_or_default(),
            ..Stats::default()
        };
        let mut in_flight = 0_u64;
        for shard in &self.shards {
            in_flight = in_flight.wrapping_add(read(&shard.in_flight));
            totals.bytes_received += read(&shard.received);
            totals.bytes_sent += read(&shard.sent);
            for (total, responses) in totals.responses.iter_mut().zip(&shard.responses) {
                *total += read(responses);
            }
        }
        // The sum can be negative: an increment may follow the read of its shard, and the decrement precede that of
        // another.
        totals.requests_in_flight = u64::try_from(in_flight.cast_signed()).unwrap_or(0);
        totals.requests_served =
            totals.responses.iter().sum::<u64>().saturating_sub(totals.requests_rejected);
        totals
    }
}

impl Shard {
    /// Counts a connection whose request is being answered.
    #[inline]
    pub(crate) fn busy(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the count of [`Shard::busy`], and adds `ok` responses with status 2xx that were not counted one by one.
    #[inline]
    pub(crate) fn idle(&self, ok: u64) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.responses[1].fetch_add(ok, Ordering::Relaxed);
    }

    /// Counts a final response.
    pub(crate) fn responded(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.responses[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts received bytes.
    #[inline]
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts sent bytes.
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
        assert_eq!(counters.totals().requests_in_flight, 1);
        for _ in 0..3 {
            let (begins, ends) = (counters.clone(), counters.clone());
            thread::spawn(move || begins.here().busy()).join().unwrap();
            thread::spawn(move || ends.here().idle(2)).join().unwrap();
        }
        counters.here().idle(0);
        let totals = counters.totals();
        assert_eq!((totals.requests_in_flight, totals.responses), (0, [0, 6, 0, 0, 0]));
    }

    #[test]
    fn responses_are_counted_by_class_whatever_their_status() {
        let counters = Counters::default();
        for status in [101, 204, 304, 404, 431, 503, 999] {
            counters.here().responded(StatusCode::from_u16(status).unwrap());
        }
        counters.rejected(StatusCode::BAD_REQUEST);
        let totals = counters.totals();
        assert_eq!((totals.responses, totals.requests_rejected), ([1, 1, 1, 3, 2], 1));
    }
}
