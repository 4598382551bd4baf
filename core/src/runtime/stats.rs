//! What a server has done and is doing, in figures with the same names on every backend.

use std::fmt;
use std::time::Duration;

/// The figures of one server at one moment; see [`Runtime::stats`](crate::Runtime::stats).
///
/// They are read one after the other while the server goes on, so that two of them need not fit to the last one.
/// [`fmt::Display`] gives them as Prometheus text; [`metrics()`](crate::metrics()) is a handler that answers with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The backend's name.
    pub backend: &'static str,
    /// Threads that serve requests.
    pub workers: usize,
    /// Connections that have something to be read and wait for a worker. Event loops have no such queue of their own.
    pub waiting_for_worker: usize,
    /// Times that a thread of the server has asked the system what has become ready, or has waited for it.
    pub loop_turns: u64,
    /// Connections that are open.
    pub connections_open: usize,
    /// Connections that were accepted, those among them that were refused.
    pub connections_accepted: u64,
    /// Connections for which there was no room, and requests that came too late for a server that stops.
    pub connections_refused: u64,
    /// Requests whose handler is at work or whose response is being sent.
    pub requests_in_flight: u64,
    /// Requests that the application has answered.
    pub requests_served: u64,
    /// Requests that were answered in its place, because they are none or go beyond a limit.
    pub requests_rejected: u64,
    /// Final responses by the first digit of their status, from 1xx (101 alone) to 5xx.
    pub responses: [u64; 5],
    /// Bytes that were read from HTTP connections.
    pub bytes_received: u64,
    /// Bytes that were written to them.
    pub bytes_sent: u64,
    /// Times that a handler, or a background task, has held up an event loop for longer than
    /// [`Config::stall_threshold`](crate::Config::stall_threshold).
    pub stalls: u64,
    /// Background tasks that have not ended.
    pub tasks_running: usize,
    /// Background tasks that were started.
    pub tasks_started: u64,
    /// The threads behind [`Runtime::blocking`](crate::Runtime::blocking).
    pub blocking: PoolStats,
    /// The threads behind [`Runtime::compute`](crate::Runtime::compute).
    pub compute: PoolStats,
}

/// The figures of a pool of threads for offloaded work. What runs in place is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Threads that it has at most.
    pub threads: usize,
    /// Jobs that threads are at.
    pub running: usize,
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// Jobs that were begun.
    pub started: u64,
    /// Jobs that had to wait for a thread and got one.
    pub waits: u64,
    /// How long these have waited, all together.
    pub waited: Duration,
    /// Jobs that found the queue full and were refused.
    pub refused: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text(f);
        let backend = format!("{{backend=\"{}\"}}", self.backend);
        text.family("info", "gauge", "What runs the server.", &[(&backend, 1)])?;
        text.gauge("workers", "Threads that serve requests.", self.workers)?;
        text.gauge("worker_queue", "Connections that wait for a worker.", self.waiting_for_worker)?;
        text.counter("loop_turns_total", "Times the system was asked what is ready.", self.loop_turns)?;
        text.gauge("connections_open", "Connections that are open.", self.connections_open)?;
        text.counter("connections_accepted_total", "Connections accepted.", self.connections_accepted)?;
        text.counter("connections_refused_total", "Connections without room.", self.connections_refused)?;
        text.gauge("requests_in_flight", "Requests being answered.", self.requests_in_flight)?;
        text.counter("requests_total", "Requests the application answered.", self.requests_served)?;
        text.counter("requests_rejected_total", "Requests answered in its place.", self.requests_rejected)?;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| format!("{{class=\"{class}\"}}"));
        let by_class: Vec<_> = classes.iter().map(String::as_str).zip(self.responses).collect();
        text.family("responses_total", "counter", "Final responses by class of status.", &by_class)?;
        text.counter("received_bytes_total", "Bytes read.", self.bytes_received)?;
        text.counter("sent_bytes_total", "Bytes written.", self.bytes_sent)?;
        text.counter("stalls_total", "Times an event loop was held up.", self.stalls)?;
        text.gauge("tasks_running", "Background tasks not ended.", self.tasks_running)?;
        text.counter("tasks_started_total", "Background tasks started.", self.tasks_started)?;
        text.pools("pool_threads", "gauge", "Threads at most.", |pool| pool.threads as u64, self)?;
        text.pools("pool_running", "gauge", "Jobs that threads are at.", |pool| pool.running as u64, self)?;
        text.pools("pool_queued", "gauge", "Jobs that wait for a thread.", |pool| pool.queued as u64, self)?;
        text.pools("pool_jobs_total", "counter", "Jobs begun.", |pool| pool.started, self)?;
        text.pools("pool_waits_total", "counter", "Jobs that had to wait first.", |pool| pool.waits, self)?;
        let waited = |pool: PoolStats| pool.waited.as_secs_f64();
        text.pools("pool_wait_seconds_total", "counter", "How long these waited.", waited, self)?;
        text.pools("pool_refused_total", "counter", "Jobs refused.", |pool| pool.refused, self)
    }
}

/// Prometheus text, version 0.0.4.
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
