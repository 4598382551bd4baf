//! The threads of a process, its start and its stop.
//!
//! The main thread belongs to Python: signal handlers of Python run there, the application is imported there, and the
//! asyncio loop of an event loop runs there. The server runs on another thread. It asks the main thread for the start
//! and the stop of the application by calling methods of the Python class `gearshift.process.Process`, which only queue
//! an order, and awaits a [`Reply`].

use std::ffi::OsString;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gearshift::cli::{self, Status};
use gearshift::{App, BoxError, Config, Endpoint, Handler, OnDisconnect, Overload, Request, Runtime};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyList};

use crate::asgi::Asgi;
use crate::attach::{Counted, KeepAttached};
use crate::command::Program;
use crate::foreign_flags::translated;
use crate::late::Late;
use crate::websocket_flags::WebSocketFlags;
use crate::wsgi::Wsgi;

/// The exit status if the server panics or the system refuses a thread.
const FAILED: u8 = 1;
/// The exit status for an invalid command line.
const USAGE: u8 = 2;
/// The longest and the shortest time for the main thread and for Python to end after the server. Between the two it is
/// what is left of the time for the stop.
const MAX_EXIT_TIMEOUT: Duration = Duration::from_secs(10);
const MIN_EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for Python to end the process after that. It cannot do it while C code holds the GIL.
const EXIT_SLACK: Duration = Duration::from_millis(500);

/// The Python side of this process, and the settings for it.
pub(crate) struct Process {
    python: Py<PyAny>,
    options: Options,
    /// When the server has begun to stop.
    stopping: Arc<OnceLock<Instant>>,
    /// Whether the start of the application was given up.
    is_given_up: AtomicBool,
}

/// The settings that applications need.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The prefix of all paths, without a slash at its end.
    pub(crate) root_path: String,
    /// Whether other processes serve the same application.
    pub(crate) has_siblings: bool,
    /// The number of requests of WSGI that may wait or run on an event loop before others are refused.
    pub(crate) pool_capacity: Option<usize>,
    /// Whether the backend `threadpool` has one thread.
    pub(crate) has_one_thread: bool,
    /// Whether the task of a client that has left is cancelled.
    pub(crate) cancels: bool,
    /// The settings of WebSockets.
    pub(crate) websocket: WebSocketFlags,
    /// The time for a request to begin its response, on an event loop.
    pub(crate) timeout: Duration,
    /// The time for a stop.
    pub(crate) grace: Duration,
}

impl Process {
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// What logs a request that exceeds the time for it.
    pub(crate) fn late(&self, request: &Request) -> Late {
        Late::new(request, self.options.timeout)
    }

    /// Tells the Python side the addresses of the listeners, and how to learn that a stop has begun.
    fn listening(&self, runtime: &Runtime) -> PyResult<()> {
        Python::attach(|py| {
            let addresses = PyList::empty(py);
            for endpoint in runtime.endpoints() {
                match endpoint {
                    Endpoint::Tcp(address) => addresses.append((address.ip().to_string(), address.port()))?,
                    Endpoint::Unix(path) => addresses.append(path.to_string_lossy())?,
                }
            }
            let stopping = self.stopping.clone();
            let is_stopping = PyCFunction::new_closure(py, None, None, move |_, _| stopping.get().is_some())?;
            self.python.bind(py).call_method1("listening", (addresses, is_stopping)).map(drop)
        })
    }

    /// The time that is left for a stop.
    fn time_left(&self) -> Duration {
        let stopping = self.stopping.get().map(Instant::elapsed).unwrap_or_default();
        self.options.grace.saturating_sub(stopping)
    }

    /// The time for Python to end after the server.
    fn exit_timeout(&self) -> Duration {
        match self.is_given_up.load(Ordering::Relaxed) {
            true => MIN_EXIT_TIMEOUT,
            false => self.time_left().clamp(MIN_EXIT_TIMEOUT, MAX_EXIT_TIMEOUT),
        }
    }

    /// Tells the Python side that the server stops.
    fn stopping(&self) {
        Python::try_attach(|py| {
            if let Err(error) = self.python.bind(py).call_method0("stopping") {
                crate::errors::log_exception(py, "the main thread was not told of the stop", &error);
            }
        });
    }

