//! The statistics of a server, with the same names on every backend.

use std::fmt;
use std::time::Duration;

/// The statistics of one server, from [`Runtime::stats`](crate::Runtime::stats).
///
/// The values are read one after the other while the server works, so that they may be inconsistent by a few counts.
/// [`fmt::Display`] formats them as Prometheus text; [`metrics()`](crate::metrics()) is a handler that serves it.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Request, Stats};
///
/// async fn load(request: Request) -> String {
///     let stats: Stats = request.runtime().stats();
///     format!("{} requests in flight on {}", stats.requests_in_flight, stats.backend)
/// }
/// # drop(load);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The name of the backend.
    pub backend: &'static str,
    /// The number of threads that serve requests.
    pub workers: usize,
    /// The number of connections that have input and wait for a worker. 0 on event loops, which have no such queue.
    pub waiting_for_worker: usize,
    /// The number of times that a thread of the server polled the operating system for events.
    pub loop_turns: u64,
    /// The number of open connections, including upgraded ones.
    pub connections_open: usize,
    /// The number of open connections that have left HTTP: upgraded connections and tunnels.
    pub connections_upgraded: usize,
    /// The number of accepted connections, including those that were refused.
    pub connections_accepted: u64,
    /// The number of connections that were refused, for lack of room or because a proxy sent no PROXY header, and of
    /// requests that a stop refused: their heads were incomplete at their deadline during the stop, or when connections
    /// were cut.
    pub connections_refused: u64,
    /// The number of requests whose handler runs or whose response is being sent.
    pub requests_in_flight: u64,
    /// The number of requests that the application has answered.
    pub requests_served: u64,
    /// The number of requests that the server has answered itself, because they broke a rule or a limit.
    pub requests_rejected: u64,
    /// The number of final responses by class of status, from 1xx to 5xx. 1xx counts only 101.
    pub responses: [u64; 5],
    /// The number of bytes read from HTTP connections.
    pub bytes_received: u64,
    /// The number of bytes written to HTTP connections.
    pub bytes_sent: u64,
    /// The number of times that a handler or a background task held the thread of an event loop for
    /// [`Config::stall_threshold`](crate::Config::stall_threshold) or longer without waiting.
    pub stalls: u64,
    /// The number of lines of the access log that [`Config::access_log_to`](crate::Config::access_log_to) has dropped.
    pub access_log_dropped: u64,
    /// The number of background tasks that have not ended. The function of an upgrade counts as one only if it
    /// continues without its stream.
    pub tasks_running: usize,
    /// The number of background tasks that were started.
    pub tasks_started: u64,
    /// The pool behind [`Runtime::blocking`](crate::Runtime::blocking).
    pub blocking: PoolStats,
    /// The pool behind [`Runtime::compute`](crate::Runtime::compute).
    pub compute: PoolStats,
    /// The latency of each route that has answered a request. Empty unless
    /// [`Config::route_histograms`](crate::Config::route_histograms) is set.
    pub routes: Vec<RouteStats>,
}

/// The latency of the requests of one route, as a histogram.
/// [`Config::route_histograms`](crate::Config::route_histograms) says which requests it has.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Request, RouteStats};
///
/// /// The part of the requests that were answered within 10 ms.
/// fn quick(route: &RouteStats) -> f64 {
///     let bounds = RouteStats::BOUNDS.iter().filter(|bound| bound.as_millis() <= 10).count();
///     route.buckets[..bounds].iter().sum::<u64>() as f64 / route.count() as f64
/// }
/// # drop(quick);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The path of the route, such as `/users/{id}`; or [`RouteStats::NONE`] or [`RouteStats::OTHER`].
    pub route: &'static str,
    /// The number of requests in each bucket. A request is in the first bucket whose bound it does not exceed. The
    /// last bucket has no bound.
    pub buckets: [u64; RouteStats::BOUNDS.len() + 1],
    /// The sum of the durations.
    pub sum: Duration,
}

