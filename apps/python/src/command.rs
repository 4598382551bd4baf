//! The command line: the flags of `gearshift::cli`, under the names that users of gunicorn and uvicorn know, and the
//! flags for Python.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, Parser};
use gearshift::Backend;
use gearshift::cli::{Settings, is_supervised};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::foreign_flags;
use crate::process::{Options, policies};
use crate::websocket_flags::WebSocketFlags;

/// Serves a WSGI or ASGI application with the concurrency model of your choice.
#[derive(Debug, Parser)]
#[command(name = "gearshift", version, mut_args(known_name), mut_arg("processes", processes))]
pub(crate) struct Program {
    /// Application: MODULE:NAME, where NAME may have dots. Without NAME it is `app` or `application`
    #[arg(value_name = "MODULE:NAME", env = "GEARSHIFT_APP")]
    #[arg(required_unless_present_any = ["list_backends", "print_config", "check_config"])]
    app: Option<String>,

    /// Interface of the application: auto, wsgi or asgi. `auto` takes a coroutine function and a function with 3
    /// arguments for ASGI, and one with 2 arguments for WSGI. It looks through decorators that set `__wrapped__`
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_INTERFACE", default_value = "auto")]
    #[arg(value_parser = ["auto", "wsgi", "asgi"])]
    interface: String,

    /// The named object is a function that returns the application
    #[arg(long)]
    factory: bool,

    /// Directory in which modules are found first [default: the working directory]
    #[arg(long, value_name = "DIR", env = "GEARSHIFT_APP_DIR", alias = "pythonpath")]
    app_dir: Option<String>,

    /// Directory to change to before the application is imported
    #[arg(long, value_name = "DIR", env = "GEARSHIFT_CHDIR", value_parser = directory)]
    chdir: Option<String>,

    /// Prefix of all paths, where a proxy has cut it off: SCRIPT_NAME of WSGI, root_path of ASGI
    #[arg(long, value_name = "PATH", env = "GEARSHIFT_ROOT_PATH", default_value = "")]
    #[arg(value_parser = root_path)]
    root_path: String,

    /// Lifespan protocol of ASGI: auto, on or off. With auto, an application that raises an exception has none
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_LIFESPAN", default_value = "auto")]
    #[arg(value_parser = ["auto", "on", "off"])]
    lifespan: String,

    /// Event loop of Python: auto, asyncio or uvloop. `auto` is uvloop if it is installed
    #[arg(long = "loop", value_name = "WORD", env = "GEARSHIFT_LOOP", default_value = "auto")]
    #[arg(value_parser = ["auto", "asyncio", "uvloop"])]
    event_loop: String,

    #[command(flatten)]
    websocket: WebSocketFlags,

    /// Replace the process when a file with the suffix .py changes. A process that does not start leaves the one before
    /// it in place
    #[arg(long)]
    reload: bool,

    /// Directory whose files are watched; may be repeated [default: the directory in which modules are found first]
    #[arg(long, value_name = "DIR", requires = "reload", value_parser = directory)]
    reload_dir: Vec<String>,

    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl Program {
    /// The settings of the Python side.
    pub(crate) fn python_options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Program {
            app, interface, factory, app_dir, chdir, lifespan, event_loop, reload, reload_dir, ..
        } = self;
        let options = PyDict::new(py);
        options.set_item("app", app.as_deref().unwrap_or_default())?;
        options.set_item("interface", interface)?;
        options.set_item("factory", factory)?;
        options.set_item("app_dir", app_dir)?;
        options.set_item("chdir", chdir)?;
        options.set_item("lifespan", lifespan)?;
        options.set_item("loop", event_loop)?;
        let stall_threshold = self.settings.config().stall_threshold;
        options.set_item("stall_threshold", stall_threshold.as_secs_f64())?;
        options.set_item("is_supervised", is_supervised())?;
        options.set_item("reload", reload)?;
        options.set_item("reload_dirs", reload_dir)?;
        Ok(options)
    }

    /// The settings of applications.
    pub(crate) fn options(&self) -> Options {
        let (pool_capacity, cancels) = policies(&self.settings.config());
        Options {
            root_path: self.root_path.clone(),
            has_siblings: self.settings.processes().is_some_and(|processes| processes > 1),
            pool_capacity,
            has_one_thread: self.settings.config().threads == Some(1),
            cancels,
            websocket: self.websocket.clone(),
            timeout: self.settings.config().handler_timeout,
            grace: self.settings.config().graceful_timeout,
        }
    }

    /// Warns of flags that have no effect on this backend.
    pub(crate) fn warn(&self, backend: Backend) {
        if backend.threads_block()
            && self.settings.config().handler_timeout != Duration::MAX
            && !is_supervised()
        {
            log::warn!(
                "--timeout has no effect on {backend}: a thread that runs Python cannot be interrupted"
            );
        }
    }

