//! Every setting and every limit of a server, in one value, with the same meaning on every backend.
//!
//! [`Config`] is what a program sets; [`Limits`] is the part of it that the HTTP/1.1 connection enforces on its
//! own. Every limit has a default, none of them is "unlimited", and each says which status a peer gets that
//! goes beyond it.

use std::time::Duration;

use crate::proto::error::Error;
use crate::proto::limits::Limits;

/// The settings of one server. Every limit has a flag in the command line of the facade.
///
/// | setting | flag | default | what happens beyond it |
/// | --- | --- | --- | --- |
/// | `limits.request_line` | `--max-request-line` | 8,190 bytes | 414 |
/// | `limits.field_line` | `--max-field` | 8,190 bytes | 431 |
/// | `limits.fields` | `--max-fields` | 100 | 431 |
/// | `limits.head` | `--max-head` | 32 KiB | 431 |
/// | `limits.body` | `--max-body` | 2 GiB | 413, before it is read if its length says so |
/// | `limits.drain` | `--max-drain` | 256 KiB | the connection closes after the response |
/// | `limits.output` | `--max-output` | 256 KiB | the response is written before more of it is produced |
/// | `limits.pipeline` | `--max-pipeline` | 64 requests a turn | the other connections get their turn |
/// | `header_timeout` | `--header-timeout` | 10 s for the whole head, the first from the connection's opening | 408, or nothing if nothing came |
/// | `body_timeout` | `--body-timeout` | 30 s without a byte | 408 |
/// | `body_buffer` | `--body-buffer` | 64 KiB | a blocking backend begins the request, and its handler waits for the body on its thread |
/// | `min_rate` | `--min-rate` | 256 bytes/s of a body, beyond `body_timeout` or `write_timeout` | 408, or the connection closes |
/// | `handler_timeout` | `--timeout` | 30 s until the response begins | 503 |
/// | `write_timeout` | `--write-timeout` | 30 s without progress | the connection closes |
/// | `keep_alive` | `--keep-alive` | 5 s idle | the connection closes |
/// | `linger` | `--linger` | 2 s | the connection closes |
/// | `max_requests` | `--max-requests` | 1,000,000 | the last response says `Connection: close` |
/// | `max_age` | `--max-age` | 1 h | the next response says `Connection: close` |
/// | `max_connections` | `--max-connections`, `--overload` | 10,000 | accepting waits until one closes, or 503 with `Retry-After` |
/// | `blocking_threads` | `--blocking-threads` | 64 | jobs that block wait for a thread |
/// | `compute_threads` | `--compute-threads` | one for each core | jobs that compute wait for a thread |
/// | `pool_queue` | `--pool-queue`, `--pool-overload` | 1,024 jobs | the handler waits all the same, or 503 with `Retry-After` |
/// | `stall_threshold` | `--stall-threshold` | 50 ms without a wait | the route is logged, and counted |
/// | `graceful_timeout` | `--graceful-timeout` | 30 s | what still runs is cut |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Event loops, or threads of a work-stealing runtime. `None`: one for each core. Backends that have one
    /// thread by nature refuse any value but 1.
    pub workers: Option<usize>,
    /// Threads of the thread pool. `None`: 16 for each core. Backends without such a pool refuse it.
    pub threads: Option<usize>,
    /// Threads for work that blocks, [`Runtime::blocking`](crate::Runtime::blocking), where that cannot run in place.
    /// Except on tokio they are the process's, which has 500 at most.
    pub blocking_threads: usize,
    /// Threads for work that computes, [`Runtime::compute`](crate::Runtime::compute), where that cannot run in place.
    /// `None`: one for each core.
    pub compute_threads: Option<usize>,
    /// Jobs of either kind that may wait for a thread where [`Config::pool_overload`] is [`Overload::Refuse`], and for
    /// those who ask by [`Runtime::try_blocking`](crate::Runtime::try_blocking). Else the queue is as long as there are
    /// handlers that wait in it: whoever gives up leaves it.
    pub pool_queue: usize,
    /// What becomes of a request whose handler is [`blocking()`](crate::blocking()) or
    /// [`compute()`](crate::compute()) when that many wait.
    pub pool_overload: Overload,
    /// For how long a handler on an event loop may go on without a wait, before its route is logged as one that holds
    /// up all others.
    pub stall_threshold: Duration,
    /// How many completed connections the kernel may hold before they are accepted.
    pub backlog: u16,
    /// Connections open at once; `overload` says what happens at that number.
    pub max_connections: usize,
    /// What becomes of a connection for which there is no room.
    pub overload: Overload,
    /// Requests answered on one connection before it is closed. `None`: no bound.
    pub max_requests: Option<u64>,
    /// How long a connection may be used. The first response after that is its last.
    pub max_age: Duration,
    /// How long a connection may stay open with no request on it.
    pub keep_alive: Duration,
    /// How long a request's head may take, from the connection's opening or from its own first byte.
    pub header_timeout: Duration,
    /// How long a request's body may pause.
    pub body_timeout: Duration,
    /// On a blocking backend a request with a body of at most this many bytes begins when its body is complete, so that a
    /// slow upload holds no thread. A larger body is read by its handler, which holds its thread meanwhile. 0: each
    /// request begins with its head, as on an event loop. A request that expects `100 Continue` begins with its head in
    /// any case.
    pub body_buffer: usize,
    /// Bytes a second that a peer sends of a body, or takes of a response, at least: on average over the time that it
    /// was waited for, `body_timeout` or `write_timeout` of which are free. It ends peers that dribble.
    pub min_rate: u32,
    /// How long a handler may wait before its response begins. The time in which it waits for the request's body does
    /// not count. Code that holds its thread cannot be interrupted, on any backend: it is late when it waits next.
    pub handler_timeout: Duration,
    /// What becomes of a handler whose peer has left, unless its route says otherwise; see
    /// [`on_disconnect()`](crate::on_disconnect).
    pub on_disconnect: OnDisconnect,
    /// How long a peer may take no byte of a response that waits for it.
    pub write_timeout: Duration,
    /// How long a refused connection is read after its response, so that the response is not lost.
    pub linger: Duration,
    /// How long requests in flight may take after shutdown was asked for.
    pub graceful_timeout: Duration,
    /// Whether responses carry `Date` (RFC 9110, 6.6.1).
    pub date_header: bool,
    /// Whether responses carry `Server: gearshift` (RFC 9110, 10.2.4).
    pub server_header: bool,
    /// Whether each response is logged, at level `info` and target `gearshift::access`.
    pub access_log: bool,
    /// What the connection itself enforces.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: None,
            threads: None,
            blocking_threads: 64,
            compute_threads: None,
            pool_queue: 1024,
            pool_overload: Overload::Wait,
            stall_threshold: Duration::from_millis(50),
            backlog: 2048,
            max_connections: 10_000,
            overload: Overload::Wait,
            max_requests: Some(1_000_000),
            max_age: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(5),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_buffer: 64 * 1024,
            min_rate: 256,
            handler_timeout: Duration::from_secs(30),
            on_disconnect: OnDisconnect::Cancel,
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            graceful_timeout: Duration::from_secs(30),
            date_header: true,
            server_header: true,
            access_log: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The shortest of the time limits: nothing that is set now can fall due before it has passed.
    ///
    /// Backends that look at all deadlines now and then, instead of keeping a timer for each, sleep this long.
    pub fn shortest_timeout(&self) -> Duration {
        // A handler's own time is not among them: nobody is parked meanwhile.
        [self.keep_alive, self.header_timeout, self.body_timeout, self.write_timeout, self.linger]
            .into_iter()
            .min()
            .expect("the list is not empty")
            .max(Duration::from_millis(1))
    }

    /// `workers`, or one for each core.
    pub fn workers_or_cores(&self) -> usize {
        self.workers.unwrap_or_else(cores).max(1)
    }

    /// `compute_threads`, or one for each core.
    pub fn compute_threads_or_cores(&self) -> usize {
        self.compute_threads.unwrap_or_else(cores).max(1)
    }

    /// `threads`, or 16 for each core.
    pub fn threads_or_default(&self) -> usize {
        self.threads.unwrap_or_else(|| 16 * cores()).max(1)
    }
}

