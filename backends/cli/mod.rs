//! The command line of applications: [`run`] turns an application into a program.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use gearshift::{Router, cli, sync};
//!
//! fn main() -> ExitCode {
//!     cli::run(Router::new().get("/", sync(|_| "Hello, World!")))
//! }
//! ```
//!
//! After the first SIGINT or SIGTERM the server finishes the requests in flight and stops. A connection that was
//! established before gets its first request answered, so the stop waits for it, at most for `--header-timeout`. A
//! second signal stops the server at once. The exit status is:
//!
//! | status | meaning |
//! | --- | --- |
//! | 0 | the server stopped, and all requests in flight were answered; background tasks may have been cut, and a warning has their number |
//! | 1 | requests were cut, or the server failed while it ran or did not stop in time |
//! | 2 | the command line, the environment or the file of `--config` is invalid |
//! | 3 | the server cannot start: an address is in use, the backend does not support a setting, the application failed, the system refuses a resource |
//! | 4 | the backend is unknown or not compiled in |
//!
//! With `--drain-delay`, the first signal ends readiness (`/readyz` of [`readyz`](crate::readyz()) is 503), and the
//! server accepts and serves as before for that time. Then it stops as described. With `--metrics-bind`, a separate
//! listener answers `/metrics`, `/healthz` and `/readyz` from the start of the program to the end of the server.
//!
//! A second signal before the application has started cancels the start. The status is then 0 if no connection waited
//! for the start, and 1 otherwise. Each error is one line on standard error. The line `listening at` is logged before
//! the application has started: connections then wait in the queue of the kernel until it has.
//!
//! If the soft limit of file descriptors is too low for the maximum number of connections, it is raised as far as the
//! hard limit allows.
//!
//! `--config FILE` names a file with settings in TOML, whose keys are the names of the flags, those of the application
//! included. A flag has precedence over its environment variable, the variable over the file, and the file over the
//! default. `--check-config` checks all settings without listening, and `--print-config` prints them as such a file.
//! The document `docs/configuration.md` has the details.
//!
//! With the feature `tls`, the flags `--tls-cert` and `--tls-key` let the server speak TLS, and SIGHUP reads their
//! files again: handshakes that begin later use them. If a file is invalid, an error is logged and everything stays as
//! it is.
//!
//! A service of systemd gets its sockets by `--bind systemd`, or without `--bind` if there are any. With
//! `NOTIFY_SOCKET` in the environment, the program sends `READY=1` once the application has started and connections are
//! accepted, `STOPPING=1` when a stop begins, and `WATCHDOG=1` at half of the interval that systemd asks for, while
//! each event loop runs tasks. On the blocking backends, the background thread runs these tasks.
//!
//! # Several processes
//!
//! With `--processes N` this process becomes a supervisor: it binds the addresses and starts N processes of the same
//! program, with the same command line, that inherit the sockets and serve. Only these start the application; the code
//! of `main` before [`run`] or [`serve`] runs in the supervisor too. A process that dies is replaced, with pauses of
//! 250 ms to 30 s if it has lived for less than 10 s. If none serves at first, the supervisor ends with the status of
//! the first one. These signals are for the supervisor:
//!
//! | signal | effect |
//! | --- | --- |
//! | SIGTERM, SIGINT | all processes finish the requests in flight and stop; the exit status is the highest of theirs |
//! | the same again, SIGQUIT | all processes stop at once |
//! | SIGHUP | one process after another is replaced by the program as it is on disk now. Each old process stops when the new one serves. If a new process does not serve, the others stay, and an error is logged |
//! | SIGTTIN, SIGTTOU | one process more, one less |
//! | SIGUSR1 | all processes open the files of their logs again |
//!
//! If the supervisor ends in another way, its processes finish the requests in flight and end too. The document
//! `docs/processes.md` has the details.
//!
//! # The logs
//!
//! The log goes to standard error. A reader that does not read it delays no request: log lines wait in a queue of 1
//! MiB, and further lines are dropped. One line reports their number when standard error takes lines again. With
//! several processes, each line has the number of its process behind the level.
//!
//! The access log goes to the log, or to the file or the standard output that `--access-log` names. SIGUSR1 opens the
//! file again, for a program that has moved it away; lines that were logged before go to the old file. The lines for a
//! file wait in a separate queue, also of 1 MiB. Further lines are dropped. A warning in the log tells their number,
//! and so does the metric `gearshift_access_log_dropped_total`.

