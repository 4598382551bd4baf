//! An application whose start makes a state that its stop releases.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::proto::{BoxError, BoxFuture};
use crate::runtime::handle::Runtime;
use crate::runtime::stall::Origin;
use crate::server::backend::App;
use crate::web::router::Router;

impl App {
    /// Creates an application from a function whose future returns its router and its state, or the error that prevents
    /// the start. The router gets the state as [`Router::with_shared_state`](crate::Router::with_shared_state) does,
    /// and [`StatefulApp::on_stop`] passes it to the function that releases it.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{App, BoxError, Request, Router, Runtime};
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
        let start = move |runtime| {
            let starting = start(runtime);
            Box::pin(async move { starting.await.map(|(router, state)| (router, Arc::new(state))) })
                as Starting<T>
        };
        StatefulApp { start: Box::new(start), tasks: Vec::new() }
    }
}

/// An application whose start makes a state; see [`App::start_with_state`]. It is an [`App`] by `into`.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{App, BoxError, Router, StatefulApp, sync};
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
    start: Box<dyn FnOnce(Runtime) -> Starting<T> + Send>,
    /// The functions of [`StatefulApp::every`], which start its calls.
    tasks: Vec<Box<dyn FnOnce(Arc<T>, &Runtime) + Send>>,
}

/// The future of a start.
type Starting<T> = BoxFuture<Result<(Router, Arc<T>), BoxError>>;

impl<T: Send + Sync + 'static> StatefulApp<T> {
    /// Calls `function` with the state once in each `period`, from the start until the server begins to stop. The calls
    /// are those of [`Runtime::every`]: the first one comes after one `period`, they do not overlap, and a stop waits
    /// for a call that has begun. Work that blocks goes through [`Runtime::blocking`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use gearshift::{App, BoxError, Router, Runtime};
    ///
    /// struct Store;
    ///
    /// impl Store {
    ///     /// Blocks while it removes the entries that are out of date.
    ///     fn expire(&self) {}
    ///     fn flush(&self) {}
    /// }
    ///
    /// let app = App::start_with_state(async |_| Ok::<_, BoxError>((Router::new(), Store)))
    ///     .every(Duration::from_secs(60), async |store: Arc<Store>, runtime: Runtime| {
    ///         runtime.blocking(move || store.expire()).await;
    ///     })
    ///     .on_stop(async |store| store.flush());
    /// # drop(app);
    /// ```
    ///
    /// # Panics
    /// If `period` is zero.
    #[track_caller]
    pub fn every<F, C>(mut self, period: Duration, mut function: F) -> StatefulApp<T>
    where
        F: FnMut(Arc<T>, Runtime) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let origin = Location::caller();
        assert!(!period.is_zero(), "a period is longer than zero");
        self.tasks.push(Box::new(move |state, runtime| {
            let inner = runtime.clone();
            let calls = move || function(state.clone(), inner.clone());
            runtime.every_at(period, calls, Origin::Spawned(origin)).detach();
        }));
        self
    }

    /// Sets a function that gets the state during a stop; see [`App::on_stop`].
    pub fn on_stop<F, S>(self, stop: F) -> App
    where
        F: FnOnce(Arc<T>) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let state = Arc::new(OnceLock::new());
        self.into_app(state.clone()).on_stop(move || {
            let stopping = state.get().cloned().map(stop);
            async {
                if let Some(stopping) = stopping {
                    stopping.await;
                }
            }
        })
    }

    /// Creates the application, whose start sets `given`.
    fn into_app(self, given: Arc<OnceLock<Arc<T>>>) -> App {
        let StatefulApp { start, tasks } = self;
        App::start(move |runtime: Runtime| {
            let starting = start(runtime.clone());
            async move {
                let (router, state) = starting.await?;
                for task in tasks {
                    task(state.clone(), &runtime);
                }
                let state = given.get_or_init(|| state);
                Ok(router.with_shared_state(state.clone()))
            }
        })
    }
}

impl<T: Send + Sync + 'static> From<StatefulApp<T>> for App {
    fn from(stateful: StatefulApp<T>) -> App {
        stateful.into_app(Arc::default())
    }
}

impl<T> fmt::Debug for StatefulApp<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatefulApp").finish_non_exhaustive()
    }
}
