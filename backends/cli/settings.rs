//! The flags of the command line. A flag that gunicorn or uvicorn has too is called as it is there. Each setting has an
//! environment variable. Each time may be `never`.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use gearshift_core::{Bind, Config, ForwardedField, Networks, OnDisconnect, Overload};

use super::access_flags::AccessFlags;
use super::config_file::FileFlags;
use super::observe_flags::ObserveFlags;
use super::process_flags::ProcessFlags;
use super::{Http2Flags, TlsFlags, values};
use crate::{Backend, BackendError};

/// The end of the help.
const HELP_FOOTER: &str = "\
TIME is a number of seconds, or a number with the unit ms, s, m or h, or never: 5, 500ms, 2m, never.
SIZE is a number of bytes, or a number with the unit k, m or g (powers of 1,024): 4096, 64k, 2GiB.
A flag has precedence over its environment variable, and the variable over --config. An empty variable counts as not
set.

Signals: after the first SIGINT or SIGTERM the server finishes the requests in flight and stops, with --drain-delay
after that time. A second one stops it at once. With TLS, SIGHUP reads the files of --tls-cert and its relatives again;
without TLS and --processes, it ends the program. SIGUSR1 opens the file of --access-log again.

With --processes, the first SIGINT or SIGTERM stops all processes in this way, and a second one, or SIGQUIT, stops them
at once. SIGHUP replaces one process after another with the program as it is on disk. SIGTTIN and SIGTTOU add and remove
a process. A process that dies is replaced.

Exit status:
  0  stopped, and all requests in flight were answered (background tasks may have been cut: see the log)
  1  requests were cut, or the server failed while it ran or did not stop in time
  2  the command line, the environment or the file of --config is invalid
  3  the server cannot start
  4  the backend is unknown or not compiled in";

/// The settings of a server, from the command line, the environment and the file of `--config`.
///
/// A program that has more flags includes these with `#[command(flatten)]`. The flags of the program
/// are then keys of the file of `--config` as well. A flag has precedence over its environment variable, the variable
/// over the file, and the file over the default. [`parse`](super::parse) reads the file, and takes a blank variable as
/// not set. It must be called, because clap alone does not read the file: [`serve`](super::serve) then refuses
/// `--config`.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use clap::Parser;
/// use gearshift::cli::{self, Settings};
/// use gearshift::{Router, sync};
///
/// /// Greets.
/// #[derive(Parser)]
/// #[command(version)]
/// struct Program {
///     #[command(flatten)]
///     server: Settings,
///     /// The name to greet
///     #[arg(long, default_value = "World")]
///     name: String,
/// }
///
/// fn main() -> ExitCode {
///     let program: Program = match cli::parse() {
///         Ok(program) => program,
///         Err(status) => return status,
///     };
///     let greeting = format!("Hello, {}!", program.name);
///     cli::serve(&program.server, Router::new().get("/", sync(move |_| greeting.clone())))
/// }
/// ```
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server", after_help = HELP_FOOTER)]
pub struct Settings {
    #[command(flatten)]
    pub(crate) file: FileFlags,

    /// Concurrency model, one of --list-backends [default: the first of them]
    #[arg(short = 'k', long, value_name = "NAME", env = "GEARSHIFT_BACKEND")]
    backend: Option<String>,

    /// List the concurrency models that are compiled in, and exit
    #[arg(long)]
    pub(crate) list_backends: bool,

    /// Address to listen on: HOST:PORT (port 0: any free port), unix:PATH, fd://N, or systemd or systemd:NAME for its
    /// sockets; several are repeated, or separated by commas [default: systemd if it passes sockets on, or
    /// 127.0.0.1:8000]
    #[arg(short, long, value_name = "ADDR", env = "GEARSHIFT_BIND", value_parser = values::bind)]
    #[arg(value_delimiter = ',')]
    bind: Vec<Bind>,

    /// Number of event loops, or of threads of a work-stealing runtime; also WEB_CONCURRENCY [default: one per core]
    #[arg(short, long, value_name = "N", env = "GEARSHIFT_WORKERS", value_parser = values::count)]
    workers: Option<usize>,

    #[arg(long, hide = true, env = "WEB_CONCURRENCY", value_parser = values::count)]
    web_concurrency: Option<usize>,

    #[command(flatten)]
    pub(crate) processes: ProcessFlags,

