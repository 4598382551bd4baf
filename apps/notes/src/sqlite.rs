//! Notes in a file: SQLite blocks, so each piece of work is a job for [`Runtime::blocking`], with its connection.
//!
//! SQLite has one writer at a time. Its connection is a pool of its own, so that changes wait in turn and without a
//! thread, and never in the way of those who only read; these see the last commit, as the log is written ahead.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use gearshift::{BoxError, Runtime};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params,
};

use crate::pool;
use crate::steps::{self, SQLITE};
use crate::store::{self, Answer, CONNECTIONS, Draft, Note, Store, StoreError};

/// How long a change waits for one of another program.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) struct Sqlite {
    runtime: Runtime,
    readers: Pool<File>,
    writer: Pool<File>,
}

impl Sqlite {
    pub(crate) async fn open(runtime: Runtime, path: &str) -> Result<Sqlite, BoxError> {
        let pool = |size| pool::of(File { runtime: runtime.clone(), path: path.to_owned() }, size);
        let store = Sqlite { readers: pool(CONNECTIONS - 1), writer: pool(1), runtime: runtime.clone() };
        store.on(&store.writer, migrate).await.map_err(|error| format!("{path}: {error}"))?;
        Ok(store)
    }

    /// Runs `work` with a connection, which is back in its pool when the work has ended, awaited or not.
    fn on<T: Send + 'static>(
        &self,
        pool: &Pool<File>,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let (runtime, pool) = (self.runtime.clone(), pool.clone());
        Box::pin(async move {
            let mut connection = pool::take(&pool, &runtime).await?;
            runtime.blocking(move || work(&mut connection)).await
        })
    }

    fn read(&self, sql: &'static str, params: impl Params + Send + 'static) -> Answer<Vec<Note>> {
        self.on(&self.readers, move |connection| {
            let mut query = connection.prepare_cached(sql)?;
            Ok(query.query_map(params, note)?.collect::<Result<_, _>>()?)
        })
    }

    /// All that `work` does, or nothing of it.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.on(&self.writer, move |connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = work(&change)?;
            change.commit()?;
            Ok(outcome)
        })
    }
}

impl Store for Sqlite {
    fn search(&self, text: &str) -> Answer<Vec<Note>> {
        self.read(store::SEARCH, [store::containing(text)])
    }

    fn note(&self, id: i64) -> Answer<Option<Note>> {
        self.on(&self.readers, move |connection| {
            Ok(connection.prepare_cached(store::NOTE)?.query_row([id], note).optional()?)
        })
    }

    fn history(&self, id: i64) -> Answer<Vec<Note>> {
        self.read(store::HISTORY, [id])
    }

    fn add(&self, draft: Draft) -> Answer<Note> {
        self.change(move |change| {
            let mut note = draft.note(0);
            note.id = change
                .prepare_cached(store::ADD)?
                .query_row(params![note.title, note.body, note.edited], |row| row.get(0))?;
            keep(change, &note)?;
            Ok(note)
        })
    }

    fn edit(&self, id: i64, draft: Draft) -> Answer<Option<Note>> {
        self.change(move |change| {
            let note = draft.note(id);
            let mut edit = change.prepare_cached(store::EDIT)?;
            if edit.execute(params![note.title, note.body, note.edited, id])? == 0 {
                return Ok(None);
            }
            keep(change, &note)?;
            Ok(Some(note))
        })
    }

    fn delete(&self, id: i64) -> Answer<bool> {
        self.change(move |change| Ok(change.prepare_cached(store::DELETE)?.execute([id])? > 0))
    }

    fn close(&self) {
        self.readers.close();
        self.writer.close();
    }
}

fn keep(change: &Transaction<'_>, note: &Note) -> rusqlite::Result<usize> {
    let mut keep = change.prepare_cached(store::KEEP)?;
    keep.execute(params![note.title, note.body, note.edited, note.id])
}

fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note { id: row.get(0)?, title: row.get(1)?, body: row.get(2)?, edited: row.get(3)? })
}

/// Takes the lock of a writer before it looks, so that two programs that start at once do not both do it.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in steps::pending(SQLITE, done)? {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "user_version", SQLITE.len())?;
    Ok(change.commit()?)
}

/// Where connections come from.
struct File {
    runtime: Runtime,
    path: String,
}

impl Manager for File {
    type Type = Connection;
    type Error = StoreError;

    async fn create(&self) -> Result<Connection, StoreError> {
        let path = self.path.clone();
        let open = move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            Ok(connection)
        };
        self.runtime.blocking(open).await
    }

    /// A connection that could not even roll back is of no more use.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<StoreError> {
        if connection.is_autocommit() { Ok(()) } else { Err(RecycleError::message("in a transaction")) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Away(error.into()),
            _ => StoreError::Failed(error.into()),
        }
    }
}
