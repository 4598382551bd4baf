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
//! server accepts and serves as before for that time. Then it stops as described. With `--metrics-bind`, a listener of
//! its own answers `/metrics`, `/healthz` and `/readyz` from the start of the program to the end of the server.
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
//! With the feature `tls`, the flags `--tls-cert` and `--tls-key` let the server speak TLS, and SIGHUP reads their files
//! again: handshakes that begin later use them. If a file is invalid, an error is logged and everything stays as it is.
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
//! The access log goes to the log, or to the file or the standard output that `--access-log` names. SIGUSR1 opens the
//! file again, for a program that has moved it away; lines that were logged before go to the old file. Where it goes to
//! a file, its lines wait in a queue of their own, also of 1 MiB; further lines are dropped, a warning in the log tells
//! their number, and so does the metric `gearshift_access_log_dropped_total`.
//!
//! The log goes to standard error. A reader that does not read it delays no request: log lines wait in a queue of 1
//! MiB, and further lines are dropped. One line reports their number when standard error takes lines again. With several
//! processes, each line has the number of its process behind the level.

mod access_flags;
mod config_file;
mod descriptors;
#[cfg(feature = "http2")]
mod http2_flags;
mod log_output;
mod log_queue;
mod metrics;
#[cfg(not(feature = "http2"))]
mod no_http2_flags;
#[cfg(not(feature = "tls"))]
mod no_tls_flags;
mod observe_flags;
mod process_flags;
mod settings;
mod supervised;
mod supervisor;
#[cfg(feature = "tls")]
mod tls_flags;
mod values;

use std::any::Any;
use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};
use gearshift_core::{App, Config, Endpoint, Report, ServeError, Server};
use nix::poll::PollTimeout;

use crate::signals::{SLACK, SignalGuard};
#[cfg(feature = "http2")]
use http2_flags::Http2Flags;
use log_output::{Output, is_writable};
use log_queue::LogQueue;
use metrics::MetricsListener;
#[cfg(not(feature = "http2"))]
use no_http2_flags::Http2Flags;
#[cfg(not(feature = "tls"))]
use no_tls_flags::{TlsFlags, on_hangup};
pub use settings::Settings;
use supervised::Supervised;
#[cfg(feature = "tls")]
pub use tls_flags::TlsFlagsError;
#[cfg(feature = "tls")]
use tls_flags::{TlsFlags, on_hangup};

use crate::{Backend, systemd};

const CUT: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_START: u8 = 3;
const NO_SUCH_BACKEND: u8 = 4;

/// The largest number of bytes whose write to a pipe is not mixed with those of other processes (`PIPE_BUF`).
const ATOMIC_WRITE: usize = 4096;

/// The queue of the log, once it is set up.
static LOG: OnceLock<LogQueue> = OnceLock::new();
/// The queue of the access log, if it has a file.
static ACCESS_LOG: OnceLock<LogQueue> = OnceLock::new();

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
    /// Serves HTTP/1.1 with the concurrency model of your choice.
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

/// Parses the command line of a program that has more flags, with the environment and the file of `--config`. An
/// environment variable that is blank counts as not set.
///
/// # Errors
/// The status to exit with. The help or the settings are then on standard output, or one line with the error on
/// standard error.
///
/// [`Settings`] has an example.
pub fn parse<P: CommandFactory + FromArgMatches>() -> Result<P, ExitCode> {
    let args: Vec<_> = env::args_os().collect();
    let command = without_blanks(P::command());
    let command = config_file::with_file(command, &args).map_err(|why| fail(USAGE, why))?;
    let given = command.try_get_matches_from(args).map_err(|error| refused::<P>(&error))?;
    let program = P::from_arg_matches(&given).map_err(|error| refused::<P>(&error))?;
    match config_file::printed(&P::command(), &given) {
        None => Ok(program),
        Some(Ok(settings)) => {
            // The only possible error is a closed standard output, and there is no other place to report it.
            let _ = io::stdout().write_all(settings.as_bytes());
            Err(ExitCode::SUCCESS)
        }
        Some(Err(why)) => Err(fail(USAGE, why)),
    }
}

/// Reports that the command line is not parsed: it asks for the help, or it is invalid.
fn refused<P: CommandFactory>(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let message = error.to_string();
    let line = one_line(&message);
    match variable_of(error, P::command()) {
        Some((variable, flag)) => {
            let line = line.replacen(&format!(" for '{flag}'"), "", 1);
            fail(USAGE, format_args!("the environment variable {variable}: {line}"))
        }
        None => fail(USAGE, &line),
    }
}

/// What is wrong in the message of an error, and a similar flag that exists.
fn one_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim);
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) => format!("{what}; {tip}"),
        None => what,
    }
}