mod access_flags;
mod config_file;
mod descriptors;
#[cfg(feature = "http2")]
mod http2_flags;
mod log_output;
mod log_queue;
mod logs;
mod metrics;
#[cfg(not(feature = "http2"))]
mod no_http2_flags;
#[cfg(not(feature = "tls"))]
mod no_tls_flags;
mod observe_flags;
mod parse;
mod process_flags;
mod settings;
mod status;
mod supervised;
mod supervisor;
#[cfg(feature = "tls")]
mod tls_flags;
mod values;

use std::any::Any;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use gearshift_core::{App, Config, Endpoint, Report, ServeError, Server};

use crate::signals::{SLACK, SignalGuard};
#[cfg(feature = "http2")]
use http2_flags::Http2Flags;
use log_queue::LogQueue;
use logs::{ACCESS_LOG, FlushedLog, LOG, OF_PROCESS, log_to_stderr, max_write, reopen};
use metrics::MetricsListener;
#[cfg(not(feature = "http2"))]
use no_http2_flags::Http2Flags;
#[cfg(not(feature = "tls"))]
use no_tls_flags::{TlsFlags, on_hangup};
pub use parse::{parse, parse_from};
pub use settings::Settings;
pub use status::Status;
use supervised::Supervised;
pub use supervised::is_supervised;
#[cfg(feature = "tls")]
pub use tls_flags::TlsFlagsError;
#[cfg(feature = "tls")]
use tls_flags::{TlsFlags, on_hangup};
pub use values::{duration, size};

use crate::{Backend, systemd};

const CUT: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_START: u8 = 3;
const NO_SUCH_BACKEND: u8 = 4;

/// Serves an application with the settings of the command line, until a signal; see the [module](self).
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use gearshift::{Router, cli, sync};
///
/// fn main() -> ExitCode {
///     cli::run(Router::new().get("/", sync(|_| "Hello, World!")))
/// }
/// ```
pub fn run(app: impl Into<App>) -> ExitCode {
    /// Serves HTTP with the concurrency model of your choice.
    #[derive(Parser)]
    #[command(version)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }
    match parse::<Program>() {
        Ok(program) => serve(&program.settings, app),
        Err(status) => status,
    }
}

/// Serves the application with these settings, until a signal. A program calls this once, because it sets up the log of
/// the process, unless the program has set a logger. Lines that are logged after the return may be lost if the process
/// ends.
///
/// [`Settings`] has an example.
pub fn serve(settings: &Settings, app: impl Into<App>) -> ExitCode {
    serve_with(settings, app, |_| {}).into()
}