impl RouteStats {
    /// The upper bounds of the buckets: 1, 2.5 and 5 times the powers of ten from 100 µs to 10 s.
    pub const BOUNDS: [Duration; 16] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];
    /// The name for requests that have no route, such as those that the server refuses.
    pub const NONE: &str = "(none)";
    /// The name for all routes beyond the largest number of histograms.
    pub const OTHER: &str = "(other)";

    /// The number of requests.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The statistics of a pool of threads for offloaded work. Work that runs on the calling thread is not counted.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{PoolStats, Request};
///
/// async fn pool(request: Request) -> String {
///     let pool: PoolStats = request.runtime().stats().blocking;
///     format!("{} of {} threads are busy, {} jobs wait", pool.running, pool.threads, pool.queued)
/// }
/// # drop(pool);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The largest number of threads.
    pub threads: usize,
    /// The number of jobs that run, including those that wait in [`Runtime::block_on`](crate::Runtime::block_on). These
    /// lend their places, so the number may exceed that of threads.
    pub running: usize,
    /// The number of jobs that wait for a thread.
    pub queued: usize,
    /// The number of jobs that were started.
    pub started: u64,
    /// The number of started jobs that had waited for a thread.
    pub waits: u64,
    /// The sum of the waiting times of these jobs.
    pub waited: Duration,
    /// The number of jobs that were refused because the queue was full.
    pub refused: u64,
}

/// The text format of Prometheus, version 0.0.4.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = format!("{{backend=\"{}\"}}", self.backend);
        family(f, "info", "The backend that runs the server.", &[(&backend, 1)])?;
        figure(f, "workers", "Threads that serve requests.", self.workers)?;
        figure(f, "worker_queue", "Connections that wait for a worker.", self.waiting_for_worker)?;
        figure(f, "loop_turns_total", "Times a thread polled for events.", self.loop_turns)?;
        figure(f, "connections_open", "Connections that are open.", self.connections_open)?;
        figure(
            f,
            "connections_upgraded",
            "Open connections that have left HTTP.",
            self.connections_upgraded,
        )?;
        figure(f, "connections_accepted_total", "Connections accepted.", self.connections_accepted)?;
        figure(f, "connections_refused_total", "Connections refused.", self.connections_refused)?;
        figure(f, "requests_in_flight", "Requests being answered.", self.requests_in_flight)?;
        figure(f, "requests_total", "Requests that the application answered.", self.requests_served)?;
        figure(
            f,
            "requests_rejected_total",
            "Requests that the server answered itself.",
            self.requests_rejected,
        )?;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| format!("{{class=\"{class}\"}}"));
        let by_class: Vec<_> = classes.iter().map(String::as_str).zip(self.responses).collect();
        family(f, "responses_total", "Final responses by class of status.", &by_class)?;
        figure(f, "received_bytes_total", "Bytes read.", self.bytes_received)?;
        figure(f, "sent_bytes_total", "Bytes written.", self.bytes_sent)?;
        figure(f, "stalls_total", "Times a handler or task held up its thread.", self.stalls)?;
        let dropped = self.access_log_dropped;
        figure(f, "access_log_dropped_total", "Lines of the access log that were dropped.", dropped)?;
        figure(f, "tasks_running", "Background tasks that have not ended.", self.tasks_running)?;
        figure(f, "tasks_started_total", "Background tasks started.", self.tasks_started)?;
        let mut pools = |name, help, of: fn(&PoolStats) -> f64| {
            let (blocking, compute) = (of(&self.blocking), of(&self.compute));
            family(f, name, help, &[("{pool=\"blocking\"}", blocking), ("{pool=\"compute\"}", compute)])
        };
        pools("pool_threads", "The largest number of threads.", |pool| pool.threads as f64)?;
        pools("pool_running", "Jobs that run.", |pool| pool.running as f64)?;
        pools("pool_queued", "Jobs that wait for a thread.", |pool| pool.queued as f64)?;
        pools("pool_jobs_total", "Jobs started.", |pool| pool.started as f64)?;
        pools("pool_waits_total", "Started jobs that had waited.", |pool| pool.waits as f64)?;
        pools("pool_wait_seconds_total", "Time that these jobs waited.", |pool| pool.waited.as_secs_f64())?;
        pools("pool_refused_total", "Jobs refused.", |pool| pool.refused as f64)?;
        histograms(f, &self.routes)
    }
}