    /// `--reload` replaces a process, so there is a supervisor. As a flag it sets the number of processes on the
    /// command line already, and as a key of a file here.
    pub(crate) fn complete(mut self) -> Program {
        if self.reload && self.settings.processes().is_none() {
            self.settings.set_processes(1);
        }
        self
    }

    /// Whether this process only starts others.
    pub(crate) fn is_supervisor(&self) -> bool {
        self.settings.processes().is_some() && !is_supervised()
    }
}

/// Whether the arguments have a word behind the application that belongs to no flag.
pub(crate) fn has_surplus(args: &[OsString]) -> bool {
    Program::command().try_get_matches_from(args).is_err_and(|error| {
        let is_word = |text: &str| !text.starts_with('-');
        error.kind() == ErrorKind::UnknownArgument
            && matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(text)) if is_word(text))
    })
}

/// Gives a flag the name and the default that it has in servers for Python.
fn known_name(flag: Arg) -> Arg {
    match flag.get_id().as_str() {
        "workers" => flag.long("event-loops").short(Resettable::Reset).env("GEARSHIFT_EVENT_LOOPS").help(
            "Number of event loops of the server, which share the one interpreter of the process [default: 1]",
        ),
        // Keys of a file with these names are told the name of the flag.
        "backend" => flag.value_parser(foreign_flags::backend).aliases(["worker-class", "worker_class"]),
        "web_concurrency" => flag.env(Resettable::Reset),
        "on_disconnect" => flag.default_value("detach").help(
            "Policy for the task of an ASGI application whose client disconnects: cancel, or let it run on (detach, \
             ignore). In each case receive() returns http.disconnect, and send() raises OSError",
        ),
        "timeout" => flag.default_value("never").help(
            "Timeout for an application that has not begun its response on an event loop; then 503. A thread that \
             runs a WSGI application is not interrupted. The backends threadpool and sequential have no such timeout",
        ),
        "max_requests" => flag.long("max-requests-per-connection"),
        "graceful_timeout" => flag.alias("timeout-graceful-shutdown"),
        "keep_alive" => flag.alias("timeout-keep-alive"),
        "tls_cert" => flag.aliases(["certfile", "ssl-certfile"]),
        "tls_key" => flag.aliases(["keyfile", "ssl-keyfile"]),
        "access_log" => flag.alias("access-logfile"),
        "lifespan" => flag.alias("asgi-lifespan"),
        "event_loop" => flag.alias("asgi-loop"),
        "forwarded_allow_ips" => {
            flag.env(first_set(["GEARSHIFT_FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS"])).help(
                "Proxies whose fields that tell the client are believed: addresses, networks, unix or *, separated by \
                 commas; also FORWARDED_ALLOW_IPS [default: none]",
            )
        }
        "forwarded_field" => flag.help(
            "Fields of these proxies: x-forwarded for X-Forwarded-For and -Proto, or forwarded for Forwarded. They set \
             the client and the scheme; the host stays that of the field Host [default: x-forwarded]",
        ),
        "check_config" => flag.help(
            "Check the settings and the files that they name, and exit without listening and without importing the \
             application",
        ),
        _ => flag,
    }
}

/// The first of two environment variables that is set, or the first one.
fn first_set([first, second]: [&'static str; 2]) -> &'static str {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set(second) && !is_set(first) { second } else { first }
}

/// The flag for the number of processes, which are the workers of gunicorn and uvicorn.
fn processes(flag: Arg) -> Arg {
    let variable = first_set(["GEARSHIFT_PROCESSES", "WEB_CONCURRENCY"]);
    flag.visible_alias("workers").short('w').env(variable).default_value_if("reload", "true", "1").help(
        "Number of processes that serve, up to 256; this one only starts and watches them. Also WEB_CONCURRENCY \
         [default: this process serves]",
    )
}

/// Reads the path of a directory that exists.
fn directory(text: &str) -> Result<String, String> {
    match Path::new(text).is_dir() {
        true => Ok(text.to_owned()),
        false => Err("is no directory".to_owned()),
    }
}

/// Reads a prefix of paths. A slash at its end is cut off.
fn root_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    if text.contains("://") {
        Err("has a scheme; write only the path, such as /api".to_owned())
    } else if !text.is_empty() && (!text.starts_with('/') || path.starts_with("//")) {
        Err(format!("does not begin with one slash; write /{}", path.trim_start_matches('/')))
    } else if path.contains(['?', '#']) {
        Err("has a query or a fragment; write only the path, such as /api".to_owned())
    } else if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Err("has a space or a control character".to_owned())
    } else {
        Ok(path.to_owned())
    }
}
