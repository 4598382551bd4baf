//! The first step of a task, which is made at once.
//!
//! A task of asyncio schedules its first step with `call_soon`, for the next turn of the loop. Most requests end in that
//! step, so the turn is much of what asyncio costs, and on a blocking backend the loop would run for nothing else. So
//! this call of `call_soon` is caught, and the step is made when the task is there. Python 3.12 calls such tasks eager.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyTuple};

/// Makes the tasks of a loop.
pub(super) struct FirstSteps {
    /// The attributes of the loop.
    attributes: Py<PyDict>,
    get_task_factory: Py<PyAny>,
    create_task: Py<PyAny>,
    /// `asyncio.Task`, and the arguments `loop` and `name`.
    new_task: Py<PyAny>,
    named: Py<PyDict>,
    hook: Py<Hook>,
    /// The method of the hook that takes the place of `call_soon` until the step has ended.
    call_soon: Py<PyAny>,
    /// For a loop that does not run during the step.
    not_running: Option<NotRunning>,
}

/// What a loop does when it begins to run.
struct NotRunning {
    /// A number that no other loop has.
    id: u64,
    asyncio: Py<PyAny>,
    /// The hooks of the loop for asynchronous generators.
    asyncgen_hooks: Py<PyTuple>,
}

impl FirstSteps {
    /// `event_loop` has the attributes of the Python class `gearshift.asgi.EventLoop`.
    ///
    /// # Errors
    /// An exception of Python.
    pub(super) fn new(event_loop: &Bound<'_, PyAny>, is_running: bool) -> PyResult<FirstSteps> {
        let (py, asyncio) = (event_loop.py(), event_loop.getattr("loop")?);
        let hook = Hook {
            call_soon: asyncio.getattr("call_soon")?.unbind(),
            call_soon_threadsafe: asyncio.getattr("call_soon_threadsafe")?.unbind(),
            is_running: asyncio.getattr("is_running")?.unbind(),
            phase: AtomicU8::new(IDLE),
            caught: Mutex::default(),
        };
        let hook = Bound::new(py, hook)?;
        let not_running = || -> PyResult<NotRunning> {
            for name in ["is_running", "call_soon_threadsafe"] {
                asyncio.setattr(name, hook.getattr(name)?)?;
            }
            static LAST_ID: AtomicU64 = AtomicU64::new(0);
            Ok(NotRunning {
                id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
                asyncio: asyncio.clone().unbind(),
                asyncgen_hooks: event_loop.getattr("asyncgen_hooks")?.extract()?,
            })
        };
        let named = PyDict::new(py);
        named.set_item("loop", &asyncio)?;
        Ok(FirstSteps {
            attributes: asyncio.getattr("__dict__")?.extract()?,
            get_task_factory: asyncio.getattr("get_task_factory")?.unbind(),
            new_task: py.import("asyncio")?.getattr("Task")?.unbind(),
            named: named.unbind(),
            create_task: asyncio.getattr("create_task")?.unbind(),
            call_soon: hook.getattr("call_soon")?.unbind(),
            not_running: (!is_running).then(not_running).transpose()?,
            hook: hook.unbind(),
        })
    }

    /// Makes a task for a coroutine, and its first step. `name` is a string. Returns the task, and whether anything was
    /// scheduled for the next turn of the loop.
    ///
    /// # Errors
    /// An exception of Python, such as one that ends the process.
    pub(super) fn begin<'py>(
        &self,
        py: Python<'py>,
        coroutine: Bound<'py, PyAny>,
        name: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, bool)> {
        let attributes = self.attributes.bind(py);
        let call_soon = intern!(py, "call_soon");
        // A factory of tasks of the application may make the step itself. A `call_soon` of the application wants to see
        // the call, and inside of a step, where the application runs the loop again, it is that of the hook.
        if attributes.contains(call_soon)? || !self.get_task_factory.bind(py).call0()?.is_none() {
            return Ok((self.create_task.bind(py).call1((coroutine,))?, true));
        }
        if let Some(not_running) = &self.not_running {
            not_running.enter(py)?;
        }
        attributes.set_item(call_soon, &self.call_soon)?;
        let phase = &self.hook.get().phase;
        phase.store(CATCHES, Ordering::Relaxed);
        let made = self.make(py, coroutine, name);
        let has_ready = phase.swap(IDLE, Ordering::Relaxed) == HAS_FORWARDED;
        // Otherwise the application has set one in the step.
        if attributes.get_item(call_soon)?.is_some_and(|now| now.is(&self.call_soon)) {
            attributes.del_item(call_soon)?;
        }
        Ok((made?, has_ready))
    }

    fn make<'py>(
        &self,
        py: Python<'py>,
        coroutine: Bound<'py, PyAny>,
        name: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Without a name, asyncio would make one.
        let named = self.named.bind(py);
        named.set_item(intern!(py, "name"), name)?;
        let task = self.new_task.bind(py).call((coroutine,), Some(named))?;
        let caught = self.hook.get().caught(py).take();
        if let Some((step, context)) = caught {
            context.bind(py).call_method1(intern!(py, "run"), (step,))?;
        }
        Ok(task)
    }

    /// Whether the step of a task is made.
    pub(super) fn is_in_step(&self) -> bool {
        self.hook.get().phase.load(Ordering::Relaxed) != IDLE
    }
}

