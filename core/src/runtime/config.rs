//! The settings and limits of a server, with the same meaning on every backend.
//!
//! Every limit has a finite default and a documented consequence. [`Limits`] is the part that bounds the input and
//! output of one connection.

use std::sync::Arc;
use std::time::Duration;

use crate::proto::error::Error;
use crate::proto::limits::Limits;
use crate::runtime::access_log::{AccessFormat, AccessSink};
#[cfg(feature = "http2")]
use crate::runtime::http2_config::Http2;
use crate::runtime::networks::Networks;
#[cfg(not(feature = "http2"))]
use crate::runtime::no_http2_config::Http2;
#[cfg(not(feature = "tls"))]
use crate::runtime::no_tls_config::TlsConfig;
use crate::runtime::thread_wrapper::ThreadWrapper;
#[cfg(feature = "tls")]
use crate::runtime::tls_config::TlsConfig;

/// The settings of one server. Every limit has a flag on the command line of the `gearshift` crate.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::Config;
///
/// let mut config = Config::default();
/// config.handler_timeout = Duration::from_secs(5);
/// config.limits.body = 1 << 20;
/// ```
///
/// A timeout of more than [`MAX_WAIT`](crate::clock::MAX_WAIT), such as [`Duration::MAX`], means "never". A setting
/// that may be 0 says what 0 means. [`Server::bind`](crate::Server::bind) refuses 0 for every other setting, because no
/// request would be served.
///
/// | Setting | Flag | Default | Consequence beyond it |
/// | --- | --- | --- | --- |
/// | `limits.request_line` | `--max-request-line` | 8,190 bytes | 414 |
/// | `limits.field_line` | `--max-field` | 8,190 bytes | 431 |
/// | `limits.fields` | `--max-fields` | 100 | 431 |
/// | `limits.head` | `--max-head` | 32 KiB | 431 |
/// | `limits.body` | `--max-body` | 2 GiB | 413, before the body is read if its length is known |
/// | `limits.drain` | `--max-drain` | 256 KiB | the connection closes after the response, which says `Connection: close` if the length of the body is known; an upgrade is refused with 413 |
/// | `limits.output` | `--max-output` | 256 KiB | the response is written before more of it is produced |
/// | `limits.pipeline` | `--max-pipeline` | 64 requests a turn | the other connections get their turn |
/// | `header_timeout` | `--header-timeout` | 10 s for the whole head; for the first head, from the start of the connection | 408, or a close without a response if no byte has arrived |
/// | `body_timeout` | `--body-timeout` | 30 s without a byte, while the server waits for the body | 408 |
/// | `body_buffer` | `--body-buffer` | 64 KiB | on a blocking backend, the handler waits for the body and holds its thread |
/// | `min_rate` | `--min-rate` | 256 bytes/s: all waits for one body or one flush last at most `body_timeout` or `write_timeout`, plus 1 s for each 256 bytes | 408, or the connection closes |
/// | `handler_timeout` | `--timeout` | 30 s until the response begins, at an `.await` of an async handler | 503 |
/// | `write_timeout` | `--write-timeout` | 30 s without progress | the connection closes |
/// | `half_closed_timeout` | `--half-closed-timeout` | 5 s without a byte of a streamed response, after the peer has ended its sending side | the response is dropped, and the connection closes |
/// | `keep_alive` | `--keep-alive` | 5 s idle | the connection closes |
/// | `tcp_keepalive` | `--tcp-keepalive` | 60 s without a packet of the peer | the system probes the peer, and ends the connection if four probes, one every 15 s, are unanswered |
/// | `linger` | `--linger` | 2 s | the connection closes |
/// | `max_requests` | `--max-requests` | 1,000,000 | the last response says `Connection: close` |
/// | `max_age` | `--max-age` | 1 h | the next response says `Connection: close` |
/// | `max_connections` | `--max-connections`, `--overload` | 10,000 | accepting waits until one closes (idle ones: `--keep-alive`), or 503 with `Retry-After` |
/// | `blocking_threads` | `--blocking-threads` | 64 | jobs that block wait for a thread |
/// | `compute_threads` | `--compute-threads` | one for each core | jobs that compute wait for a thread |
/// | `pool_queue` | `--pool-queue`, `--pool-overload` | 1,024 jobs | the handler waits, or 503 with `Retry-After` |
/// | `connect_timeout` | `--connect-timeout` | 30 s until an outgoing connection is established, and 10 s for each address | `TimedOut` for the caller |
/// | `stall_threshold` | `--stall-threshold` | 50 ms without a wait | the route is logged and counted |
/// | `route_histograms` | `--route-histograms` | 0 routes | the routes beyond share one histogram |
/// | `drain_delay` | `--drain-delay` | 0 s | the drain of a graceful stop begins |
/// | `graceful_timeout` | `--graceful-timeout` | 30 s | requests in flight, upgraded connections and tasks are cut |
/// | `drain_idle` | `--drain-idle` | off: at a stop, idle connections close at once | on: they wait for one more request, until `keep_alive` |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The number of event loops, or of threads of a work-stealing runtime, up to [`Config::MAX_THREADS`], which is
    /// 32,768. `None`: one for each core. `sequential` and `threadpool` refuse values other than 1. `async-std` refuses
    /// values other than its own number of threads: `ASYNC_STD_THREAD_COUNT`, or one for each core.
    pub workers: Option<usize>,
    /// The number of threads of the `threadpool` backend, up to [`Config::MAX_THREADS`]. `None`: 16 for each core.
    /// Other backends refuse the setting.
    pub threads: Option<usize>,
    /// What is around the life of each thread that calls the application, except those of tokio's work-stealing runtime
    /// and of async-std; see [`ThreadWrapper`]. `None` by default.
    ///
    /// The jobs of both kinds then run on threads that the server starts itself, also on tokio. Such a thread ends when
    /// it has had no job for 10 s. A stop waits for it as for the threads that serve requests. A job that splits its
    /// work with rayon uses the global threads of rayon, which have no wrapper.
    pub thread_wrapper: Option<Arc<dyn ThreadWrapper>>,
    /// The number of blocking jobs, from [`Runtime::blocking`](crate::Runtime::blocking), that run at once on a pool,
    /// up to [`Config::MAX_THREADS`]. On a blocking backend, the jobs of a handler run on its thread. Except on tokio,
    /// all servers of the process share at most 500 threads for them, unless there is a [`Config::thread_wrapper`]. A job that waits in
    /// [`Runtime::block_on`](crate::Runtime::block_on) lends its place, so that further jobs run.
    pub blocking_threads: usize,
    /// The number of CPU-bound jobs, from [`Runtime::compute`](crate::Runtime::compute), that run at once on a pool, up
    /// to [`Config::MAX_THREADS`]. On a blocking backend, the jobs of a handler run on its thread. `None`: one for each
    /// core. A job that waits lends its place, as for [`Config::blocking_threads`].
    pub compute_threads: Option<usize>,
    /// The number of jobs of each kind that may wait for a thread before further jobs are refused. With 0, a job is
    /// refused if no thread is free. It applies to
    /// [`Runtime::try_blocking`](crate::Runtime::try_blocking) and
    /// [`Runtime::try_compute`](crate::Runtime::try_compute), and to handlers if [`Config::pool_overload`] is
    /// [`Overload::Refuse`]. Otherwise the number of handlers bounds the queue: a job leaves it when its handler is
    /// dropped.
    pub pool_queue: usize,
    /// The policy for a [`blocking()`](crate::blocking()) or [`compute()`](crate::compute()) handler when the queue
    /// has [`Config::pool_queue`] jobs.
    pub pool_overload: Overload,
    /// The time in which [`Runtime::connect`](crate::Runtime::connect) and
    /// [`Runtime::connect_any`](crate::Runtime::connect_any) must succeed, with the lookup of the name. Each address
    /// gets 10 s of it at most, so a longer time serves names and lists with several addresses.
    pub connect_timeout: Duration,
    /// The time for which a handler may hold the thread of an event loop without waiting. After a longer time its
    /// route is logged. 0: never.
    pub stall_threshold: Duration,
    /// The number of connections that the kernel holds until they are accepted: the argument of `listen(2)`. With 0,
    /// Linux holds one.
    pub backlog: u16,
    /// The permissions of the files of Unix sockets, as in `0o660`. A peer needs the permission to write. `None`: as
    /// the umask of the process says.
    pub unix_mode: Option<u32>,
    /// The user that owns the files of Unix sockets, by number. `None`: the user of the process.
    pub unix_user: Option<u32>,
    /// The group of the files of Unix sockets, by number. `None`: the group of the process.
    pub unix_group: Option<u32>,
    /// The largest number of open connections, including upgraded ones and idle ones. [`Config::overload`] is the
    /// policy for further ones. With [`Overload::Wait`], an idle connection keeps its place until
    /// [`Config::keep_alive`] is over, so a server with few places has a short time there. During a stop, the
    /// connections in the queue of the kernel are accepted beyond the number, so that they are answered.
    pub max_connections: usize,
    /// The policy for connections beyond [`Config::max_connections`].
    pub overload: Overload,
    /// The number of requests after which a connection is closed, at least 1. `None`: no limit.
    pub max_requests: Option<u64>,
    /// The age at which a connection is closed, after its next response. With 0, each connection has one response.
    pub max_age: Duration,
    /// The time for which a connection may stay open without a request. With 0, a connection closes unless its next
    /// request has arrived with the one before it.
    pub keep_alive: Duration,
    /// The time in which a request head must arrive. It starts with the connection for the first head, and with the
    /// first byte of the head for others.
    pub header_timeout: Duration,
    /// The time for which a request body may pause while the handler, or a blocking backend before it calls the
    /// handler, waits for it.
    pub body_timeout: Duration,
    /// The largest request body, in bytes, that a blocking backend receives before it calls the handler, so that a
    /// slow upload holds no thread. The handler reads a larger body itself and holds its thread. With 0, and for a
    /// request with `Expect: 100-continue`, the handler is called once the head is complete. Event loops ignore the
    /// setting.
    pub body_buffer: usize,
    /// The lowest rate, in bytes per second, at which a peer must send a request body and receive a response. 0: no
    /// minimum.
    ///
    /// All waits for one body together last at most [`Config::body_timeout`] plus the time that the bytes received
    /// since the first wait began take at this rate. All waits of one flush, which sends the queued bytes of responses,
    /// together last at most [`Config::write_timeout`] plus the time of the bytes sent since its first wait began.
    /// Earlier bytes, such as those that came with the head, do not count. A wait whose end the server notices late
    /// does not count, once for each body and flush, because the process may not have run. Of a later one, the time
    /// after its deadline does not count if it is 1 s or longer.
    pub min_rate: u32,
    /// The time in which a handler must begin its response. The time that it waits for the request body does not
    /// count. The handler is dropped at an `.await` of an async handler. Code that holds its thread is not interrupted
    /// and runs on until its next `.await`. On a blocking backend this includes a sync handler, also one that waits in
    /// [`Runtime::block_on`](crate::Runtime::block_on).
    pub handler_timeout: Duration,
    /// The policy for a handler whose peer has left. [`on_disconnect()`](crate::on_disconnect()) sets another one for
    /// a route.
    pub on_disconnect: OnDisconnect,
    /// The time for which a peer may receive no byte of a response. A peer that reads nothing is noticed after one to
    /// two times this time: its system, and that of the server, may take bytes that the peer does not read, and each
    /// byte that is taken begins a new wait.
    pub write_timeout: Duration,
    /// The time for which a streamed response may wait for its next piece after the peer has ended its sending side.
    /// Such a peer has closed the connection, or waits for the rest of the response (a half-close). Nothing but a write
    /// tells the two apart. The time starts again with each byte of the response that is written, and with each byte of
    /// the request's body that the response reads. [`Duration::MAX`] lets every half-closed peer wait. The server then
    /// notices that a peer has closed the connection at the next write, or by [`Config::tcp_keepalive`].
    pub half_closed_timeout: Duration,
    /// The time without a packet of the peer after which the system probes a TCP connection (`SO_KEEPALIVE`). A
    /// connection whose peer has vanished without closing it ends a minute later. The time is rounded down to whole
    /// seconds. A time below 1 s counts as 1 s, and one above 32,767 s (9 h) as 32,767 s. [`Duration::MAX`] switches
    /// the probes off.
    pub tcp_keepalive: Duration,
    /// The time for which a closing connection is still read, so that the peer receives the last response (RFC 9112,
    /// 9.6). With 0, it closes at once.
    pub linger: Duration,
    /// The time between the request for a graceful stop and the drain. Readiness ([`readyz()`](crate::readyz())) is off
    /// from the request on, and the server accepts and serves as before until the time is over, so that a load balancer
    /// can notice. A second signal, or [`Shutdown::force`](crate::Shutdown::force), ends it. With 0, the drain begins
    /// at once. It does not apply to a stop that is requested before the application has started.
    pub drain_delay: Duration,
    /// The time that requests in flight, upgraded connections and background tasks have to end after a stop was
    /// requested and [`Config::drain_delay`] is over. A connection that the system had established by then has this
    /// time for its first request, within [`Config::header_timeout`]. With 0, all are cut at once.
    pub graceful_timeout: Duration,
    /// Whether a connection that has answered requests waits for another one after a stop was requested, as long as
    /// [`Config::keep_alive`] allows and the grace period lasts. The response to that request announces the close. A
    /// client that keeps its connections for a shorter time than `keep_alive` then loses no request to the stop, which
    /// takes longer. Otherwise such a connection closes at once, and a request that is on its way finds it closed.
    pub drain_idle: bool,
    /// Whether responses have a `Date` field (RFC 9110, 6.6.1).
    pub date_header: bool,
    /// Whether responses have the field `Server: gearshift` (RFC 9110, 10.2.4).
    pub server_header: bool,
    /// Whether there is an access log. It has one line for each response, also for those that no handler has sent, and
    /// one for each request that was given up because its peer has left or a stop has cut it.
    ///
    /// The client in a line is the peer. With [`Config::forwarded_from`], it is the client that a trusted proxy tells.
    /// The line of an upgrade is written with its 101. A connection that ends within a head has sent no request.
    pub access_log: bool,
    /// The format of the lines of the access log.
    pub access_log_format: AccessFormat,
    /// The place for the lines of the access log. `None`: the log of the crate `log`, with level `info` and target
    /// `gearshift::access`.
    pub access_log_to: Option<Arc<dyn AccessSink>>,
    /// The largest number of routes whose latency is counted in a histogram each, up to
    /// [`Config::MAX_ROUTE_HISTOGRAMS`], which is 65,536. 0, the default: there are no histograms, and they cost
    /// nothing. [`Stats::routes`](crate::Stats::routes) has them, and [`metrics()`](crate::metrics()). Routes that are
    /// asked for when there are as many already share one more, and so do all requests without a route.
    ///
    /// The latency of a request is the duration in the access log: from the beginning of its head until the system had
    /// the last byte of its response, or of the part of a response that was sent. A request without a byte of a
    /// response does not count. A histogram takes some 256 bytes for each thread that serves requests.
    pub route_histograms: usize,
    /// The limits on the input and output of one connection.
    pub limits: Limits,
    /// The proxies that are trusted to name the client of a request, in the fields of [`Config::forwarded_field`].
    /// [`Request::client`](crate::Request::client) and the access log show the client that they name. The fields of
    /// other peers are ignored. Empty by default: no peer is trusted.
    ///
    /// Each proxy adds the address of its peer at the end. The client is the first address from the right that is
    /// not one of these proxies, or the leftmost address if all are. What stands on its left is not read, because the
    /// client may have sent it. The scheme and the host are those of the proxy that tells the client's address, or the
    /// leftmost ones if `X-Forwarded-Proto` or `X-Forwarded-Host` has fewer elements than `X-Forwarded-For`.
    ///
    /// If an element that is needed is malformed, its field is ignored as a whole. **A proxy must set or delete each of
    /// the fields that are read**: one that sets `X-Forwarded-For` alone passes on any `X-Forwarded-Host` that
    /// its client sends.
    pub forwarded_from: Networks,
    /// Which fields of [`Config::forwarded_from`] are read: `X-Forwarded-For` and its relatives by default. The others
    /// are ignored, also in a request that has no field of this kind.
    pub forwarded_field: ForwardedField,
    /// The proxies whose connections begin with a header of the PROXY protocol, version 1 or 2, which names
    /// their client. Empty by default: a header is a malformed request.
    ///
    /// [`Request::peer`](crate::Request::peer) is then the client that the header names, as if it had connected itself,
    /// and [`Config::forwarded_from`] is compared with this address. If the header says that the client speaks TLS, the
    /// scheme of [`Request::client`](crate::Request::client) is `https`. `LOCAL`, `UNKNOWN` and an unspecified family
    /// keep the address of the proxy. Other additional values, and checksums, are ignored.
    ///
    /// A connection of such a proxy without a valid header is closed without a response, and counts as refused in the
    /// statistics. A warning is logged once a second at most. A header has at most 107 bytes in version 1 and 4,096
    /// bytes in version 2. The time for it is a part of [`Config::header_timeout`].
    pub proxy_protocol_from: Networks,
    /// The settings of TLS. `None`: the server speaks plain HTTP. With them, all addresses speak TLS alone; a request
    /// without TLS is answered with 400. [`Config::header_timeout`] includes the handshake. The statistics and the
    /// access log count the bytes inside TLS.
    pub tls: Option<TlsConfig>,
    /// The settings of HTTP/2. There are some with the feature `http2`, and the server then speaks HTTP/2 on the
    /// backends that have it, unless `http2.enabled` is false.
    pub http2: Http2,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: None,
            threads: None,
            thread_wrapper: None,
            blocking_threads: 64,
            compute_threads: None,
            pool_queue: 1024,
            pool_overload: Overload::Wait,
            connect_timeout: Duration::from_secs(30),
            stall_threshold: Duration::from_millis(50),
            backlog: 2048,
            unix_mode: None,
            unix_user: None,
            unix_group: None,
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
            half_closed_timeout: Duration::from_secs(5),
            tcp_keepalive: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            drain_delay: Duration::ZERO,
            graceful_timeout: Duration::from_secs(30),
            drain_idle: false,
            date_header: true,
            server_header: true,
            access_log: false,
            access_log_format: AccessFormat::Plain,
            access_log_to: None,
            route_histograms: 0,
            limits: Limits::default(),
            forwarded_from: Networks::default(),
            forwarded_field: ForwardedField::default(),
            proxy_protocol_from: Networks::default(),
            tls: None,
            http2: Http2::default(),
        }
    }
}

