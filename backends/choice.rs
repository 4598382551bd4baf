//! Backends as values: what is compiled in, and which of it is to run.

use std::fmt;
use std::str::FromStr;

use gearshift_core::{App, Config, Report, ServeError, Server, backend};

/// A concurrency model that is compiled in.
///
/// ```no_run
/// # use gearshift::{App, Backend, Server, Router};
/// # fn serve(server: Server) -> Result<(), Box<dyn std::error::Error>> {
/// let backend: Backend = "tokio".parse()?; // or an error that names the feature to enable
/// backend.serve(server, App::new(|_runtime| Router::new()))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Backend(&'static dyn backend::Backend);

/// What is compiled in, in the order of preference.
static COMPILED_IN: &[Backend] = &[
    #[cfg(feature = "mio")]
    Backend(&gearshift_mio::Mio),
    #[cfg(feature = "tokio")]
    Backend(&gearshift_tokio::Tokio::work_stealing()),
    #[cfg(feature = "smol")]
    Backend(&gearshift_smol::Smol),
    #[cfg(feature = "threadpool")]
    Backend(&gearshift_threadpool::ThreadPool),
    #[cfg(feature = "sequential")]
    Backend(&gearshift_sequential::Sequential),
    #[cfg(feature = "async-std")]
    Backend(&gearshift_async_std::AsyncStd),
];

/// What could be compiled in. Features are called like the backends they bring.
const KNOWN: [&str; 6] = ["sequential", "threadpool", "mio", "tokio", "async-std", "smol"];

impl Backend {
    /// Makes a value of any backend, for instance of one with settings of its own:
    /// `Backend::new(&gearshift_tokio::Tokio::per_core())`.
    pub const fn new(backend: &'static dyn backend::Backend) -> Backend {
        Backend(backend)
    }

    /// All backends that are compiled in, the preferred one first.
    pub fn available() -> &'static [Backend] {
        COMPILED_IN
    }

    /// The preferred one of the backends that are compiled in; `None` if there are none.
    ///
    /// The order is: `mio`, `tokio`, `smol`, `threadpool`, `sequential`, `async-std`.
    #[expect(clippy::should_implement_trait, reason = "there may be none")]
    pub fn default() -> Option<Backend> {
        COMPILED_IN.first().copied()
    }

    /// The name it is selected by.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The concurrency model, in a line.
    pub fn model(self) -> &'static str {
        self.0.model()
    }

    /// Says whether it can honour `config`.
    ///
    /// # Errors
    /// [`ServeError::Setting`], with the setting it cannot honour.
    pub fn check(self, config: &Config) -> Result<(), ServeError> {
        self.0.check(config)
    }

    /// Serves until the server's [`Shutdown`](crate::Shutdown) is asked for, then until what is in flight has
    /// ended. This blocks the calling thread.
    ///
    /// # Errors
    /// What kept the server from starting, or ended it.
    pub fn serve(self, server: Server, app: App) -> Result<Report, ServeError> {
        self.0.serve(server, app)
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Backend, BackendError> {
        match COMPILED_IN.iter().find(|backend| backend.name() == name) {
            Some(backend) => Ok(*backend),
            None => Err(match KNOWN.iter().find(|known| **known == name) {
                Some(known) => BackendError::NotCompiledIn { name: known },
                None => BackendError::Unknown { name: name.to_owned() },
            }),
        }
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

/// Why a name is no [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// There is such a backend, but this program was built without it.
    NotCompiledIn {
        /// Its name, which is also that of the feature to enable.
        name: &'static str,
    },
    /// There is no such backend.
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// No name was given, and there is none to prefer.
    None,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::NotCompiledIn { name } => {
                write!(f, "backend {name} is not compiled in: build with the feature '{name}'; ")?;
            }
            BackendError::Unknown { name } => write!(f, "there is no backend '{name}'; ")?,
            BackendError::None => f.write_str("there is no backend to run; ")?,
        }
        match COMPILED_IN {
            [] => f.write_str("none is compiled in"),
            [first, others @ ..] => {
                write!(f, "compiled in: {first}")?;
                others.iter().try_for_each(|other| write!(f, ", {other}"))
            }
        }
    }
}

impl std::error::Error for BackendError {}