    /// Number of threads of the backend `threadpool` [default: 16 per core]
    #[arg(long, value_name = "N", env = "GEARSHIFT_THREADS", value_parser = values::count)]
    threads: Option<usize>,

    /// Number of threads for blocking work, where it does not run in place [default: 64]
    #[arg(long, value_name = "N", env = "GEARSHIFT_BLOCKING_THREADS", value_parser = values::count)]
    blocking_threads: Option<usize>,

    /// Number of threads for computing work, where it does not run in place [default: one per core]
    #[arg(long, value_name = "N", env = "GEARSHIFT_COMPUTE_THREADS", value_parser = values::count)]
    compute_threads: Option<usize>,

    /// Length of the queue for those threads, with --pool-overload refuse [default: 1024]
    #[arg(long, value_name = "N", env = "GEARSHIFT_POOL_QUEUE")]
    pool_queue: Option<usize>,

    /// Policy when that queue is full: wait, or refuse with 503 [default: wait]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_POOL_OVERLOAD", value_parser = values::overload)]
    pool_overload: Option<Overload>,

    /// Timeout for an outgoing connection, with the lookup of its name; 10s at most for each address [default: 30s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_CONNECT_TIMEOUT", value_parser = values::timeout)]
    connect_timeout: Option<Duration>,

    /// Time after which a handler that stalls its event loop is logged; 0: never [default: 50ms]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_STALL_THRESHOLD", value_parser = values::duration)]
    stall_threshold: Option<Duration>,

    /// Length of the kernel's queue of connections to accept [default: 2048]
    #[arg(long, value_name = "N", env = "GEARSHIFT_BACKLOG")]
    backlog: Option<u16>,

    /// Permissions of a Unix socket, in octal, such as 660 [default: those of the umask]
    #[arg(long, value_name = "MODE", env = "GEARSHIFT_UNIX_MODE", value_parser = values::mode)]
    unix_mode: Option<u32>,

    /// Owner of a Unix socket, a name or a number [default: the user of the process]
    #[arg(long, value_name = "USER", env = "GEARSHIFT_UNIX_USER", value_parser = values::user)]
    unix_user: Option<u32>,

    /// Group of a Unix socket, a name or a number [default: the group of the process]
    #[arg(long, value_name = "GROUP", env = "GEARSHIFT_UNIX_GROUP", value_parser = values::group)]
    unix_group: Option<u32>,

    /// Maximum number of open connections; idle ones keep their places for --keep-alive [default: 10000]
    #[arg(long, value_name = "N", env = "GEARSHIFT_MAX_CONNECTIONS", value_parser = values::count)]
    max_connections: Option<usize>,

    /// Policy for further connections: wait in the kernel's queue, or refuse with 503 [default: wait]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_OVERLOAD", value_parser = values::overload)]
    overload: Option<Overload>,

    /// Maximum number of requests on a connection; 0: no limit [default: 1000000]
    #[arg(long, value_name = "N", env = "GEARSHIFT_MAX_REQUESTS")]
    max_requests: Option<u64>,

    /// Maximum age of a connection [default: 1h]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_MAX_AGE", value_parser = values::duration)]
    max_age: Option<Duration>,

    /// Timeout of an idle connection [default: 5s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_KEEP_ALIVE", value_parser = values::duration)]
    keep_alive: Option<Duration>,

    /// Timeout for receiving a request head [default: 10s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_HEADER_TIMEOUT", value_parser = values::timeout)]
    header_timeout: Option<Duration>,

    /// Timeout for receiving further bytes of a request body [default: 30s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_BODY_TIMEOUT", value_parser = values::timeout)]
    body_timeout: Option<Duration>,

    /// On a blocking backend, largest body that is received before its request begins; 0: none [default: 64k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_BODY_BUFFER", value_parser = values::size::<usize>)]
    body_buffer: Option<usize>,

    /// Minimum rate of a body in bytes per second, beyond the body or write timeout; 0: no minimum [default: 256]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MIN_RATE", value_parser = values::size::<u32>)]
    min_rate: Option<u32>,

    /// Timeout for an async handler that waits to begin its response; then 503 [default: 30s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_TIMEOUT", value_parser = values::timeout)]
    timeout: Option<Duration>,

    /// Policy for a waiting handler whose client disconnects: cancel, detach or ignore [default: cancel]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_ON_DISCONNECT", value_parser = values::on_disconnect)]
    on_disconnect: Option<OnDisconnect>,

