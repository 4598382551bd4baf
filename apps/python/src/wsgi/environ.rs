//! The dictionary `environ` (PEP 3333, "environ Variables").

use std::collections::HashMap;
use std::sync::Mutex;

use gearshift::{Endpoint, Request, Runtime, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyString};

use crate::fields::{decoded, latin_1};
use crate::process::Options;
use crate::wsgi::errors::Errors;
use crate::wsgi::input::Input;

/// The largest number of field names whose keys are kept. A peer can send any name.
const MAX_KNOWN_NAMES: usize = 256;

/// The entries that are equal in all requests, and the keys of fields.
pub(crate) struct Template {
    entries: Py<PyDict>,
    empty_input: Py<Input>,
    root_path: String,
    known: Mutex<HashMap<Box<str>, Py<PyString>>>,
}

impl Template {
    pub(crate) fn new(py: Python<'_>, runtime: &Runtime, options: &Options) -> PyResult<Template> {
        let entries = PyDict::new(py);
        entries.set_item("wsgi.version", (1, 0))?;
        entries.set_item("wsgi.errors", Py::new(py, Errors::default())?)?;
        // On an event loop, a job that waits lends its thread, so that calls may overlap with one thread too.
        let is_alone = match runtime.backend() {
            "sequential" => true,
            "threadpool" => options.has_one_thread,
            _ => false,
        };
        entries.set_item("wsgi.multithread", !is_alone)?;
        entries.set_item("wsgi.multiprocess", options.has_siblings)?;
        entries.set_item("wsgi.run_once", false)?;
        entries.set_item("wsgi.input_terminated", true)?;
        entries.set_item("wsgi.file_wrapper", py.import("gearshift.wsgi")?.getattr("FileWrapper")?)?;
        entries.set_item("SERVER_SOFTWARE", concat!("gearshift/", env!("CARGO_PKG_VERSION")))?;
        entries.set_item("SCRIPT_NAME", &options.root_path)?;
        let (host, port) = server(runtime);
        entries.set_item("SERVER_NAME", host)?;
        entries.set_item("SERVER_PORT", port.to_string())?;
        Ok(Template {
            entries: entries.unbind(),
            empty_input: Py::new(py, Input::empty())?,
            root_path: options.root_path.clone(),
            known: Mutex::default(),
        })
    }

    /// The environment of a request. `input` is `None` for a request without a body.
    pub(crate) fn environ<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        input: Option<&Py<Input>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.entries.bind(py).copy()?;
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, request))?;
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol(py, request))?;
        environ.set_item(intern!(py, "RAW_URI"), request.target())?;
        environ.set_item(intern!(py, "REQUEST_URI"), request.target())?;
        environ.set_item(intern!(py, "QUERY_STRING"), request.query_str().unwrap_or_default())?;
        environ.set_item(intern!(py, "PATH_INFO"), self.path_info(py, request))?;
        let client = request.client();
        environ.set_item(intern!(py, "wsgi.url_scheme"), scheme(py, client.scheme()))?;
        if client.scheme() == "https" {
            environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
        }
        let address = client.address().map(|address| address.to_string()).unwrap_or_default();
        environ.set_item(intern!(py, "REMOTE_ADDR"), address)?;
        if let Some(port) = client.port() {
            environ.set_item(intern!(py, "REMOTE_PORT"), port.to_string())?;
        }
        environ.set_item(intern!(py, "wsgi.input"), input.unwrap_or(&self.empty_input))?;
        self.add_fields(py, &environ, request)?;
        Ok(environ)
    }

    /// The path, decoded, without the prefix of the application.
    fn path_info<'py>(&self, py: Python<'py>, request: &Request) -> Bound<'py, PyString> {
        let path = decoded(request.path());
        let rest = path.strip_prefix(self.root_path.as_bytes());
        match rest.filter(|rest| rest.first().is_none_or(|first| *first == b'/')) {
            Some(rest) if !self.root_path.is_empty() => latin_1(py, rest),
            _ => latin_1(py, &path),
        }
    }

    /// Adds the fields. A field whose name has an underscore is left out, because it would have the key of another
    /// field.
    fn add_fields(&self, py: Python<'_>, environ: &Bound<'_, PyDict>, request: &Request) -> PyResult<()> {
        let fields = request.headers();
        for (name, value) in fields {
            if name.contains('_') {
                continue;
            }
            let key = self.key(py, name);
            let before = environ.len();
            environ.set_item(&key, latin_1(py, value))?;
            if environ.len() == before {
                // The field was there before.
                let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b"," };
                let values: Vec<_> = fields.get_all(name).collect();
                environ.set_item(&key, latin_1(py, &values.join(separator)))?;
            }
        }
        Ok(())
    }

    /// The key of a field.
    fn key<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        let mut known = self.known.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(key) = known.get(name) {
            return key.bind(py).clone();
        }
        let upper: String =
            name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
        let key = match upper.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" => upper,
            _ => format!("HTTP_{upper}"),
        };
        let key = PyString::new(py, &key);
        if known.len() < MAX_KNOWN_NAMES {
            known.insert(name.into(), key.clone().unbind());
        }
        key
    }
}

/// The host and the port of the first listener.
fn server(runtime: &Runtime) -> (String, u16) {
    match runtime.endpoints().first() {
        Some(Endpoint::Tcp(address)) => (address.ip().to_string(), address.port()),
        _ => ("localhost".to_owned(), 80),
    }
}

fn method<'py>(py: Python<'py>, request: &Request) -> Bound<'py, PyString> {
    match request.method().as_str() {
        "GET" => intern!(py, "GET").clone(),
        "POST" => intern!(py, "POST").clone(),
        other => PyString::new(py, other),
    }
}

fn protocol<'py>(py: Python<'py>, request: &Request) -> Bound<'py, PyString> {
    match request.version() {
        Version::HTTP_11 => intern!(py, "HTTP/1.1"),
        Version::HTTP_2 => intern!(py, "HTTP/2"),
        _ => intern!(py, "HTTP/1.0"),
    }
    .clone()
}

fn scheme<'py>(py: Python<'py>, scheme: &str) -> Bound<'py, PyString> {
    if scheme == "https" { intern!(py, "https").clone() } else { intern!(py, "http").clone() }
}
