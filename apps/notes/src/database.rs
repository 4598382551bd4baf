//! The database of the notes: a SQLite file or a PostgreSQL server, behind the same few methods.
//!
//! Every wait has a limit, see [`Options`]. When the future of a method is dropped, for example because the peer has
//! left, its statement is interrupted, its transaction is rolled back, and another request can use its connection or
//! a new one.

use std::fmt;
use std::time::Duration;

use deadpool::managed::{Manager, Object, Pool, PoolError};
use gearshift::{Refusal, Runtime, StatusCode};

use crate::notes::{self, Draft, Note};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// Limits on the use of the database.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Connections to the database that are open at once; SQLite uses one of them for changes
    #[arg(long = "database-connections", value_name = "N", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) connections: u16,

    /// How long a request waits for a connection to the database, or for the lock of a SQLite file
    #[arg(long = "database-timeout", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) connection_timeout: Duration,

    /// How long the statements of one request may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) statement_timeout: Duration,
}

/// Reads `5s`, `500ms` or `2m`, up to a day.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let duration =
        text.parse().ok().and_then(|duration: jiff::SignedDuration| Duration::try_from(duration).ok());
    let duration = duration.ok_or("not a duration such as 5s, 500ms or 2m")?;
    if duration <= Duration::from_secs(24 * 3600) { Ok(duration) } else { Err("longer than a day") }
}

/// An open database; cheap to clone.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// Opens a database and runs the migrations that are pending.
    ///
    /// `location` is a PostgreSQL URL, `postgres://USER:PASSWORD@HOST:PORT/NAME`, or the path of a SQLite file, which
    /// is created if it does not exist. A host that starts with `/`, percent-encoded, is the directory of a Unix
    /// socket. TLS is not supported.
    pub(crate) async fn open(runtime: &Runtime, location: &str, options: Options) -> Result<Database, Error> {
        if location.starts_with("postgres://") || location.starts_with("postgresql://") {
            Postgres::open(runtime, location, options).await.map(Database::Postgres)
        } else {
            Sqlite::open(runtime, location, options).await.map(Database::Sqlite)
        }
    }

    /// Returns the notes that `sql` selects by its one parameter.
    pub(crate) async fn select<P>(&self, sql: &'static str, parameter: P) -> Result<Vec<Note>, Error>
    where
        P: rusqlite::ToSql + tokio_postgres::types::ToSql + Send + Sync + 'static,
    {
        match self {
            Database::Sqlite(sqlite) => sqlite.select(sql, parameter).await,
            Database::Postgres(postgres) => postgres.select(sql, parameter).await,
        }
    }

    /// Adds a note, or changes the note `id`, and its history, in one transaction. Returns `None` if there is no such
    /// note.
    pub(crate) async fn save(&self, id: Option<i64>, draft: Draft) -> Result<Option<Note>, Error> {
        match self {
            Database::Sqlite(sqlite) => sqlite.save(id, draft, notes::now()).await,
            Database::Postgres(postgres) => postgres.save(id, draft, notes::now()).await,
        }
    }

    /// Deletes a note and its history. Returns whether there was such a note.
    pub(crate) async fn delete(&self, id: i64) -> Result<bool, Error> {
        match self {
            Database::Sqlite(sqlite) => sqlite.delete(id).await,
            Database::Postgres(postgres) => postgres.delete(id).await,
        }
    }

    /// Closes all connections. A connection in use is closed when its request has ended.
    pub(crate) async fn close(&self) {
        match self {
            Database::Sqlite(sqlite) => sqlite.close().await,
            Database::Postgres(postgres) => postgres.close(),
        }
    }
}

/// Makes a pool of at most `size` connections. A connection is opened when it is first needed.
pub(crate) fn pool<M: Manager>(manager: M, size: u16) -> Pool<M> {
    let pool = Pool::builder(manager).max_size(size.into()).build();
    pool.expect("a pool needs a runtime only for its own timeouts")
}

/// Takes a connection from a pool. Requests that wait are served in order and hold no thread.
pub(crate) async fn take<M>(pool: &Pool<M>, runtime: &Runtime, limit: Duration) -> Result<Object<M>, Error>
where
    M: Manager<Error = Error>,
{
    match runtime.timeout(limit, pool.get()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(PoolError::Backend(error))) => Err(error),
        Ok(Err(error)) => Err(Error::Away(error.to_string())),
        Err(_) => Err(Error::Busy(format!("no connection was available within {limit:?}"))),
    }
}

/// Returns the migrations that are still to be run on a database on which `done` have been.
pub(crate) fn pending(
    migrations: &'static [&'static str],
    done: i64,
) -> Result<&'static [&'static str], Error> {
    let pending = usize::try_from(done).ok().and_then(|done| migrations.get(done..));
    pending.ok_or(Error::Version { found: done, known: migrations.len() })
}

/// Why the database did not do what it was asked. A transaction that failed has changed nothing; only if it was lost
/// during its commit, the outcome is unknown.
#[derive(Debug)]
pub(crate) enum Error {
    /// All connections, or the lock of the file, stayed in use for the whole time that a request waits.
    Busy(String),
    /// The database cannot be reached, or did not answer in time.
    Away(String),
    /// The database cannot do what it was asked.
    Failed(String),
    /// The database has migrations that this version of the program does not know.
    Version { found: i64, known: usize },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Busy(cause) => write!(f, "the database is busy: {cause}"),
            Error::Away(cause) => write!(f, "the database is unavailable: {cause}"),
            Error::Failed(cause) => write!(f, "the database failed: {cause}"),
            Error::Version { found, known } => {
                write!(f, "the database has version {found}, this program knows {known}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Logs the error. The peer learns only whether a later request may succeed.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        log::error!("{error}");
        match error {
            Error::Busy(_) | Error::Away(_) => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "try again in a moment")
            }
            Error::Failed(_) | Error::Version { .. } => {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred")
            }
        }
    }
}