    /// Timeout for sending further bytes of a response [default: 30s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_WRITE_TIMEOUT", value_parser = values::timeout)]
    write_timeout: Option<Duration>,

    /// Timeout for the next piece of a streamed response whose client has ended its sending side [default: 5s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_HALF_CLOSED_TIMEOUT", value_parser = values::timeout)]
    half_closed_timeout: Option<Duration>,

    /// Time without a packet after which the system probes a TCP client, in whole seconds up to 32767 [default: 60s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_TCP_KEEPALIVE", value_parser = values::timeout)]
    tcp_keepalive: Option<Duration>,

    /// Time to keep reading from a refused client, so that it receives the reason [default: 2s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_LINGER", value_parser = values::duration)]
    linger: Option<Duration>,

    /// Time for requests in flight to finish when the server stops [default: 30s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_GRACEFUL_TIMEOUT", value_parser = values::duration)]
    graceful_timeout: Option<Duration>,

    /// Maximum size of a request body, such as 65536, 64k or 2GiB; beyond: 413 [default: 2GiB]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_BODY", value_parser = values::size::<u64>)]
    max_body: Option<u64>,

    /// Maximum size of an unread body that is discarded to keep a connection open [default: 256k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_DRAIN", value_parser = values::size::<u64>)]
    max_drain: Option<u64>,

    /// Maximum size of a request line; beyond: 414 [default: 8190]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_REQUEST_LINE", value_parser = values::head)]
    max_request_line: Option<usize>,

    /// Maximum size of a header field; beyond: 431 [default: 8190]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_FIELD", value_parser = values::head)]
    max_field: Option<usize>,

    /// Maximum size of a request head, up to 65535; beyond: 431 [default: 32k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_HEAD", value_parser = values::head)]
    max_head: Option<usize>,

    /// Maximum number of header fields of a request, up to 256; beyond: 431 [default: 100]
    #[arg(long, value_name = "N", env = "GEARSHIFT_MAX_FIELDS", value_parser = values::fields)]
    max_fields: Option<usize>,

    /// Maximum number of response bytes that are buffered for a slow client [default: 256k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_MAX_OUTPUT", value_parser = values::buffer)]
    max_output: Option<usize>,

    /// Maximum number of pipelined requests answered in one turn of a connection [default: 64]
    #[arg(long, value_name = "N", env = "GEARSHIFT_MAX_PIPELINE", value_parser = values::count)]
    max_pipeline: Option<usize>,

    /// Proxies whose fields that tell the client are believed: addresses, networks, unix or *, separated by commas
    /// [default: none]
    #[arg(long, value_name = "NETS", env = "GEARSHIFT_FORWARDED_ALLOW_IPS")]
    forwarded_allow_ips: Option<Networks>,

    /// Fields of these proxies: x-forwarded for X-Forwarded-For, -Proto and -Host, or forwarded for Forwarded
    /// [default: x-forwarded]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_FORWARDED_FIELD", value_parser = values::forwarded_field)]
    forwarded_field: Option<ForwardedField>,

    /// Proxies whose connections begin with a header of the PROXY protocol, version 1 or 2 [default: none]
    #[arg(long, value_name = "NETS", env = "GEARSHIFT_PROXY_PROTOCOL_FROM")]
    proxy_protocol_from: Option<Networks>,

    #[command(flatten)]
    pub(crate) tls: TlsFlags,

    #[command(flatten)]
    http2: Http2Flags,

    #[command(flatten)]
    pub(crate) access: AccessFlags,

    #[command(flatten)]
    pub(crate) observe: ObserveFlags,

    /// Log level: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "GEARSHIFT_LOG_LEVEL", value_parser = values::level)]
    #[arg(default_value = "info")]
    pub(crate) log_level: log::LevelFilter,

    /// Do not send the Date field
    #[arg(long, env = "GEARSHIFT_NO_DATE_HEADER", value_parser = BoolishValueParser::new())]
    no_date_header: bool,

    /// Do not send the Server field
    #[arg(long, env = "GEARSHIFT_NO_SERVER_HEADER", value_parser = BoolishValueParser::new())]
    no_server_header: bool,
}

impl Settings {
    /// The backend that the user selected, or the preferred one by default.
    ///
    /// # Errors
    /// [`BackendError`] if the name is unknown, or if no backend is compiled in.
    pub fn backend(&self) -> Result<Backend, BackendError> {
        match &self.backend {
            Some(name) => name.parse(),
            None => Backend::default().ok_or(BackendError::None),
        }
    }