    /// Stops the server although the application starts. The main thread may hold the GIL.
    fn give_up_start(self: &Arc<Self>, runtime: &Runtime) {
        self.is_given_up.store(true, Ordering::Relaxed);
        runtime.force_stop();
        let process = self.clone();
        let give_up = move || {
            Python::try_attach(|py| {
                if let Err(error) = process.python.bind(py).call_method0("give_up_start") {
                    error.print(py);
                }
            });
        };
        // Without a thread, the start ends with the process.
        let _ = thread::Builder::new().name("give-up".to_owned()).spawn(give_up);
    }

    /// Ends the process, because the application has raised `SystemExit` or `KeyboardInterrupt`.
    /// `what` is the request, or what else has raised it, for the log.
    pub(crate) fn exit(&self, py: Python<'_>, error: &PyErr, what: &str) {
        crate::errors::log_exit(py, what, error);
        if let Err(error) = self.python.bind(py).call_method1("exit", (error.value(py),)) {
            crate::errors::log_exception(py, "the process could not be ended", &error);
        }
    }

    /// Calls a method of the Python side that queues an order, and waits for the reply.
    pub(crate) async fn order<T: Send + 'static>(
        &self,
        name: &'static str,
        argument: f64,
        read: fn(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T, BoxError> {
        let (sender, receiver) = oneshot::channel();
        Python::attach(|py| {
            let reply = Reply(Mutex::new(Some(sender)));
            self.python.bind(py).call_method1(name, (reply, argument)).map(drop)
        })
        .map_err(|error| error.to_string())?;
        let value = receiver.await.map_err(|_| "the main thread of Python has ended")??;
        Ok(Python::attach(|py| read(value.bind(py))).map_err(|error| error.to_string())?)
    }
}

/// How the Python side answers an order. Called once.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct Reply(Mutex<Option<Sender>>);

type Sender = oneshot::Sender<Result<Py<PyAny>, String>>;

#[pymethods]
impl Reply {
    /// The order was carried out.
    fn ok(&self, value: Py<PyAny>) {
        self.send(Ok(value));
    }

    /// The order has failed, for this reason.
    fn failed(&self, why: String) {
        self.send(Err(why));
    }
}

impl Reply {
    fn send(&self, reply: Result<Py<PyAny>, String>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody waits after a forced stop.
        let _ = sender.map(|sender| sender.send(reply));
    }
}

/// Runs the command `gearshift` with these arguments, of which the first one is the name of the program. `process` is
/// the Python side. Returns the exit status.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, args: Vec<OsString>, process: Py<PyAny>) -> PyResult<u8> {
    let args = match translated(args) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(USAGE);
        }
    };
    let program = match py.detach(|| cli::parse_from::<Program>(args)) {
        Ok(program) => program.complete(),
        Err(status) => return Ok(status.code()),
    };
    process.bind(py).call_method1("configure", (program.python_options(py)?,))?;
    if program.is_supervisor() {
        process.bind(py).call_method0("supervise")?;
    }
    let python = process.clone_ref(py);
    let process = Arc::new(Process {
        python: process,
        options: program.options(),
        stopping: Arc::default(),
        is_given_up: AtomicBool::new(false),
    });
    let ended = python.clone_ref(py);
    // Disconnected when the server thread calls Python no more. The interpreter must not end before.
    let (calls, has_called) = mpsc::channel::<()>();
    let spawned = thread::Builder::new().name("server".to_owned()).spawn(move || {
        let app = application(process.clone());
        let status = catch_unwind(AssertUnwindSafe(|| serve(&program, app).code())).unwrap_or(FAILED);
        let (timeout, is_given_up) = (process.exit_timeout(), process.is_given_up.load(Ordering::Relaxed));
        let exit = move || {
            thread::sleep(timeout + EXIT_SLACK);
            eprintln!("error: Python did not end in time");
            std::process::exit(if is_given_up { status } else { status.max(FAILED) }.into());
        };
        let limited = thread::Builder::new().name("exit".to_owned()).spawn(exit);
        if let Err(error) = limited {
            eprintln!("error: the system refuses a thread: {error}");
        }
        Python::attach(|py| {
            if let Err(error) = ended.bind(py).call_method1("end", (status, timeout.as_secs_f64())) {
                error.print(py);
            }
        });
        drop_attached(ended);
        drop(calls);
    });
    if let Err(error) = spawned {
        eprintln!("error: the system refuses a thread: {error}");
        return Ok(FAILED);
    }
    let status = python.bind(py).call_method0("run")?.extract();
    let _ = py.detach(move || has_called.recv());
    status
}