/// As [`serve`], for a program that sets what no flag sets. `change` is called once, with the configuration that the
/// command line, the environment and the file of `--config` have made, before the backend checks it. With `--processes`
/// it is called in the supervisor as well, and also with `--check-config`. Other defaults of flags are attributes of the
/// program, as in the example, so that a flag has precedence over them and the help shows them.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use clap::Parser;
/// use gearshift::cli::{self, Settings};
/// use gearshift::{Router, sync};
///
/// #[derive(Parser)]
/// #[command(mut_arg("keep_alive", |flag| flag.default_value("75s")))]
/// struct Program {
///     #[command(flatten)]
///     settings: Settings,
/// }
///
/// fn main() -> ExitCode {
///     let Program { settings } = match cli::parse() {
///         Ok(program) => program,
///         Err(status) => return status,
///     };
///     let app = Router::new().get("/", sync(|_| "Hello, World!"));
///     cli::serve_with(&settings, app, |config| config.limits.drain = 0).into()
/// }
/// ```
pub fn serve_with(settings: &Settings, app: impl Into<App>, change: impl FnOnce(&mut Config)) -> Status {
    if settings.list_backends {
        return list_backends();
    }
    if settings.file.were_ignored() {
        return fail(USAGE, "this program reads no file of settings: it does not call gearshift::cli::parse");
    }
    let supervised = Supervised::of_this_process();
    let processes = settings.processes.processes.filter(|_| supervised.is_none());
    let has_siblings = supervised.is_some() || processes.is_some();
    if let Err(error) = log_to_stderr(settings.log_level, has_siblings) {
        return fail(CANNOT_START, format_args!("the log could not be set up: {error}"));
    }
    let _flushed = FlushedLog;
    let backend = match settings.backend() {
        Ok(backend) => backend,
        Err(error) => return fail(NO_SUCH_BACKEND, error),
    };
    let mut config = settings.config();
    config.tls = match settings.tls() {
        Ok(tls) => tls,
        Err(error) => return fail(error.exit_status(), error),
    };
    change(&mut config);
    if has_siblings && settings.observe.metrics_bind.is_some() {
        return fail(USAGE, "--metrics-bind is for one process, and cannot be used with --processes");
    }
    if settings.file.check_config {
        let checked = backend.check(&config).and_then(|()| Server::check(&config));
        let checked = checked.map_err(|error| error.to_string()).and_then(|()| settings.access.check());
        return match checked {
            Ok(()) => Status::SUCCESS,
            Err(error) => fail(CANNOT_START, error),
        };
    }
    if has_siblings {
        share_cores(backend, &mut config, settings.processes.processes.unwrap_or(1));
    }
    let binds = supervised.as_ref().map_or_else(|| settings.binds(), Supervised::binds);
    descriptors::raise_limit(&config, binds.len());
    if let Some(processes) = processes {
        return supervisor::run(settings, backend, config, processes);
    }
    match settings.access.open(max_write(has_siblings)) {
        Ok(None) => {}
        Ok(Some(access_log)) => {
            config.access_log_to = Some(Arc::new(access_log.clone()));
            let _ = ACCESS_LOG.set(access_log);
        }
        Err(error) => return fail(CANNOT_START, error),
    }
    if supervised.is_some() && !config.drain_delay.is_zero() {
        // The supervisor ends the delay, after it has closed the queues. This one is for a supervisor that does not.
        config.drain_delay = config.drain_delay.saturating_add(SLACK);
    }
    let bound = backend.check(&config).and_then(|()| Server::bind(&binds, config));
    let guarded = bound.and_then(|server| {
        let (metrics, server) = match settings.observe.metrics_bind.clone() {
            Some(bind) => {
                let (metrics, server) = MetricsListener::start(backend, bind, server)?;
                (Some(metrics), server)
            }
            None => (None, server),
        };
        let (guards, server) = match supervised {
            Some(supervised) => guard_supervised(supervised, server)?,
            None => guard(server).inspect(|(_, server)| announce(backend, server, None))?,
        };
        Ok(((guards, metrics), server))
    });
    let (_guards, server) = match guarded {
        Ok(guarded) => guarded,
        Err(error) => return fail(CANNOT_START, error),
    };
    match backend.serve(server, app) {
        Ok(Report { finished, cut, refused, .. }) => {
            log::info!(
                "stopped; during the stop {finished} requests were answered, and {cut} requests and upgraded \
                 connections were cut; {refused} connections and incomplete requests were refused since the start"
            );
            if cut > 0 { Status(CUT) } else { Status::SUCCESS }
        }
        Err(error @ ServeError::Failed(_)) => fail(CUT, error),
        Err(error) => fail(CANNOT_START, error),
    }
}