thread_local! {
    /// The loop that Python takes for the running one on this thread, though it does not run. 0 is none.
    static ENTERED: Cell<u64> = const { Cell::new(0) };
}

impl NotRunning {
    /// Makes the loop the running one of this thread, until [`leave`].
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        if ENTERED.replace(self.id) == self.id {
            return Ok(());
        }
        py.import("sys")?.getattr("set_asyncgen_hooks")?.call1(self.asyncgen_hooks.bind(py))?;
        set_running_loop(py, Some(&self.asyncio))
    }
}

/// Lets this thread run a loop. Called before any loop of a blocking backend runs.
///
/// # Errors
/// An exception of Python.
pub(super) fn leave(py: Python<'_>) -> PyResult<()> {
    if ENTERED.replace(0) == 0 {
        return Ok(());
    }
    set_running_loop(py, None)
}

/// Calls the function of asyncio that is for those who write a loop.
fn set_running_loop(py: Python<'_>, asyncio: Option<&Py<PyAny>>) -> PyResult<()> {
    py.import("asyncio")?.call_method1("_set_running_loop", (asyncio,)).map(drop)
}

/// Methods that take the place of those of a loop.
#[pyclass(frozen, module = "gearshift")]
struct Hook {
    /// The methods of the loop.
    call_soon: Py<PyAny>,
    call_soon_threadsafe: Py<PyAny>,
    is_running: Py<PyAny>,
    /// One of the phases below.
    phase: AtomicU8,
    /// The first step of a task, and the context for it.
    caught: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

/// No step is made.
const IDLE: u8 = 0;
/// The next call is that of the task.
const CATCHES: u8 = 1;
/// Calls are those of the application. There was none, or there was one.
const FORWARDS: u8 = 2;
const HAS_FORWARDED: u8 = 3;

impl Hook {
    fn caught<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, Option<(Py<PyAny>, Py<PyAny>)>> {
        self.caught.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[pymethods]
impl Hook {
    /// `call_soon` of a loop.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon<'py>(
        &self,
        py: Python<'py>,
        callback: Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match (self.phase.load(Ordering::Relaxed), &context) {
            (CATCHES, Some(context)) if args.is_empty() => {
                self.phase.store(FORWARDS, Ordering::Relaxed);
                *self.caught(py) = Some((callback.unbind(), context.clone().unbind()));
                return Ok(py.None().into_bound(py));
            }
            (FORWARDS, _) => self.phase.store(HAS_FORWARDED, Ordering::Relaxed),
            _ => {}
        }
        let args = PyTuple::new(py, [callback])?.into_sequence().concat(args.as_sequence())?.to_tuple()?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), context)?;
        self.call_soon.bind(py).call(args, Some(&options))
    }

    /// `call_soon_threadsafe` of a loop. It is called in a step for an asynchronous generator that was left as well.
    #[pyo3(signature = (*args, **options))]
    fn call_soon_threadsafe<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = self.phase.compare_exchange(FORWARDS, HAS_FORWARDED, Ordering::Relaxed, Ordering::Relaxed);
        self.call_soon_threadsafe.bind(py).call(args, options)
    }

    /// `is_running` of a loop, which is as good as running while it makes a step.
    fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.phase.load(Ordering::Relaxed) != IDLE || self.is_running.bind(py).call0()?.is_truthy()?)
    }
}