impl Config {
    /// The largest number of threads of one kind: 32,768.
    pub const MAX_THREADS: usize = 1 << 15;
    /// The largest value of [`Config::route_histograms`]: 65,536.
    pub const MAX_ROUTE_HISTOGRAMS: usize = 1 << 16;

    /// The shortest timeout of a connection, at least 1 ms. No deadline that is set now is due earlier. A `keep_alive`
    /// of 0 does not count, because no connection stays open for another request then.
    ///
    /// Backends that check all deadlines periodically, instead of keeping a timer for each, use it as the period.
    pub fn shortest_timeout(&self) -> Duration {
        // `handler_timeout` is not in the list: a connection with a running handler is not checked periodically.
        [self.keep_alive, self.header_timeout, self.body_timeout, self.write_timeout, self.linger]
            .into_iter()
            .skip(self.keep_alive.is_zero().into())
            .min()
            .expect("the list is not empty")
            .max(Duration::from_millis(1))
    }

    /// The largest number of connections that are open at once, with those that are being refused.
    pub fn max_open(&self) -> usize {
        let refusals = if self.overload == Overload::Refuse { Overload::REFUSALS } else { 0 };
        self.max_connections.saturating_add(refusals)
    }

    /// The number of file descriptors that the server itself needs, beside those of connections, if it listens at this
    /// number of addresses: the standard streams, listeners, pollers. It is an upper bound for the backends of this
    /// project, without the files and the outgoing connections of the application.
    pub fn own_descriptors(&self, addresses: usize) -> usize {
        // An event loop has a poller of up to three descriptors, and each of its acceptors has a listener and a
        // reserve.
        let of_loop = addresses.saturating_mul(2).saturating_add(3);
        self.workers_or_cores().saturating_mul(of_loop).saturating_add(16)
    }

