//! A database, whichever it is, and transactions on it. What is particular to one kind is behind two traits, which
//! know nothing of the types that a program reads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gearshift_core::{BoxFuture, Runtime};
use serde::de::DeserializeOwned;

use crate::row::Rows;
use crate::value::checked;
use crate::{Error, Migrations, Value};

/// How a database is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections that are open at once, whoever asks. SQLite keeps one of them for changes, and has at least one for
    /// those who read. 10 by default; at least 1.
    pub connections: usize,
    /// How long a call waits for one of them, for a new one to be made, and with SQLite for the lock of another
    /// program. 5 seconds by default.
    pub patience: Duration,
    /// How long one statement may take before it is cut short. 30 seconds by default.
    pub longest: Duration,
    /// Rows that one statement may give, however large each is; more are [`Error::Rows`]. 10,000 by default.
    pub most_rows: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connections: 10,
            patience: Duration::from_secs(5),
            longest: Duration::from_secs(30),
            most_rows: 10_000,
        }
    }
}

/// A database: a pool of connections, cheap to clone.
///
/// A call whose future is dropped, as when its peer has left, is cut short. No call makes an event loop wait.
#[derive(Clone)]
pub struct Database(Arc<dyn Base>);

/// One kind of database. All futures stand on their own, and can be dropped at any time.
pub(crate) trait Base: Send + Sync {
    fn kind(&self) -> &'static str;
    fn query(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<Rows, Error>>;
    fn execute(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<u64, Error>>;
    fn begin(&self) -> BoxFuture<Result<Box<dyn Change>, Error>>;
    fn close(&self);
}

/// A transaction of one kind of database. It is rolled back when it is dropped, so that a call that fails, or whose
/// future is dropped, ends it.
pub(crate) trait Change: Send {
    fn query(
        self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, Rows), Error>>;
    fn execute(
        self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, u64), Error>>;
    fn commit(self: Box<Self>) -> BoxFuture<Result<(), Error>>;
}

pub(crate) type Opening = BoxFuture<Result<Arc<dyn Base>, Error>>;

/// What is compiled in, by feature.
const KINDS: &[(&str, fn(Runtime, String, Migrations, Options) -> Opening)] = &[
    #[cfg(feature = "sqlite")]
    ("sqlite", crate::sqlite::open),
    #[cfg(feature = "postgres")]
    ("postgres", crate::postgres::open),
];

/// What begins or ends a transaction, or part of one.
const CONTROL: [&str; 8] = ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"];

/// The parameters of a statement that may be asked.
fn asked(sql: &str, params: impl Into<Vec<Value>>) -> Result<Vec<Value>, Error> {
    let word =
        sql.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    if CONTROL.iter().any(|control| control.eq_ignore_ascii_case(word)) {
        return Err(Error::Failed("a transaction is begun and ended by calls, not by statements".into()));
    }
    checked(params.into())
}

impl Database {
    /// Opens a database, and brings it to the form that the program knows.
    ///
    /// `postgres://` and `postgresql://` URLs are PostgreSQL's: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, where
    /// the host may be the directory of a socket, percent-encoded. The first host is the one that is asked; there is no
    /// TLS. Anything else is a file of SQLite, which is made if it is not there.
    ///
    /// An application should [`close`](Database::close) it when it stops.
    ///
    /// # Errors
    /// [`Error::Away`] or [`Error::Busy`] if nobody answers there, [`Error::Newer`] if a newer program has changed the
    /// database, [`Error::NotCompiledIn`], or [`Error::Failed`] with what the database says.
    pub async fn open(
        runtime: &Runtime,
        url: &str,
        migrations: Migrations,
        options: Options,
    ) -> Result<Database, Error> {
        let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let feature = if is_url { "postgres" } else { "sqlite" };
        let kind = KINDS.iter().find(|(name, _)| *name == feature);
        let (_, open) = kind.ok_or(Error::NotCompiledIn(feature))?;
        open(runtime.clone(), url.to_owned(), migrations, options).await.map(Database)
    }

    /// What a statement that only reads gives, at the last commit.
    ///
    /// A row is read by serde: by the names of its columns into a struct, by position into a tuple, and the only
    /// column of a row also as what it is. Bytes are a `Vec<u8>` of a struct or tuple, NULL is `None`.
    ///
    /// # Errors
    /// [`Error::Changes`] if the statement does not only read: one that changes and gives rows is for a
    /// [`Transaction`]. [`Error::Rows`], [`Error::Row`] and [`Error::Column`] if its rows are not what is wanted,
    /// [`Error::Parameter`] and [`Error::Parameters`] if its parameters are not. [`Error::Busy`], [`Error::Away`],
    /// [`Error::Failed`].
    pub async fn query<T: DeserializeOwned + Send + 'static>(
        &self,
        sql: &'static str,
        params: impl Into<Vec<Value>>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.0.query(sql, asked(sql, params)?);
        rows.await?.read()
    }

    /// Runs one statement in a transaction of its own, and says how many rows it has changed.
    ///
    /// # Errors
    /// [`Error::GivesRows`] if the statement does. [`Error::Refused`] by a constraint. [`Error::Parameter`] and
    /// [`Error::Parameters`] if its parameters do not fit. [`Error::Busy`], [`Error::Away`], [`Error::Failed`].
    pub async fn execute(&self, sql: &'static str, params: impl Into<Vec<Value>>) -> Result<u64, Error> {
        let changed = self.0.execute(sql, asked(sql, params)?);
        changed.await
    }

    /// Begins a transaction, which holds a connection: SQLite's only one for changes.
    ///
    /// Changes of SQLite are made one after the other, from the first statement to the end of each transaction. Those
    /// of PostgreSQL are isolated as its server is set, which is READ COMMITTED unless somebody has changed that: a
    /// change that depends on what was read says so in its own `WHERE`.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Away`].
    pub async fn begin(&self) -> Result<Transaction, Error> {
        Ok(Transaction(Some(self.0.begin().await?)))
    }

    /// Lets the connections go, those in use when they are given back. Whoever asks from now on hears [`Error::Away`].
    pub fn close(&self) {
        self.0.close();
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.0.kind()).finish()
    }
}

