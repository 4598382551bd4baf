//! PostgreSQL, async all the way: no call blocks, and a statement waits as the backend waits.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Pool;
use gearshift_core::{BoxFuture, Runtime};
use tokio_postgres::Client;

use crate::database::{Base, Change, Opening};
use crate::row::Rows;
use crate::server::{Lease, Server};
use crate::session::State;
use crate::{Error, Migrations, Options, Value, migrations, pool};

/// The key of a lock that is held by whoever migrates: any number that nobody else takes.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7061676501)";

/// Opens the database at `url`.
pub(crate) fn open(runtime: Runtime, url: String, migrations: Migrations, options: Options) -> Opening {
    Box::pin(async move {
        let server = Server::new(&runtime, &url, &options)?;
        let mut client = within(&runtime, options.patience, server.connect()).await?;
        within(&runtime, migrations::LONGEST, migrate(&mut client, migrations.postgres)).await?;
        let pool = pool::of(server, options.connections.max(1));
        Ok(Arc::new(Postgres { runtime, pool, options }) as Arc<dyn Base>)
    })
}

async fn migrate(client: &mut Client, steps: &'static [&'static str]) -> Result<(), Error> {
    let change = client.build_transaction().read_only(false).start().await?;
    change.batch_execute(LOCK).await?;
    change.batch_execute("CREATE TABLE IF NOT EXISTS steps (done bigint PRIMARY KEY)").await?;
    let done = change.query_one("SELECT coalesce(max(done), 0) FROM steps", &[]).await?.try_get(0)?;
    for (step, n) in migrations::pending(steps, done)?.iter().zip(done + 1..) {
        change.batch_execute(step).await?;
        change.execute("INSERT INTO steps VALUES ($1)", &[&n]).await?;
    }
    Ok(change.commit().await?)
}

async fn within<T>(
    runtime: &Runtime,
    longest: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Err(Error::Away(format!("it did not answer within {longest:?}").into()));
    runtime.timeout(longest, answer).await.unwrap_or_else(late)
}

#[derive(Clone)]
struct Postgres {
    runtime: Runtime,
    pool: Pool<Server>,
    options: Options,
}

impl Postgres {
    async fn lease(&self) -> Result<Lease, Error> {
        Ok(Lease::new(pool::take(&self.pool, &self.runtime, self.options.patience).await?))
    }

    /// What a statement gives. The connection is in the state `after` when it has answered.
    async fn query(
        &self,
        mut lease: Lease,
        after: State,
        sql: &'static str,
        params: &[Value],
    ) -> Result<(Lease, Rows), Error> {
        let answer = lease.session().query(after, sql, params, self.options.most_rows);
        let rows = within(&self.runtime, self.options.longest, answer).await?;
        Ok((lease, rows))
    }
}

impl Base for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn query(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<Rows, Error>> {
        let own = self.clone();
        Box::pin(async move {
            let lease = own.lease().await?;
            own.query(lease, State::Idle, sql, &params).await.map(|(_, rows)| rows)
        })
    }

    fn execute(&self, sql: &'static str, params: Vec<Value>) -> BoxFuture<Result<u64, Error>> {
        let own = self.clone();
        Box::pin(async move {
            let mut lease = own.lease().await?;
            let answer = lease.session().execute_alone(sql, &params);
            within(&own.runtime, own.options.longest, answer).await
        })
    }

    fn begin(&self) -> BoxFuture<Result<Box<dyn Change>, Error>> {
        let own = self.clone();
        Box::pin(async move {
            let mut lease = own.lease().await?;
            within(&own.runtime, own.options.patience, lease.session().begin()).await?;
            Ok(Box::new(Changing { lease, own }) as Box<dyn Change>)
        })
    }

    fn close(&self) {
        self.pool.close();
    }
}

/// A transaction.
struct Changing {
    lease: Lease,
    own: Postgres,
}

impl Change for Changing {
    fn query(
        self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, Rows), Error>> {
        Box::pin(async move {
            let Changing { lease, own } = *self;
            let (lease, rows) = own.query(lease, State::Open, sql, &params).await?;
            Ok((Box::new(Changing { lease, own }) as Box<dyn Change>, rows))
        })
    }

    fn execute(
        mut self: Box<Self>,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<Result<(Box<dyn Change>, u64), Error>> {
        Box::pin(async move {
            let answer = self.lease.session().execute(sql, &params);
            let changed = within(&self.own.runtime, self.own.options.longest, answer).await?;
            Ok((self as Box<dyn Change>, changed))
        })
    }

    fn commit(mut self: Box<Self>) -> BoxFuture<Result<(), Error>> {
        Box::pin(async move {
            let answer = self.lease.session().commit();
            within(&self.own.runtime, self.own.options.longest, answer).await
        })
    }
}
