//! SQLite in a file. It blocks, so each statement is a job for [`Runtime::blocking`], with the connection that it needs.
//!
//! SQLite has one writer at a time. Its connection is a pool of its own, so that changes wait in turn and without a
//! thread, and never in the way of those who only read; these see the last commit, as the log is written ahead.
//!
//! A transaction is the writer's connection, which moves into the job of each statement and back. `BEGIN` is part of
//! the first, so that n statements are n + 1 jobs, and the file is not locked before there is something to do.

use std::sync::Arc;

use deadpool::managed::Pool;
use gearshift_core::{BoxFuture, Runtime};
use rusqlite::{Connection, TransactionBehavior};

use crate::database::{Base, Change, Opening};
use crate::file::{File, Lease};
use crate::row::Rows;
use crate::{Error, Migrations, Options, Value, migrations, pool, statement};

/// Opens the file at `path`.
pub(crate) fn open(runtime: Runtime, path: String, migrations: Migrations, options: Options) -> Opening {
    Box::pin(async move {
        if path.is_empty() || path.contains(":memory:") || path.contains("mode=memory") {
            let fault = "in memory, each connection would have a database of its own; name a file";
            return Err(Error::Failed(fault.into()));
        }
        let of = |size| pool::of(File::new(&runtime, &path, &options), size);
        let (readers, writer) = (of(options.connections.saturating_sub(1).max(1)), of(1));
        let sqlite = Sqlite { runtime, readers, writer, options };
        let named = |error: Error| match error {
            Error::Busy(error) => Error::Busy(format!("{path}: {error}").into()),
            Error::Away(error) => Error::Away(format!("{path}: {error}").into()),
            Error::Failed(error) => Error::Failed(format!("{path}: {error}").into()),
            error => error,
        };
        let lease = sqlite.lease(false).await.map_err(named)?;
        lease.run(migrations::LONGEST, move |file| migrate(file, migrations.sqlite)).await.map_err(named)?;
        Ok(Arc::new(sqlite) as Arc<dyn Base>)
    })
}

/// Takes the lock of a writer before it looks, so that two programs that start at once do not both do it.
fn migrate(file: &mut Connection, steps: &'static [&'static str]) -> Result<(), Error> {
    let change = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in migrations::pending(steps, done)? {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "user_version", steps.len())?;
    Ok(change.commit()?)
}

#[derive(Clone)]
struct Sqlite {
    runtime: Runtime,
    readers: Pool<File>,
    writer: Pool<File>,
    options: Options,
}

impl Sqlite {
    async fn lease(&self, reads: bool) -> Result<Lease, Error> {
        let pool = if reads { &self.readers } else { &self.writer };
        Ok(Lease::new(pool::take(pool, &self.runtime, self.options.patience).await?, &self.runtime))
    }
}

impl Base for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn query(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<Rows, Error>> {
        let (sqlite, most) = (self.clone(), self.options.most_rows);
        Box::pin(async move {
            let read = move |file: &mut Connection| statement::read(file, sql, &params, most);
            let lease = sqlite.lease(true).await?;
            lease.run(sqlite.options.longest, read).await.map(|(_, rows)| rows)
        })
    }

    fn execute(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<u64, Error>> {
        let sqlite = self.clone();
        Box::pin(async move {
            let execute = move |file: &mut Connection| statement::execute(file, sql, &params);
            let lease = sqlite.lease(false).await?;
            lease.run(sqlite.options.longest, execute).await.map(|(_, changed)| changed)
        })
    }

    fn begin(&self) -> BoxFuture<Result<Box<dyn Change>, Error>> {
        let sqlite = self.clone();
        Box::pin(async move {
            let lease = sqlite.lease(false).await?;
            Ok(Box::new(Writing { lease, begun: false, options: sqlite.options }) as Box<dyn Change>)
        })
    }

    fn close(&self) {
        self.readers.close();
        self.writer.close();
    }
}

/// A transaction.
struct Writing {
    lease: Lease,
    /// Whether the connection is in it already.
    begun: bool,
    options: Options,
}

impl Writing {
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Box<dyn Change>, T), Error> {
        let Writing { lease, begun, options } = self;
        let work = move |file: &mut Connection| {
            if !begun {
                statement::begin(file)?;
            }
            let outcome = work(file)?;
            match file.is_autocommit() {
                false => Ok(outcome),
                // Or what follows would not be part of it.
                true => Err(Error::Failed("the statement has ended its transaction".into())),
            }
        };
        let (lease, outcome) = lease.run(options.longest, work).await?;
        Ok((Box::new(Writing { lease, begun: true, options }), outcome))
    }
}

impl Change for Writing {
    fn query(
        self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, Rows), Error>> {
        let most = self.options.most_rows;
        Box::pin(self.run(move |file| statement::fetch(file, sql, &params, most)))
    }

    fn execute(
        self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, u64), Error>> {
        Box::pin(self.run(move |file| statement::execute(file, sql, &params)))
    }

    fn commit(self: Box<Self>) -> BoxFuture<Result<(), Error>> {
        Box::pin(async move {
            if self.begun {
                self.lease.run(self.options.longest, |file| statement::commit(file)).await?;
            }
            Ok(())
        })
    }
}