/// Statements that are done together or not at all.
///
/// It is rolled back when it is dropped without a [`commit`](Transaction::commit), when one of its statements fails,
/// and when the future of one is dropped. Rolling back happens in the background, and keeps nobody.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction(
    /// `None` once it was rolled back.
    Option<Box<dyn Change>>,
);

impl Transaction {
    /// What a statement gives, which may be one that changes.
    ///
    /// # Errors
    /// As of [`Database::query`], but for [`Error::Changes`]; [`Error::Refused`]; [`Error::RolledBack`].
    pub async fn query<T: DeserializeOwned + Send + 'static>(
        &mut self,
        sql: &'static str,
        params: impl Into<Vec<Value>>,
    ) -> Result<Vec<T>, Error> {
        let change = self.0.take().ok_or(Error::RolledBack)?;
        let answer = change.query(sql, asked(sql, params)?);
        let (change, rows) = answer.await?;
        let read = rows.read()?;
        self.0 = Some(change);
        Ok(read)
    }

    /// Runs one statement, and says how many rows it has changed.
    ///
    /// # Errors
    /// As of [`Database::execute`]; [`Error::RolledBack`].
    pub async fn execute(&mut self, sql: &'static str, params: impl Into<Vec<Value>>) -> Result<u64, Error> {
        let change = self.0.take().ok_or(Error::RolledBack)?;
        let answer = change.execute(sql, asked(sql, params)?);
        let (change, changed) = answer.await?;
        self.0 = Some(change);
        Ok(changed)
    }

    /// Makes all of it last.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if that happened before, [`Error::Refused`] by a constraint that was deferred;
    /// [`Error::Away`], [`Error::Failed`].
    pub async fn commit(self) -> Result<(), Error> {
        self.0.ok_or(Error::RolledBack)?.commit().await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("rolled_back", &self.0.is_none()).finish()
    }
}
