//! The dictionary `scope` (ASGI, "HTTP & WebSocket ASGI Message Format").

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use gearshift::{Endpoint, Request, Runtime, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::asgi::EventLoop;
use crate::fields::decoded;
use crate::process::Options;

/// The version of the message format.
const SPEC_VERSION: &str = "2.5";
/// The largest number of field names that are kept as Python values. A peer can send any name.
const MAX_KNOWN_NAMES: usize = 256;

/// The entries that requests of both kinds have.
const REQUEST_ENTRIES: [&str; 8] =
    ["extensions", "scheme", "http_version", "path", "raw_path", "query_string", "headers", "client"];

/// Whether a request opens a WebSocket: it offers the upgrade.
pub(crate) fn opens_websocket(request: &Request) -> bool {
    let fields = request.headers();
    fields.get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && fields
            .get("connection")
            .is_some_and(|value| value.to_ascii_lowercase().windows(7).any(|part| part == b"upgrade"))
}

/// The address of the first listener: its host and port, its path, or `None`.
fn server(py: Python<'_>, runtime: &Runtime) -> PyResult<Py<PyAny>> {
    Ok(match runtime.endpoints().first() {
        Some(Endpoint::Tcp(address)) => {
            (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any().unbind()
        }
        Some(Endpoint::Unix(path)) => {
            (path.to_string_lossy().into_owned(), py.None()).into_pyobject(py)?.into_any().unbind()
        }
        None => py.None(),
    })
}

/// The entries that are equal in all requests, and the names of fields.
pub(crate) struct Template {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    http_extensions: Py<PyDict>,
    root_path: String,
    known: Mutex<HashMap<Box<str>, Py<PyBytes>>>,
    /// The address of the last client, which is often that of the next one.
    last_address: Mutex<Option<(IpAddr, Py<PyString>)>>,
}

impl Template {
    pub(crate) fn new(py: Python<'_>, runtime: &Runtime, options: &Options) -> PyResult<Template> {
        let entries = |kind: &str| -> PyResult<Bound<'_, PyDict>> {
            let entries = PyDict::new(py);
            entries.set_item("type", kind)?;
            let asgi = PyDict::new(py);
            asgi.set_item("version", "3.0")?;
            asgi.set_item("spec_version", SPEC_VERSION)?;
            entries.set_item("asgi", asgi)?;
            entries.set_item("root_path", &options.root_path)?;
            entries.set_item("server", server(py, runtime)?)?;
            // A copy has room for them, so it does not grow when a request sets them.
            for name in REQUEST_ENTRIES {
                entries.set_item(PyString::intern(py, name), py.None())?;
            }
            Ok(entries)
        };
        let http_extensions = PyDict::new(py);
        http_extensions.set_item("http.response.trailers", PyDict::new(py))?;
        http_extensions.set_item("http.response.pathsend", PyDict::new(py))?;
        Ok(Template {
            http: entries("http")?.unbind(),
            websocket: entries("websocket")?.unbind(),
            root_path: options.root_path.clone(),
            http_extensions: http_extensions.unbind(),
            known: Mutex::default(),
            last_address: Mutex::default(),
        })
    }

    /// The scope of an HTTP request.
    pub(crate) fn http<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        event_loop: &EventLoop,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.http.bind(py).copy()?;
        scope.set_item(intern!(py, "extensions"), self.http_extensions.bind(py).copy()?)?;
        let method = match request.method().as_str() {
            "GET" => intern!(py, "GET").clone(),
            "POST" => intern!(py, "POST").clone(),
            other => PyString::new(py, other),
        };
        scope.set_item(intern!(py, "method"), method)?;
        self.complete(py, &scope, request, event_loop, [intern!(py, "http"), intern!(py, "https")])?;
        Ok(scope)
    }

    /// The scope of a WebSocket.
    pub(crate) fn websocket<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        event_loop: &EventLoop,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.websocket.bind(py).copy()?;
        let extensions = PyDict::new(py);
        extensions.set_item("websocket.http.response", PyDict::new(py))?;
        scope.set_item("extensions", extensions)?;
        let offered =
            request.headers().get_all("sec-websocket-protocol").collect::<Vec<_>>().join(&b','.clone());
        let offered = String::from_utf8_lossy(&offered);
        let names = offered.split(',').map(str::trim).filter(|name| !name.is_empty());
        scope.set_item("subprotocols", PyList::new(py, names.collect::<Vec<_>>())?)?;
        self.complete(py, &scope, request, event_loop, [intern!(py, "ws"), intern!(py, "wss")])?;
        Ok(scope)
    }

    /// Adds the entries that both kinds have. `schemes` are those without and with TLS.
    fn complete(
        &self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        request: &Request,
        event_loop: &EventLoop,
        schemes: [&Bound<'_, PyString>; 2],
    ) -> PyResult<()> {
        let version = match request.version() {
            Version::HTTP_11 => intern!(py, "1.1"),
            Version::HTTP_2 => intern!(py, "2"),
            _ => intern!(py, "1.0"),
        };
        scope.set_item(intern!(py, "http_version"), version)?;
        let path = request.path();
        let full = self.with_root_path(path);
        let text = decoded(&full);
        scope.set_item(intern!(py, "path"), &*String::from_utf8_lossy(&text))?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, full.as_bytes()))?;
        let query = request.query_str().unwrap_or_default();
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query.as_bytes()))?;
        scope.set_item(intern!(py, "headers"), self.fields(py, request)?)?;
        let client = request.client();
        scope.set_item(intern!(py, "scheme"), schemes[usize::from(client.scheme() == "https")])?;
        let port = client.port().unwrap_or_default();
        let client = client.address().map(|address| (self.address(py, address), port));
        scope.set_item(intern!(py, "client"), client)?;
        if let Some(state) = event_loop.state(py)? {
            scope.set_item(intern!(py, "state"), state)?;
        }
        Ok(())
    }

    /// The path with the prefix that a proxy has cut off.
    fn with_root_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let rest = path.strip_prefix(self.root_path.as_str());
        match rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) || !path.starts_with('/') {
            true => Cow::Borrowed(path),
            false => Cow::Owned(format!("{}{path}", self.root_path)),
        }
    }

    /// The fields, with their names in lower case.
    fn fields<'py>(&self, py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyList>> {
        let fields = PyList::empty(py);
        for (name, value) in request.headers() {
            fields.append((self.name(py, name), PyBytes::new(py, value)))?;
        }
        Ok(fields)
    }

    /// The text of an address.
    fn address<'py>(&self, py: Python<'py>, address: IpAddr) -> Bound<'py, PyString> {
        let mut last =
            self.last_address.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*last {
            Some((known, text)) if *known == address => text.bind(py).clone(),
            _ => {
                let text = PyString::new(py, &address.to_string());
                *last = Some((address, text.clone().unbind()));
                text
            }
        }
    }

    fn name<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyBytes> {
        let mut known = self.known.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = known.get(name) {
            return known.bind(py).clone();
        }
        let lower = PyBytes::new(py, name.to_ascii_lowercase().as_bytes());
        if known.len() < MAX_KNOWN_NAMES {
            known.insert(name.into(), lower.clone().unbind());
        }
        lower
    }
}