/// The environment variable that has the value which `error` reports, and the flag that `error` names instead. `None`
/// if the flag is given.
fn variable_of(error: &clap::Error, mut command: Command) -> Option<(String, String)> {
    command.build();
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    // `--workers <N>`
    let (shown, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let flag = command.get_arguments().find(|flag| flag.to_string() == *shown)?;
    let is_given = |given: &str| {
        let long = flag.get_long().and_then(|name| given.strip_prefix("--")?.strip_prefix(name));
        let is_long = long.is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
        is_long || flag.get_short().is_some_and(|name| given.starts_with(&format!("-{name}")))
    };
    let variable = flag.get_env().filter(|name| {
        let values = env::var(name).unwrap_or_default();
        values == *value || values.split(',').any(|one| one == value)
    })?;
    let has_flag = env::args_os().skip(1).any(|given| is_given(&given.to_string_lossy()));
    (!has_flag).then(|| (variable.to_string_lossy().into_owned(), shown.clone()))
}

/// Takes the environment variables that are blank from the flags.
fn without_blanks(command: Command) -> Command {
    let is_blank =
        |name: &OsStr| env::var_os(name).is_some_and(|value| value.to_string_lossy().trim().is_empty());
    let unset = |flag: Arg| match flag.get_env().is_some_and(is_blank) {
        true => flag.env(Resettable::Reset),
        false => flag,
    };
    command.mut_args(unset).mut_subcommands(without_blanks)
}

/// Serves the application with these settings, until a signal. A program calls this once, because it sets up the log of
/// the process, unless the program has set a logger. Lines that are logged after the return may be lost if the process
/// ends.
///
/// [`Settings`] has an example.
pub fn serve(settings: &Settings, app: impl Into<App>) -> ExitCode {
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
    if has_siblings && settings.observe.metrics_bind.is_some() {
        return fail(USAGE, "--metrics-bind is for one process, and cannot be used with --processes");
    }
    if settings.file.check_config {
        let checked = backend.check(&config).and_then(|()| Server::check(&config));
        let checked = checked.map_err(|error| error.to_string()).and_then(|()| settings.access.check());
        return match checked {
            Ok(()) => ExitCode::SUCCESS,
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
                "stopped; during the stop {finished} requests were answered, and {cut} requests and upgraded connections \
                 were cut; {refused} connections and incomplete requests were refused since the start"
            );
            if cut > 0 { ExitCode::from(CUT) } else { ExitCode::SUCCESS }
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

/// Opens the file of the access log again.
fn reopen() {
    match ACCESS_LOG.get() {
        Some(access_log) => access_log.reopen(),
        None => log::info!("the access log has no file that could be opened again"),
    }
}

/// The largest number of bytes of one write to a log. `has_siblings` is whether other processes write to it too.
fn max_write(has_siblings: bool) -> usize {
    if has_siblings { ATOMIC_WRITE } else { usize::MAX }
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

fn list_backends() -> ExitCode {
    let mut out = std::io::stdout().lock();
    for backend in Backend::available() {
        // The only possible error is a closed standard output, and there is no other place to report it.
        let _ = writeln!(out, "{backend:12} {}", backend.model());
    }
    ExitCode::SUCCESS
}

/// Sets up the log of the process, and prevents reports of panics from blocking. A logger that the program has set
/// stays. If several processes share standard error, each line begins with the level and the number of its process.
fn log_to_stderr(level: log::LevelFilter, has_siblings: bool) -> io::Result<()> {
    let queue = LogQueue::default();
    let of_process = if has_siblings { format!("[{}] ", std::process::id()) } else { String::new() };
    let plain = move |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        writeln!(out, "{:5} {of_process}{}", record.level(), record.args())
    };
    let target = env_logger::Target::Pipe(Box::new(queue.clone()));
    // Any peer can make rustls log errors, where another crate has enabled that.
    let of_rustls = if level < log::LevelFilter::Debug { log::LevelFilter::Off } else { level };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).filter_module("rustls", of_rustls).format(plain).target(target);
    if builder.try_init().is_err() {
        return Ok(());
    }
    // A descriptor of its own, because a thread that waits in a write to `io::stderr` would hold its lock.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    queue.start("log", Output::of_log(out).with_max_write(max_write(has_siblings)))?;
    let report = panic::take_hook();
    let dropped = queue.clone();
    panic::set_hook(Box::new(move |panic| match is_writable(io::stderr().as_fd(), PollTimeout::ZERO) {
        true => report(panic),
        false => dropped.count_dropped(),
    }));
    let _ = LOG.set(queue);
    Ok(())
}

/// Writes the log lines that are still queued when it is dropped.
struct FlushedLog;

impl Drop for FlushedLog {
    fn drop(&mut self) {
        // A failure of the access log is a line of the log.
        ACCESS_LOG.get().into_iter().for_each(LogQueue::close);
        LOG.get().into_iter().for_each(LogQueue::flush);
    }
}

/// Logs the size of a server and its addresses. `processes` is the number of processes under a supervisor.
fn announce(backend: Backend, server: &Server, processes: Option<usize>) {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let mut size = size(backend, server.config());
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
fn size(backend: Backend, config: &Config) -> String {
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

fn fail(status: u8, why: impl Display) -> ExitCode {
    match LOG.get() {
        // Behind the lines that were logged before.
        Some(log) => {
            log.push(format!("error: {why}\n").as_bytes());
            log.flush();
        }
        None => eprintln!("error: {why}"),
    }
    ExitCode::from(status)
}
