//! Backends as values: the list of compiled-in backends, and the selection by name.

use std::fmt;
use std::str::FromStr;

use gearshift_core::{App, Config, Report, ServeError, Server, backend};

/// A backend that is compiled in: a value, which holds an implementation of the trait
/// [`backend::Backend`](crate::backend::Backend).
///
/// ```no_run
/// # use gearshift::{App, Backend, Server, Router};
/// # fn serve(server: Server) -> Result<(), Box<dyn std::error::Error>> {
/// let backend: Backend = "tokio".parse()?; // the error names the feature to enable
/// backend.serve(server, App::new(|_runtime| Router::new()))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Backend(&'static dyn backend::Backend);

/// Declares `COMPILED_IN` and `KNOWN` from one line for each backend: its feature, which is also its name, and its
/// value.
macro_rules! backends {
    ($($feature:literal => $backend:expr,)+) => {
        /// The compiled-in backends, in order of preference.
        static COMPILED_IN: &[Backend] = &[$(
            #[cfg(feature = $feature)]
            Backend(&$backend),
        )+];

        /// The names of all backends.
        const KNOWN: &[&str] = &[$($feature),+];
    };
}

backends! {
    "mio" => gearshift_mio::Mio,
    "tokio" => gearshift_tokio::Tokio::work_stealing(),
    "smol" => gearshift_smol::Smol,
    "threadpool" => gearshift_threadpool::ThreadPool,
    "sequential" => gearshift_sequential::Sequential,
    "async-std" => gearshift_async_std::AsyncStd,
    "seventh" => gearshift_seventh::Seventh,
}

impl Backend {
    /// Wraps any backend, for example one with its own settings:
    /// `Backend::new(&gearshift_tokio::Tokio::per_core())`.
    pub const fn new(backend: &'static dyn backend::Backend) -> Backend {
        Backend(backend)
    }

    /// The compiled-in backends, the preferred one first.
    pub fn available() -> &'static [Backend] {
        COMPILED_IN
    }

    /// The preferred backend of those that are compiled in; `None` if there is none.
    ///
    /// The order is: `mio`, `tokio`, `smol`, `threadpool`, `sequential`, `async-std`.
    #[expect(clippy::should_implement_trait, reason = "there may be no backend")]
    pub fn default() -> Option<Backend> {
        COMPILED_IN.first().copied()
    }

    /// The name by which a user selects the backend.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// A description of the concurrency model, in one line.
    pub fn model(self) -> &'static str {
        self.0.model()
    }

    /// Whether the threads that drive connections may block. A handler then holds its thread until it answers, and a
    /// request may wait for a thread.
    pub fn threads_block(self) -> bool {
        self.0.threads_block()
    }

    /// Checks that the backend supports all settings of `config`.
    ///
    /// # Errors
    /// [`ServeError::Setting`] with the setting that the backend does not support.
    pub fn check(self, config: &Config) -> Result<(), ServeError> {
        self.0.check(config)
    }

    /// Serves until a [`Shutdown`](crate::Shutdown) is requested, then until the requests in flight have ended. This
    /// blocks the calling thread.
    ///
    /// # Errors
    /// The error that prevented the start, or that ended the server.
    pub fn serve(self, server: Server, app: impl Into<App>) -> Result<Report, ServeError> {
        self.0.serve(server, app.into())
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Backend, BackendError> {
        let backend = COMPILED_IN.iter().find(|backend| backend.name() == name);
        backend.copied().ok_or_else(|| match KNOWN.iter().find(|known| **known == name) {
            Some(known) => BackendError::NotCompiledIn { name: known },
            None => BackendError::Unknown { name: name.to_owned() },
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backend").field(&self.name()).finish()
    }
}

/// Why there is no [`Backend`] for a name.
///
/// ```
/// use gearshift::{Backend, BackendError};
///
/// let error: BackendError = "apache".parse::<Backend>().unwrap_err();
/// assert!(matches!(error, BackendError::Unknown { .. }));
/// println!("{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend exists, but this program was built without it.
    NotCompiledIn {
        /// The name of the backend and of the feature to enable.
        name: &'static str,
    },
    /// No backend has this name.
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// No name was given, and no backend is compiled in.
    None,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::NotCompiledIn { name } => {
                write!(f, "backend {name} is not compiled in: enable the feature '{name}' of gearshift; ")?;
            }
            BackendError::Unknown { name } => write!(f, "there is no backend '{name}'; ")?,
            BackendError::None => f.write_str("there is no backend; ")?,
        }
        let names: Vec<_> = COMPILED_IN.iter().map(|backend| backend.name()).collect();
        match names.is_empty() {
            true => f.write_str("none is compiled in"),
            false => write!(f, "compiled in: {}", names.join(", ")),
        }
    }
}

impl std::error::Error for BackendError {}