/// Writes the family of the histograms, if there are any.
fn histograms(f: &mut fmt::Formatter<'_>, routes: &[RouteStats]) -> fmt::Result {
    const NAME: &str = "gearshift_request_duration_seconds";
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(f, "# HELP {NAME} Time from the beginning of a request to the end of its response.")?;
    writeln!(f, "# TYPE {NAME} histogram")?;
    for route in routes {
        let name = route.route.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut count = 0;
        for (bound, bucket) in RouteStats::BOUNDS.iter().zip(route.buckets) {
            count += bucket;
            let bound = bound.as_secs_f64();
            writeln!(f, "{NAME}_bucket{{route=\"{name}\",le=\"{bound}\"}} {count}")?;
        }
        let count = route.count();
        writeln!(f, "{NAME}_bucket{{route=\"{name}\",le=\"+Inf\"}} {count}")?;
        writeln!(f, "{NAME}_sum{{route=\"{name}\"}} {}", route.sum.as_secs_f64())?;
        writeln!(f, "{NAME}_count{{route=\"{name}\"}} {count}")?;
    }
    Ok(())
}

/// Writes a family of one sample.
fn figure(f: &mut fmt::Formatter<'_>, name: &str, help: &str, value: impl fmt::Display) -> fmt::Result {
    family(f, name, help, &[("", value)])
}

/// Writes a family of samples. A counter has a name that ends with `_total`; all others are gauges.
fn family(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    help: &str,
    samples: &[(&str, impl fmt::Display)],
) -> fmt::Result {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    writeln!(f, "# HELP gearshift_{name} {help}\n# TYPE gearshift_{name} {kind}")?;
    samples.iter().try_for_each(|(labels, value)| writeln!(f, "gearshift_{name}{labels} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_a_family_with_help_and_type() {
        let mut stats = Stats { backend: "mio", responses: [1, 2, 3, 4, 5], ..Stats::default() };
        stats.blocking.waited = Duration::from_millis(1500);
        stats.compute.threads = 2;
        let text = stats.to_string();
        for line in [
            "gearshift_info{backend=\"mio\"} 1",
            "# TYPE gearshift_responses_total counter",
            "gearshift_responses_total{class=\"5xx\"} 5",
            "gearshift_pool_wait_seconds_total{pool=\"blocking\"} 1.5",
            "gearshift_pool_threads{pool=\"compute\"} 2",
            "gearshift_requests_in_flight 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("histogram"), "without a route there is no family of them");
        let count = |prefix| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(count("# HELP "), count("# TYPE "));
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("gearshift_")));
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let mut route = RouteStats { route: "/a\"\\{b}", ..RouteStats::default() };
        (route.buckets[0], route.buckets[3], route.buckets[16]) = (1, 2, 4);
        route.sum = Duration::from_millis(60_250);
        let text = Stats { routes: vec![route], ..Stats::default() }.to_string();
        let (_, family) = text.split_once("# TYPE gearshift_request_duration_seconds histogram\n").unwrap();
        let lines: Vec<_> = family.lines().collect();
        let labels = |le: &str| {
            format!("gearshift_request_duration_seconds_bucket{{route=\"/a\\\"\\\\{{b}}\",le=\"{le}\"}}")
        };
        assert_eq!(lines.len(), 19);
        assert_eq!(lines[0], format!("{} 1", labels("0.0001")));
        assert_eq!(lines[2], format!("{} 1", labels("0.0005")));
        assert_eq!(lines[3], format!("{} 3", labels("0.001")));
        assert_eq!(lines[15], format!("{} 3", labels("10")));
        assert_eq!(lines[16], format!("{} 7", labels("+Inf")));
        assert_eq!(lines[17], "gearshift_request_duration_seconds_sum{route=\"/a\\\"\\\\{b}\"} 60.25");
        assert_eq!(lines[18], "gearshift_request_duration_seconds_count{route=\"/a\\\"\\\\{b}\"} 7");
    }
}
