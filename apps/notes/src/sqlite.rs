//! Notes in a SQLite file. Calls of SQLite block, so each operation is one job for [`Runtime::blocking`].
//!
//! SQLite has one writer at a time. The writer's connection is a second pool with one connection: changes wait for it
//! in order and without a thread. Readers do not wait for the writer, because the log of the file is written ahead
//! (WAL).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use gearshift::Runtime;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, ToSql, Transaction, TransactionBehavior};

use crate::database::{self, Error, Options};
use crate::notes::{ADD, DELETE, Draft, EDIT, KEEP, Note};

/// The steps from an empty file to the current schema. Only ever appended to; `user_version` counts those done.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/sqlite/1.sql"), include_str!("../migrations/sqlite/2.sql")];
/// Time for all pending migrations together.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Instructions of SQLite's virtual machine between two calls of the progress handler: some tens of microseconds.
const PROGRESS: i32 = 4_000;
/// Pause between two attempts to switch a file to WAL.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub(crate) struct Sqlite {
    runtime: Runtime,
    readers: Pool<File>,
    writer: Pool<File>,
    options: Options,
}

impl Sqlite {
    pub(crate) async fn open(runtime: &Runtime, path: &str, options: Options) -> Result<Sqlite, Error> {
        if path.is_empty() || path.contains(":memory:") || path.contains("mode=memory") {
            let fault = "each connection would have its own database in memory; name a file";
            return Err(Error::Failed(fault.into()));
        }
        let pool = |size| {
            let file =
                File { runtime: runtime.clone(), path: path.into(), patience: options.connection_timeout };
            database::pool(file, size)
        };
        let sqlite = Sqlite {
            runtime: runtime.clone(),
            readers: pool(options.connections - 1),
            writer: pool(1),
            options,
        };
        let migrated = sqlite.run(&sqlite.writer, MIGRATION_TIMEOUT, |file, _| migrate(file)).await;
        migrated.map_err(|error| match error {
            Error::Busy(cause) => Error::Busy(format!("{path}: {cause}")),
            Error::Failed(cause) => Error::Failed(format!("{path}: {cause}")),
            error => error,
        })?;
        Ok(sqlite)
    }

    pub(crate) async fn select<P>(&self, sql: &'static str, parameter: P) -> Result<Vec<Note>, Error>
    where
        P: ToSql + Send + 'static,
    {
        let select = move |file: &mut Connection, _: &dyn Fn() -> bool| {
            let mut statement = file.prepare_cached(sql)?;
            Ok(statement.query_map([parameter], note)?.collect::<Result<_, _>>()?)
        };
        self.run(&self.readers, self.options.statement_timeout, select).await
    }

    pub(crate) async fn save(
        &self,
        id: Option<i64>,
        Draft { title, body }: Draft,
        edited: String,
    ) -> Result<Option<Note>, Error> {
        self.change(move |change| {
            let saved = match id {
                None => change.query_row(ADD, (title, body, edited), note),
                Some(id) => change.query_row(EDIT, (title, body, edited, id), note),
            };
            let saved = saved.optional()?;
            if let Some(note) = &saved {
                change.execute(KEEP, [note.id])?;
            }
            Ok(saved)
        })
        .await
    }

    pub(crate) async fn delete(&self, id: i64) -> Result<bool, Error> {
        self.change(move |change| Ok(change.execute(DELETE, [id])? > 0)).await
    }

    /// SQLite copies its log into the file when the last connection is closed, so this is a job, too.
    pub(crate) async fn close(&self) {
        let Sqlite { readers, writer, .. } = self.clone();
        self.runtime.blocking(move || [readers, writer].iter().for_each(Pool::close)).await;
    }

    /// Runs `work` in a transaction. It is rolled back if `work` fails, or if the future is dropped before the commit.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let transaction = |file: &mut Connection, is_over: &dyn Fn() -> bool| {
            // Takes the lock of the file at once: a transaction that reads first may not get the lock later.
            let change = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = work(&change)?;
            // SQLite does not call the progress handler while it waits for the lock.
            if is_over() {
                return Err(late());
            }
            change.commit()?;
            Ok(outcome)
        };
        self.run(&self.writer, self.options.statement_timeout, transaction).await
    }

    /// Runs `work` with a connection, as a job. When `limit` is over or the future was dropped, the statement that runs
    /// is interrupted. The second argument of `work` returns whether that is the case.
    async fn run<T: Send + 'static>(
        &self,
        pool: &Pool<File>,
        limit: Duration,
        work: impl FnOnce(&mut Connection, &dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut file = database::take(pool, &self.runtime, self.options.connection_timeout).await?;
        // The future owns it. It is dropped with the future, which the job sees.
        let future = Arc::new(());
        let future_of_job = Arc::downgrade(&future);
        let job = move || {
            let end = Instant::now() + limit;
            let is_over = move || future_of_job.strong_count() == 0 || Instant::now() > end;
            file.progress_handler(PROGRESS, Some(is_over.clone()))?;
            work(&mut file, &is_over)
        };
        self.runtime.blocking(job).await
    }
}

/// Runs the pending migrations in one transaction. The lock is taken before the version is read, so that of several
/// programs that start at once the first migrates and the others wait.
fn migrate(file: &mut Connection) -> Result<(), Error> {
    let change = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in database::pending(MIGRATIONS, done)? {
        change.execute_batch(migration)?;
    }
    change.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(change.commit()?)
}

fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note {
        id: row.get("id")?,
        title: row.get("title")?,
        body: row.get("body")?,
        edited: row.get("edited")?,
    })
}

fn late() -> Error {
    Error::Away("the statement took too long".into())
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(error.to_string()),
            Some(ErrorCode::OperationInterrupted) => late(),
            _ => Error::Failed(match error {
                // Its text is the whole migration.
                rusqlite::Error::SqlInputError { msg, .. } => msg,
                error => error.to_string(),
            }),
        }
    }
}

/// Opens connections to a file.
struct File {
    runtime: Runtime,
    path: String,
    /// How long a statement waits for the lock of another program.
    patience: Duration,
}

impl Manager for File {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (path, patience) = (self.path.clone(), self.patience);
        let open = move || {
            let file = Connection::open(path)?;
            file.busy_timeout(patience)?;
            write_ahead(&file, patience)?;
            file.pragma_update(None, "foreign_keys", true)?;
            Ok(file)
        };
        self.runtime.blocking(open).await
    }

    /// Discards a connection that could not roll back.
    async fn recycle(&self, file: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if file.is_autocommit() { Ok(()) } else { Err(RecycleError::message("in a transaction")) }
    }
}

/// Switches a file to WAL, and tries again until `patience` is over. SQLite ignores `busy_timeout` here: it refuses at
/// once while another program does the same, because the two could wait for each other.
fn write_ahead(file: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        match file.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < patience =>
            {
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}