    /// The addresses to listen on. Without `--bind`, those are the sockets that systemd passes on, or 127.0.0.1:8000 if
    /// there are none.
    pub fn binds(&self) -> Vec<Bind> {
        match self.bind.is_empty() {
            false => self.bind.clone(),
            true if Bind::has_systemd() => vec![Bind::Systemd(None)],
            true => vec![Bind::Tcp("127.0.0.1:8000".to_owned())],
        }
    }

    /// The number of processes of `--processes`; `None` if this process serves. A process that a supervisor has started
    /// has the flag as well: [`is_supervised`](super::is_supervised) tells.
    ///
    /// ```
    /// # use clap::Parser;
    /// # use gearshift::cli::{self, Settings};
    /// # #[derive(Parser)]
    /// # struct Program {
    /// #     #[command(flatten)]
    /// #     settings: Settings,
    /// # }
    /// let Program { settings } = cli::parse_from(["program", "--processes", "2"]).expect("the flag is valid");
    /// assert_eq!(settings.processes(), Some(2));
    /// if settings.processes().is_none() || cli::is_supervised() {
    ///     // This process serves, and will start the application.
    /// }
    /// ```
    pub fn processes(&self) -> Option<usize> {
        self.processes.processes
    }

    /// Sets the number of processes, for a program with a flag that needs a supervisor.
    ///
    /// ```
    /// use clap::Parser;
    /// use gearshift::cli::{self, Settings};
    ///
    /// #[derive(Parser)]
    /// struct Program {
    ///     #[command(flatten)]
    ///     settings: Settings,
    /// }
    ///
    /// let Program { mut settings } = cli::parse_from(["program"]).expect("there are no flags");
    /// settings.set_processes(1);
    /// assert_eq!(settings.processes(), Some(1));
    /// ```
    pub fn set_processes(&mut self, processes: usize) {
        self.processes.processes = Some(processes);
    }

    /// All other settings. Those of TLS are not among them, because they read files: see `Settings::tls`. The file of
    /// `--access-log` is not among them either: [`serve`](super::serve) opens it.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.workers = self.workers.or(self.web_concurrency);
        config.threads = self.threads;
        set(&mut config.blocking_threads, self.blocking_threads);
        config.compute_threads = self.compute_threads;
        set(&mut config.pool_queue, self.pool_queue);
        set(&mut config.pool_overload, self.pool_overload);
        set(&mut config.connect_timeout, self.connect_timeout);
        set(&mut config.stall_threshold, self.stall_threshold);
        set(&mut config.backlog, self.backlog);
        config.unix_mode = self.unix_mode;
        config.unix_user = self.unix_user;
        config.unix_group = self.unix_group;
        set(&mut config.max_connections, self.max_connections);
        set(&mut config.overload, self.overload);
        set(&mut config.max_requests, self.max_requests.map(|n| Some(n).filter(|n| *n != 0)));
        set(&mut config.max_age, self.max_age);
        set(&mut config.min_rate, self.min_rate);
        set(&mut config.handler_timeout, self.timeout);
        set(&mut config.on_disconnect, self.on_disconnect);
        set(&mut config.linger, self.linger);
        set(&mut config.half_closed_timeout, self.half_closed_timeout);
        set(&mut config.tcp_keepalive, self.tcp_keepalive);
        set(&mut config.keep_alive, self.keep_alive);
        set(&mut config.header_timeout, self.header_timeout);
        set(&mut config.body_timeout, self.body_timeout);
        set(&mut config.body_buffer, self.body_buffer);
        set(&mut config.write_timeout, self.write_timeout);
        set(&mut config.graceful_timeout, self.graceful_timeout);
        set(&mut config.forwarded_from, self.forwarded_allow_ips.clone());
        set(&mut config.forwarded_field, self.forwarded_field);
        set(&mut config.proxy_protocol_from, self.proxy_protocol_from.clone());
        config.drain_idle = self.processes.drain_idle();
        self.access.set(&mut config);
        self.observe.set(&mut config);
        config.date_header = !self.no_date_header;
        config.server_header = !self.no_server_header;
        set(&mut config.limits.body, self.max_body);
        set(&mut config.limits.head, self.max_head);
        set(&mut config.limits.fields, self.max_fields);
        set(&mut config.limits.request_line, self.max_request_line);
        set(&mut config.limits.field_line, self.max_field);
        set(&mut config.limits.drain, self.max_drain);
        set(&mut config.limits.output, self.max_output);
        set(&mut config.limits.pipeline, self.max_pipeline);
        self.http2.set(&mut config.http2);
        config
    }
}

