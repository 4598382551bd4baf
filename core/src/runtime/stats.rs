//! The statistics of a server, with the same names on every backend.

use std::fmt;
use std::time::Duration;

/// The statistics of one server, from [`Runtime::stats`](crate::Runtime::stats).
///
/// The values are read one after the other while the server works, so that they may be inconsistent by a few counts.
/// [`fmt::Display`] formats them as Prometheus text; [`metrics()`](crate::metrics()) is a handler that serves it.
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
    /// The number of open connections.
    pub connections_open: usize,
    /// The number of accepted connections, including those that were refused.
    pub connections_accepted: u64,
    /// The number of connections refused for lack of room, and of requests refused because the server was stopping.
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
    /// The number of background tasks that have not ended.
    pub tasks_running: usize,
    /// The number of background tasks that were started.
    pub tasks_started: u64,
    /// The pool behind [`Runtime::blocking`](crate::Runtime::blocking).
    pub blocking: PoolStats,
    /// The pool behind [`Runtime::compute`](crate::Runtime::compute).
    pub compute: PoolStats,
}

/// The statistics of a pool of threads for offloaded work. Work that runs on the calling thread is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The largest number of threads.
    pub threads: usize,
    /// The number of jobs that run.
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

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text(f);
        let backend = format!("{{backend=\"{}\"}}", self.backend);
        text.family("info", "gauge", "The backend that runs the server.", &[(&backend, 1)])?;
        text.gauge("workers", "Threads that serve requests.", self.workers)?;
        text.gauge("worker_queue", "Connections that wait for a worker.", self.waiting_for_worker)?;
        text.counter("loop_turns_total", "Times a thread polled for events.", self.loop_turns)?;
        text.gauge("connections_open", "Connections that are open.", self.connections_open)?;
        text.counter("connections_accepted_total", "Connections accepted.", self.connections_accepted)?;
        text.counter("connections_refused_total", "Connections refused.", self.connections_refused)?;
        text.gauge("requests_in_flight", "Requests being answered.", self.requests_in_flight)?;
        text.counter("requests_total", "Requests that the application answered.", self.requests_served)?;
        text.counter(
            "requests_rejected_total",
            "Requests that the server answered itself.",
            self.requests_rejected,
        )?;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| format!("{{class=\"{class}\"}}"));
        let by_class: Vec<_> = classes.iter().map(String::as_str).zip(self.responses).collect();
        text.family("responses_total", "counter", "Final responses by class of status.", &by_class)?;
        text.counter("received_bytes_total", "Bytes read.", self.bytes_received)?;
        text.counter("sent_bytes_total", "Bytes written.", self.bytes_sent)?;
        text.counter("stalls_total", "Times a handler or task held up its thread.", self.stalls)?;
        text.gauge("tasks_running", "Background tasks that have not ended.", self.tasks_running)?;
        text.counter("tasks_started_total", "Background tasks started.", self.tasks_started)?;
        text.pools(
            "pool_threads",
            "gauge",
            "The largest number of threads.",
            |pool| pool.threads as u64,
            self,
        )?;
        text.pools("pool_running", "gauge", "Jobs that run.", |pool| pool.running as u64, self)?;
        text.pools("pool_queued", "gauge", "Jobs that wait for a thread.", |pool| pool.queued as u64, self)?;
        text.pools("pool_jobs_total", "counter", "Jobs started.", |pool| pool.started, self)?;
        text.pools("pool_waits_total", "counter", "Started jobs that had waited.", |pool| pool.waits, self)?;
        let waited = |pool: PoolStats| pool.waited.as_secs_f64();
        text.pools("pool_wait_seconds_total", "counter", "Time that these jobs waited.", waited, self)?;
        text.pools("pool_refused_total", "counter", "Jobs refused.", |pool| pool.refused, self)
    }
}

/// A writer of the Prometheus text format, version 0.0.4.
struct Text<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Text<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) -> fmt::Result {
        self.family(name, "gauge", help, &[("", value)])
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, "counter", help, &[("", value)])
    }

    fn pools<T: fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        figure: impl Fn(PoolStats) -> T,
        stats: &Stats,
    ) -> fmt::Result {
        let both =
            [("{pool=\"blocking\"}", figure(stats.blocking)), ("{pool=\"compute\"}", figure(stats.compute))];
        self.family(name, kind, help, &both)
    }

    fn family<T: fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: &[(&str, T)],
    ) -> fmt::Result {
        writeln!(self.0, "# HELP gearshift_{name} {help}\n# TYPE gearshift_{name} {kind}")?;
        samples.iter().try_for_each(|(labels, value)| writeln!(self.0, "gearshift_{name}{labels} {value}"))
    }
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
        let count = |prefix| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(count("# HELP "), count("# TYPE "));
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("gearshift_")));
    }
}
