//! The histograms of latency, one for each route.
//!
//! Each thread counts in its own shard, as in [`counters`](crate::runtime::counters). A route gets its histogram with
//! its first request, under a lock; later requests find it by one probe of a table of atomics. Once the largest number
//! of histograms exists, further routes share one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::runtime::stall::RouteName;
use crate::runtime::stats::RouteStats;
use crate::runtime::task::lock;

/// The upper bounds of the buckets in nanoseconds. The last bucket, behind them, has none.
const BOUNDS: [u64; RouteStats::BOUNDS.len()] = {
    let mut bounds = [0; RouteStats::BOUNDS.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = RouteStats::BOUNDS[at].as_nanos() as u64;
        at += 1;
    }
    bounds
};

/// The histogram of the requests without a route.
const NONE: usize = 0;
/// The histogram of the routes beyond the limit.
const OTHER: usize = 1;

/// The histograms of one server.
#[derive(Debug)]
pub(crate) struct Histograms {
    /// An open hash table from the index of a route to its histogram: the index in the upper half, which is never 0 for
    /// a route, and the position in `histograms` in the lower one. 0 is an empty place. At least half of the places are
    /// empty.
    table: Box<[AtomicU64]>,
    histograms: Box<[OnceLock<Histogram>]>,
    /// The number of histograms that are in use.
    used: AtomicUsize,
    inserting: Mutex<()>,
    shards: usize,
}

/// The counts of one route, one for each shard.
#[derive(Debug)]
struct Histogram {
    route: RouteName,
    shards: Box<[Counts]>,
}

/// The counts of one or more threads. The alignment keeps two shards off one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// The sum of the durations in nanoseconds.
    sum: AtomicU64,
}

impl Histograms {
    /// Creates the table for `routes` routes; `None` for 0.
    pub(crate) fn new(routes: usize, shards: usize) -> Option<Histograms> {
        if routes == 0 {
            return None;
        }
        let histograms: Box<[OnceLock<Histogram>]> = (0..routes + 2).map(|_| OnceLock::new()).collect();
        Some(Histograms {
            table: (0..(2 * routes).next_power_of_two()).map(|_| AtomicU64::new(0)).collect(),
            histograms,
            used: AtomicUsize::new(OTHER + 1),
            inserting: Mutex::default(),
            shards,
        })
    }

    /// Counts a request of `route` by a thread of this shard.
    pub(crate) fn observe(&self, route: RouteName, shard: usize, duration: Duration) {
        let at = self.position(route);
        let histogram = self.histograms[at].get_or_init(|| {
            let shards = (0..self.shards).map(|_| Counts::default()).collect();
            Histogram { route, shards }
        });
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Most requests are in one of the first buckets.
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        let counts = &histogram.shards[shard];
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        counts.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The position of the histogram of a route.
    fn position(&self, route: RouteName) -> usize {
        if route == RouteName::NONE {
            return NONE;
        }
        match self.find(route) {
            Ok(at) => at,
            Err(_) if self.used.load(Ordering::Relaxed) == self.histograms.len() => OTHER,
            Err(_) => self.insert(route),
        }
    }

    /// The position of the histogram of a route, or its empty place in the table.
    fn find(&self, route: RouteName) -> Result<usize, &AtomicU64> {
        let mask = self.table.len() - 1;
        let mut place = route.index() as usize & mask;
        loop {
            match self.table[place].load(Ordering::Relaxed) {
                0 => return Err(&self.table[place]),
                entry if entry >> 32 == u64::from(route.index()) => return Ok(entry as u32 as usize),
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn insert(&self, route: RouteName) -> usize {
        let _inserting = lock(&self.inserting);
        let place = match self.find(route) {
            Ok(at) => return at,
            Err(place) => place,
        };
        let at = self.used.load(Ordering::Relaxed);
        if at == self.histograms.len() {
            return OTHER;
        }
        place.store(u64::from(route.index()) << 32 | at as u64, Ordering::Relaxed);
        self.used.store(at + 1, Ordering::Relaxed);
        at
    }

    /// Sums the shards, in the order in which the routes had their first request.
    pub(crate) fn totals(&self) -> Vec<RouteStats> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let total = |(at, histogram): (usize, &OnceLock<Histogram>)| {
            let histogram = histogram.get()?;
            let route = match at {
                NONE => RouteStats::NONE,
                OTHER => RouteStats::OTHER,
                _ => histogram.route.name(),
            };
            let mut totals = RouteStats { route, ..RouteStats::default() };
            let mut nanos = 0_u64;
            for counts in &histogram.shards {
                nanos = nanos.saturating_add(read(&counts.sum));
                for (total, bucket) in totals.buckets.iter_mut().zip(&counts.buckets) {
                    *total += read(bucket);
                }
            }
            totals.sum = Duration::from_nanos(nanos);
            Some(totals)
        };
        self.histograms.iter().enumerate().filter_map(total).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn routes(n: usize) -> Vec<RouteName> {
        (0..n).map(|nth| RouteName::new(&format!("/histogram/{nth}"))).collect()
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histograms = Histograms::new(1, 1).unwrap();
        let route = routes(1)[0];
        for (duration, bucket) in [
            (Duration::ZERO, 0),
            (Duration::from_micros(100), 0),
            (Duration::from_nanos(100_001), 1),
            (Duration::from_millis(1), 3),
            (Duration::from_secs(10), 15),
            (Duration::from_nanos(10_000_000_001), 16),
            (Duration::MAX, 16),
        ] {
            let before = histograms.totals().first().map_or(0, |totals| totals.buckets[bucket]);
            histograms.observe(route, 0, duration);
            assert_eq!(histograms.totals()[0].buckets[bucket], before + 1, "{duration:?}");
        }
        assert_eq!(histograms.totals()[0].count(), 7);
    }

    #[test]
    fn routes_beyond_the_limit_share_a_histogram() {
        let histograms = Histograms::new(3, 2).unwrap();
        let routes = routes(8);
        thread::scope(|scope| {
            for shard in 0..2 {
                let (histograms, routes) = (&histograms, &routes);
                scope.spawn(move || {
                    for route in routes.iter().chain([&RouteName::NONE]) {
                        histograms.observe(*route, shard, Duration::from_millis(2));
                    }
                });
            }
        });
        let totals = histograms.totals();
        assert_eq!(totals.len(), 5);
        assert_eq!((totals[0].route, totals[0].count()), (RouteStats::NONE, 2));
        assert_eq!((totals[1].route, totals[1].count()), (RouteStats::OTHER, 10));
        for totals in &totals[2..] {
            assert!(totals.route.starts_with("/histogram/"), "{}", totals.route);
            assert_eq!((totals.count(), totals.buckets[4]), (2, 2));
            assert_eq!(totals.sum, Duration::from_millis(4));
        }
    }
}
