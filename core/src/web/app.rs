//! An application whose start makes a state that its stop releases.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use crate::proto::BoxError;
use crate::runtime::handle::Runtime;
use crate::server::backend::App;
use crate::web::router::Router;

impl App {
    /// Creates an application from a function whose future returns its router and its state, or the error that prevents
    /// the start. The router gets the state as [`Router::with_shared_state`](crate::Router::with_shared_state) does, and
    /// [`StatefulApp::on_stop`] passes it to the function that releases it.
    ///
    /// ```
    /// use gearshift_core::{App, BoxError, Request, Router, Runtime};
    ///
    /// struct Database;
    ///
    /// impl Database {
    ///     async fn open(_: &Runtime) -> Result<Database, BoxError> {
    ///         Ok(Database)
    ///     }
    ///     async fn close(&self) {}
    /// }
    ///
    /// async fn index(request: Request) -> &'static str {
    ///     let _database = request.state::<Database>();
    ///     "hello"
    /// }
    ///
    /// let app = App::start_with_state(async |runtime: Runtime| {
    ///     let database = Database::open(&runtime).await?;
    ///     Ok((Router::new().get("/", index), database))
    /// })
    /// .on_stop(async |database| database.close().await);
    /// # drop(app);
    /// ```
    pub fn start_with_state<F, S, T>(start: F) -> StatefulApp<T>
    where
        F: FnOnce(Runtime) -> S + Send + 'static,
        S: Future<Output = Result<(Router, T), BoxError>> + Send + 'static,
        T: Send + Sync + 'static,
    {
        let state = Arc::new(OnceLock::new());
        let given = state.clone();
        let app = App::start(move |runtime| {
            let starting = start(runtime);
            async move {
                let (router, state) = starting.await?;
                let state = given.get_or_init(|| Arc::new(state));
                Ok(router.with_shared_state(state.clone()))
            }
        });
        StatefulApp { app, state }
    }
}

/// An application whose start makes a state; see [`App::start_with_state`]. It is an [`App`] by `into`.
///
/// ```
/// use gearshift_core::{App, BoxError, Router, StatefulApp, sync};
///
/// struct Database;
///
/// let app: StatefulApp<Database> = App::start_with_state(async |_| {
///     let database = Database;
///     Ok::<_, BoxError>((Router::new().get("/", sync(|_| "hello")), database))
/// });
/// let app: App = app.on_stop(async |_database| println!("the database is closed"));
/// # drop(app);
/// ```
pub struct StatefulApp<T> {
    app: App,
    /// Set by the start.
    state: Arc<OnceLock<Arc<T>>>,
}

impl<T: Send + Sync + 'static> StatefulApp<T> {
    /// Sets a function that gets the state during a stop; see [`App::on_stop`].
    pub fn on_stop<F, S>(self, stop: F) -> App
    where
        F: FnOnce(Arc<T>) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let state = self.state;
        self.app.on_stop(move || {
            let stopping = state.get().cloned().map(stop);
            async {
                if let Some(stopping) = stopping {
                    stopping.await;
                }
            }
        })
    }
}

impl<T> From<StatefulApp<T>> for App {
    fn from(stateful: StatefulApp<T>) -> App {
        stateful.app
    }
}

impl<T> fmt::Debug for StatefulApp<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatefulApp").finish_non_exhaustive()
    }
}