    /// [`Config::workers`], or its default; at least 1.
    pub fn workers_or_cores(&self) -> usize {
        self.workers.unwrap_or_else(cores).max(1)
    }

    /// [`Config::compute_threads`], or its default; at least 1.
    pub fn compute_threads_or_cores(&self) -> usize {
        self.compute_threads.unwrap_or_else(cores).max(1)
    }

    /// [`Config::threads`], or its default; at least 1.
    pub fn threads_or_default(&self) -> usize {
        self.threads.unwrap_or_else(|| 16 * cores()).max(1)
    }
}

/// The fields in which the trusted proxies name the client of a request; see [`Config::forwarded_field`].
///
/// A server reads fields of one kind alone. Proxies set one kind, and pass on fields of the other kind that a client
/// sends.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Config, ForwardedField};
///
/// let mut config = Config::default();
/// config.forwarded_from = "10.0.0.0/8".parse()?;
/// config.forwarded_field = ForwardedField::Forwarded;
/// # Ok::<(), gearshift::NetworksError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The policy when a resource is exhausted: the policy for connections when [`Config::max_connections`] are open or
/// the process has no file descriptor left, and for offloaded jobs when [`Config::pool_queue`] jobs wait.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Config, Overload};
///
/// let mut config = Config::default();
/// config.max_connections = 10_000;
/// config.overload = Overload::Refuse;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// The connection waits in the queue of the kernel, and the job in that of the pool.
    #[default]
    Wait,
    /// The request is answered with 503 and `Retry-After`; a refused connection is then closed. At most
    /// [`Overload::REFUSALS`] connections are being refused at once. Further ones wait in the queue of the kernel.
    Refuse,
}

