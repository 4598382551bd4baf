//! A test: on one backend, inside its server, with an empty database of its own.

use std::any::Any;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use cluster::Cluster;
use gearshift::{App, Backend, BoxFuture, Router, Runtime, Task, TestServer};
use gearshift_core::Config;
use gearshift_sql::{Database, Error, Migrations, Options};
use tempfile::TempDir;

/// More than any test waits for its database.
const PATIENCE: Duration = Duration::from_secs(60);

/// Less than a server waits for background tasks when it stops.
const STOP: Duration = Duration::from_secs(10);

pub(crate) const TABLE: Migrations = Migrations {
    sqlite: &["CREATE TABLE things (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE) STRICT"],
    postgres: &["CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        n bigint NOT NULL UNIQUE)"],
};

pub(crate) const ADD: &str = "INSERT INTO things (n) VALUES ($1)";

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) runtime: Runtime,
    pub(crate) url: String,
    /// The server of the database, if it is PostgreSQL.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// What is dropped when the server has ended.
    pub(crate) left: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
    _place: Arc<TempDir>,
}

/// Runs a test as a background task of a server, and ends it with the server.
pub(crate) fn run(backend: Backend, cluster: Option<Arc<Cluster>>, test: fn(Case) -> BoxFuture<()>) {
    let place = Arc::new(TempDir::new().expect("a directory for temporary files"));
    let url = match &cluster {
        Some(cluster) => cluster.database(),
        None => place.path().join("test.db").to_string_lossy().into_owned(),
    };
    let (ended, end) = mpsc::channel();
    let left = Arc::<Mutex<Vec<_>>>::default();
    let its_left = left.clone();
    let app = App::new(move |runtime| {
        let case = Case { runtime: runtime.clone(), url, cluster, left: its_left, _place: place };
        let test = test(case);
        runtime
            .spawn(async move {
                test.await;
                let _ = ended.send(());
            })
            .detach();
        Router::new()
    });
    let server = TestServer::with_app(backend, Config::default(), app).expect("the server starts");
    end.recv_timeout(PATIENCE).expect("the test comes to its end");
    let since = Instant::now();
    server.stop().expect("the server stops");
    assert!(since.elapsed() < STOP, "it waits for connections that are not closed");
    left.lock().expect("no test panics with it").clear();
}

impl Case {
    pub(crate) async fn open(&self) -> Database {
        self.open_with(Options::default()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Database {
        self.open_as(TABLE, options).await.expect("the database opens")
    }

    pub(crate) async fn open_as(&self, migrations: Migrations, options: Options) -> Result<Database, Error> {
        Database::open(&self.runtime, &self.url, migrations, options).await
    }

    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        if self.cluster.is_some() { postgres } else { sqlite }
    }

    /// A statement that never ends by itself.
    pub(crate) fn endless(&self) -> &'static str {
        self.pick(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
            "SELECT count(*) FROM (SELECT pg_sleep(3600)) AS t",
        )
    }

    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Task<T> {
        self.runtime.spawn(task)
    }

    /// Asks the database behind the program's back.
    pub(crate) async fn ask(&self, sqlite: &'static str, postgres: &'static str) -> String {
        let case = self.clone();
        let ask = move || match &case.cluster {
            Some(cluster) => cluster.run(&case.url, postgres),
            None => {
                let file = rusqlite::Connection::open(&case.url).expect("a file of SQLite");
                let mut statement = file.prepare(sqlite).expect("SQL of SQLite");
                let mut rows = statement.raw_query();
                let first = rows.next().expect("a statement that succeeds");
                first.map(|row| row.get::<_, i64>(0).expect("a number").to_string()).unwrap_or_default()
            }
        };
        self.runtime.blocking(ask).await
    }

    /// Waits until the database says so.
    pub(crate) async fn until(&self, sqlite: &'static str, postgres: &'static str, answer: &str) {
        let since = Instant::now();
        while self.ask(sqlite, postgres).await != answer {
            assert!(since.elapsed() < PATIENCE / 2, "{postgres}: {answer}");
            self.runtime.sleep(Duration::from_millis(5)).await;
        }
    }
}

/// All numbers that are there.
pub(crate) async fn numbers(database: &Database) -> Vec<i64> {
    database.query("SELECT n FROM things ORDER BY n", []).await.expect("the database answers")
}