/// What has to exist for as long as a server runs.
type Guards = Box<dyn Any>;

/// Connects a server with the signals of this process and with systemd.
fn guard(server: Server) -> Result<(Guards, Server), ServeError> {
    let on_hangup = on_hangup(server.config().tls.as_ref());
    let (server, messages) = systemd::attach(server);
    let on_hangup = on_hangup.map(|reload| match &messages {
        Some(messages) => messages.around(reload),
        None => reload,
    });
    let signals = SignalGuard::start(&server, overdue, on_hangup, Some(Box::new(reopen)))?;
    Ok((Box::new((signals, messages)), server))
}

/// Connects a server with the supervisor of this process.
fn guard_supervised(supervised: Supervised, server: Server) -> Result<(Guards, Server), ServeError> {
    let server = supervised.announce(server)?;
    let guard = supervised.obey(&server, overdue, reopen)?;
    Ok((Box::new(guard), server))
}

/// Ends the process of a server that does not stop.
fn overdue() {
    ACCESS_LOG.get().into_iter().for_each(LogQueue::close);
    fail(CUT, "the server did not stop in time, because its threads are blocked");
    std::process::exit(CUT.into())
}

/// Gives a process its share of the cores, where the number of its threads depends on them and is not set.
fn share_cores(backend: Backend, config: &mut Config, processes: usize) {
    let share = |of_all: usize| (of_all / processes).max(1);
    config.compute_threads = config.compute_threads.or(Some(share(config.compute_threads_or_cores())));
    let mut shared = config.clone();
    shared.workers = config.workers.or(Some(share(config.workers_or_cores())));
    if backend.check(&shared).is_ok() {
        *config = shared;
    }
    let mut shared = config.clone();
    shared.threads = config.threads.or(Some(share(config.threads_or_default())));
    if backend.check(&shared).is_ok() {
        *config = shared;
    }
}

fn list_backends() -> Status {
    let mut out = std::io::stdout().lock();
    for backend in Backend::available() {
        // The only possible error is a closed standard output, and there is no other place to report it.
        let _ = writeln!(out, "{backend:12} {}", backend.model());
    }
    Status::SUCCESS
}

/// Logs the size of a server and its addresses. `processes` is the number of processes under a supervisor.
fn announce(backend: Backend, server: &Server, processes: Option<usize>) {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let mut size = concurrency(backend, server.config());
    if let Some(processes) = processes {
        size = format!("{processes} process{} of {size}", if processes == 1 { "" } else { "es" });
    }
    log::info!("gearshift {version} on {backend}, {size} ({})", backend.model());
    let is_tls = server.config().tls.is_some();
    for endpoint in server.endpoints() {
        match endpoint {
            Endpoint::Tcp(address) if is_tls => log::info!("listening at https://{address} (pid {pid})"),
            _ => log::info!("listening at {endpoint} (pid {pid})"),
        }
    }
}

/// The number of threads that serve requests. The settings that the backend supports tell what it calls them.
fn concurrency(backend: Backend, config: &Config) -> String {
    let supports = |change: fn(&mut Config)| {
        let mut other = Config::default();
        change(&mut other);
        backend.check(&other).is_ok()
    };
    let (n, what) = if supports(|config| config.threads = Some(2)) {
        (config.threads_or_default(), "thread")
    } else if supports(|config| config.workers = Some(2)) {
        (config.workers_or_cores(), "worker")
    } else {
        (1, "worker")
    };
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn fail(status: u8, why: impl Display) -> Status {
    match LOG.get() {
        // Behind the lines that were logged before.
        Some(log) => {
            let of_process = OF_PROCESS.get().map_or("", String::as_str);
            log.push(format!("error: {of_process}{why}\n").as_bytes());
            log.flush();
        }
        None => eprintln!("error: {why}"),
    }
    Status(status)
}