/// What becomes of a connection for which there is no room, as [`Config::max_connections`] are open or the process has no
/// descriptor left; or of a request for whose work there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// It waits until there is, a connection in the kernel's queue.
    #[default]
    Wait,
    /// It is answered 503 with `Retry-After`, and a connection closed. At most [`Overload::REFUSALS`] connections are
    /// being told at once; who comes beyond that waits.
    Refuse,
}

impl Overload {
    /// Connections beyond [`Config::max_connections`] that are open to be refused.
    pub const REFUSALS: usize = 1024;
    /// What `Retry-After` says, in seconds.
    pub const RETRY_AFTER: u32 = Error::RETRY_AFTER;
}

/// What becomes of a handler that waits when its peer leaves.
///
/// A peer that only ends its own side (a half-close) has not left: it may want its response. So one that has ended
/// its side is asked now and then whether it is still there, by an interim response `100 Continue`, which every
/// client ignores that is there, and which makes the system of one that is not say so. An HTTP/1.0 peer knows no
/// interim responses, and is taken for present until a write fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Its future is dropped, where it waits.
    #[default]
    Cancel,
    /// It goes on as a background task, and its response is dropped.
    Detach,
    /// It goes on where it is, as if nobody had left, and fails to send its response.
    Ignore,
}

/// How many threads this process may run at once; 1 where the system does not say.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
