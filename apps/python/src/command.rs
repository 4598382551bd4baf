//! The command line: the flags of `gearshift::cli`, under the names that users of gunicorn and uvicorn know, and the
//! flags for Python.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Parser};
use gearshift::cli::{Settings, is_supervised};
use pyo3::prelude::*;
use pyo3::types::PyDict;

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

    /// Interface of the application: auto, wsgi or asgi. `auto` takes an application that is a coroutine function for
    /// ASGI
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
    #[arg(long, value_name = "DIR", env = "GEARSHIFT_CHDIR")]
    chdir: Option<String>,

    /// Prefix of all paths, where a proxy has cut it off: SCRIPT_NAME of WSGI, root_path of ASGI
    #[arg(long, value_name = "PATH", env = "GEARSHIFT_ROOT_PATH", default_value = "")]
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
    #[arg(long, value_name = "DIR", requires = "reload")]
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
            root_path: self.root_path.trim_end_matches('/').to_owned(),
            has_siblings: self.settings.processes().is_some_and(|processes| processes > 1),
            pool_capacity,
            has_one_thread: self.settings.config().threads == Some(1),
            is_supervised: is_supervised(),
            cancels,
            websocket: self.websocket.clone(),
            grace: self.settings.config().graceful_timeout,
        }
    }

    /// Whether this process only starts others.
    pub(crate) fn is_supervisor(&self) -> bool {
        self.settings.processes().is_some() && !is_supervised()
    }
}

/// Gives a flag the name and the default that it has in servers for Python.
fn known_name(flag: Arg) -> Arg {
    match flag.get_id().as_str() {
        "workers" => flag.long("event-loops").short(Resettable::Reset).env("GEARSHIFT_EVENT_LOOPS").help(
            "Number of event loops of the server, which share the one interpreter of the process [default: 1]",
        ),
        "web_concurrency" => flag.env(Resettable::Reset),
        "on_disconnect" => flag.default_value("detach").help(
            "Policy for the task of an ASGI application whose client disconnects: cancel, or let it run on (detach, \
             ignore). In each case receive() returns http.disconnect, and send() raises OSError",
        ),
        "timeout" => flag.default_value("never").help(
            "Timeout for an ASGI application that waits to begin its response on an event loop; then 503",
        ),
        "max_requests" => flag.long("max-requests-per-connection"),
        "graceful_timeout" => flag.alias("timeout-graceful-shutdown"),
        "keep_alive" => flag.alias("timeout-keep-alive"),
        "tls_cert" => flag.aliases(["certfile", "ssl-certfile"]),
        "tls_key" => flag.aliases(["keyfile", "ssl-keyfile"]),
        "access_log" => flag.alias("access-logfile"),
        _ => flag,
    }
}

/// The flag for the number of processes, which are the workers of gunicorn and uvicorn.
fn processes(flag: Arg) -> Arg {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let variable = match is_set("WEB_CONCURRENCY") && !is_set("GEARSHIFT_PROCESSES") {
        true => "WEB_CONCURRENCY",
        false => "GEARSHIFT_PROCESSES",
    };
    flag.visible_alias("workers").short('w').env(variable).default_value_if("reload", "true", "1").help(
        "Number of processes that serve, up to 256; this one only starts and watches them. Also WEB_CONCURRENCY \
         [default: this process serves]",
    )
}

/// The arguments, with the flags of gunicorn and uvicorn that have another form here.
pub(crate) fn translated(args: Vec<OsString>) -> Vec<OsString> {
    let mut translated = Vec::with_capacity(args.len());
    let (mut host, mut port) = (None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (arg.to_string_lossy().into_owned(), None),
        };
        let mut value = || value.clone().or_else(|| args.next()).unwrap_or_default();
        match name.as_str() {
            "--host" => host = Some(value()),
            "--port" => port = Some(value()),
            "--uds" => translated.extend(["--bind".into(), joined("unix:", &value())]),
            "--fd" => translated.extend(["--bind".into(), joined("fd://", &value())]),
            "--log-level" => translated.extend(["--log-level".into(), level(value())]),
            "--" => {
                translated.push(arg);
                translated.extend(args);
                break;
            }
            _ => translated.push(arg),
        }
    }
    if host.is_some() || port.is_some() {
        let mut address = host.unwrap_or_else(|| "127.0.0.1".into());
        if address.to_string_lossy().contains(':') && !address.to_string_lossy().starts_with('[') {
            address = joined("[", &address);
            address.push("]");
        }
        address.push(":");
        address.push(port.unwrap_or_else(|| "8000".into()));
        let at = translated.len().min(1);
        translated.splice(at..at, ["--bind".into(), address]);
    }
    translated
}

fn joined(prefix: &str, value: &OsStr) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(value);
    joined
}

/// The level of the log for the words of gunicorn and uvicorn.
fn level(word: OsString) -> OsString {
    match word.to_str() {
        Some("warning") => "warn".into(),
        Some("critical") => "error".into(),
        _ => word,
    }
}