/// Drops a Python value.
fn drop_attached(value: Py<PyAny>) {
    Python::try_attach(|_| drop(value));
}

fn serve(program: &Program, app: App) -> Status {
    let backend = program.settings.backend();
    cli::serve_with(&program.settings, app, |config: &mut Config| {
        backend.iter().for_each(|backend| program.warn(*backend));
        // More event loops would wait for the same interpreter. One backend takes the number from elsewhere.
        let mut one = config.clone();
        one.workers.get_or_insert(1);
        if backend.is_ok_and(|backend| backend.check(&one).is_ok()) {
            *config = one;
        }
        config.thread_wrapper = Some(Arc::new(KeepAttached));
    })
}

/// The application of this process: its start asks the main thread to import it.
fn application(process: Arc<Process>) -> App {
    let stopping = process.clone();
    App::start(move |runtime: Runtime| start(runtime, process)).on_stop(move || async move {
        if let Err(error) = stopping.order("stop", stopping.time_left().as_secs_f64(), |_| Ok(())).await {
            log::error!("the application did not stop: {error}");
        }
    })
}

/// Starts the application.
async fn start(runtime: Runtime, process: Arc<Process>) -> Result<Box<dyn Handler>, BoxError> {
    let (watched, stopping) = (process.clone(), runtime.stopping());
    let watch = async move {
        stopping.await;
        let _ = watched.stopping.set(Instant::now());
        // The GIL may be held for long, and this thread has connections. Without another thread, the signal itself
        // wakes the main thread.
        let counted = Counted::new();
        // The thread calls Python until it has dropped what it has of it.
        let stop = move || {
            watched.stopping();
            drop(watched);
            drop(counted);
        };
        let _ = thread::Builder::new().name("stop".to_owned()).spawn(stop);
    };
    runtime.spawn(watch).detach();
    process.listening(&runtime).map_err(|error| error.to_string())?;
    let name = if runtime.threads_block() { "start_on_threads" } else { "start_on_event_loop" };
    let started = started(&runtime, &process, name).await?;
    Python::attach(|py| {
        let started = started.bind(py);
        let app = started.getattr("app")?.unbind();
        let interface: String = started.getattr("interface")?.extract()?;
        let handler: Box<dyn Handler> = match interface.as_str() {
            "wsgi" => Box::new(Wsgi::new(py, app, runtime, process)?),
            _ => Box::new(Asgi::new(py, started, runtime, process)?),
        };
        log::info!("the application has started ({})", interface.to_uppercase());
        Ok(handler)
    })
    .map_err(|error: PyErr| error.to_string().into())
}

/// What the Python side has started. Does not end if a stop is requested before that.
async fn started(
    runtime: &Runtime,
    process: &Arc<Process>,
    name: &'static str,
) -> Result<Py<PyAny>, BoxError> {
    let order = pin!(process.order(name, 0.0, |started| Ok(started.clone().unbind())));
    match select(order, pin!(runtime.stopping())).await {
        Either::Left((started, _)) => started,
        Either::Right(_) => {
            process.give_up_start(runtime);
            // The server cancels the start.
            pending().await
        }
    }
}

/// The number of requests of WSGI after which others are refused, and whether tasks are cancelled.
pub(crate) fn policies(config: &Config) -> (Option<usize>, bool) {
    let capacity = config.blocking_threads.max(1).saturating_add(config.pool_queue);
    let refuses = config.pool_overload == Overload::Refuse;
    (refuses.then_some(capacity), config.on_disconnect == OnDisconnect::Cancel)
}