impl Overload {
    /// The largest number of connections, beyond [`Config::max_connections`], that are open to be refused.
    pub const REFUSALS: usize = 1024;
    /// The value of `Retry-After`, in seconds (RFC 9110, 10.2.3).
    pub const RETRY_AFTER: u32 = Error::RETRY_AFTER;
}

/// The policy for a waiting handler whose peer has left.
///
/// A peer that has closed only its sending side (a half-close) may still want the response. The server therefore sends
/// it an interim response `100 Continue` from time to time. A client that is present ignores the interim response; the
/// operating system of a client that has left answers with a reset. An HTTP/1.0 peer does not know interim responses
/// and counts as present until a write fails or [`Config::handler_timeout`] ends the request. A streamed response has
/// begun, so its peer cannot be asked: [`Config::half_closed_timeout`] applies to it.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{OnDisconnect, Request, Router, on_disconnect};
///
/// async fn pay(_: Request) -> &'static str {
///     "paid"
/// }
///
/// // The payment is completed also if the peer leaves.
/// let app = Router::new().post("/pay", on_disconnect(OnDisconnect::Detach, pay));
/// # drop(app);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The future of the handler is dropped.
    #[default]
    Cancel,
    /// The connection is closed. The future continues until [`Config::handler_timeout`], and its response is dropped.
    /// It counts as a background task, so a graceful stop waits for it. On an event loop it is a background task, which
    /// must not block. On a blocking backend it keeps its thread, as it does while the peer is there.
    Detach,
    /// The future continues on the connection. Sending its response then fails.
    Ignore,
}

/// The number of threads that the process can run in parallel; 1 if the system does not tell.
///
/// ```
/// assert!(gearshift_core::config::cores() >= 1);
/// ```
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_alive_of_0_is_not_the_shortest_timeout() {
        let with = |keep_alive| Config { keep_alive, ..Config::default() };
        let short = Duration::from_millis(20);
        assert_eq!(with(short).shortest_timeout(), short);
        assert_eq!(with(Duration::ZERO).shortest_timeout(), Config::default().linger);
    }
}