/// Sets a setting if there is a value for it.
pub(crate) fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    fn config(flags: &str) -> Config {
        let args = std::iter::once("program").chain(flags.split_whitespace());
        Program::try_parse_from(args).expect("the flags are valid").settings.config()
    }

    #[test]
    fn flags_are_consistent() {
        <Program as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        assert_eq!(format!("{:?}", config("")), format!("{:?}", Config::default()));
    }

    #[test]
    fn each_flag_sets_its_setting() {
        let config = config(
            "-w 3 --threads 4 --backlog 5 --max-connections 6 --max-requests 7 --keep-alive 8 --header-timeout 9s \
             --body-timeout 10ms --body-buffer 28k --write-timeout 11m --graceful-timeout 12 --max-body 13k \
             --max-head 14k --max-fields 15 --overload refuse --max-age 16 --min-rate 17 --timeout 18 \
             --on-disconnect detach \
             --linger 19 --half-closed-timeout 28 --tcp-keepalive 29 --max-drain 20 --max-request-line 21 \
             --max-field 22 --max-output 4096 --max-pipeline 23 --blocking-threads 24 --compute-threads 25 \
             --pool-queue 26 --pool-overload refuse --stall-threshold 27ms \
             --unix-mode 660 --unix-user 28 --unix-group 29 --connect-timeout 30ms --access-log \
             --access-log-format json --drain-delay 31 --route-histograms 32 --drain-idle wait \
             --no-date-header --no-server-header --forwarded-allow-ips 10.0.0.0/8,unix \
             --forwarded-field forwarded --proxy-protocol-from 10.0.0.1",
        );
        // The settings of HTTP/2 depend on its feature, and `http2_flags` tests them.
        let shown = format!("{config:?}");
        assert_eq!(
            shown.split(", http2").next().unwrap_or_default(),
            "Config { workers: Some(3), threads: Some(4), thread_wrapper: None, blocking_threads: 24, compute_threads: Some(25), \
             pool_queue: 26, pool_overload: Refuse, connect_timeout: 30ms, stall_threshold: 27ms, backlog: 5, \
             unix_mode: Some(432), unix_user: Some(28), unix_group: Some(29), max_connections: 6, overload: Refuse, \
             max_requests: Some(7), max_age: 16s, keep_alive: 8s, header_timeout: 9s, \
             body_timeout: 10ms, body_buffer: 28672, min_rate: 17, handler_timeout: 18s, on_disconnect: Detach, \
             write_timeout: 660s, half_closed_timeout: 28s, tcp_keepalive: 29s, linger: 19s, \
             drain_delay: 31s, graceful_timeout: 12s, drain_idle: true, date_header: false, server_header: false, \
             access_log: true, access_log_format: Json, access_log_to: None, route_histograms: 32, \
             limits: Limits { request_line: 21, field_line: 22, fields: 15, head: 14336, \
             body: 13312, drain: 20, output: 4096, pipeline: 23 }, forwarded_from: Networks(unix,10.0.0.0/8), \
             forwarded_field: Forwarded, proxy_protocol_from: Networks(10.0.0.1/32), tls: None"
        );
    }

    #[test]
    fn the_last_of_two_opposite_flags_wins() {
        assert!(config("--no-access-log --access-log").access_log);
        assert!(!config("--access-log --no-access-log").access_log);
        assert!(!config("--access-log=/a/file --no-access-log").access_log);
    }

    #[test]
    fn idle_connections_wait_with_several_processes() {
        for (flags, expected) in [
            ("", false),
            ("--processes 2", true),
            ("--processes 2 --drain-idle close", false),
            ("--drain-idle wait", true),
        ] {
            assert_eq!(config(flags).drain_idle, expected, "{flags}");
        }
    }

    #[test]
    fn zero_switches_a_limit_off() {
        assert_eq!(config("--max-requests 0").max_requests, None);
    }

    #[test]
    fn never_is_a_time() {
        assert_eq!(config("--timeout never").handler_timeout, Duration::MAX);
        assert_eq!(config("--keep-alive never").keep_alive, Duration::MAX);
    }
}
