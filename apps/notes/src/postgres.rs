//! Notes in PostgreSQL, without a blocking call: a connection is a stream of [`Runtime::connect`] and a background task
//! that moves its messages.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult};
use gearshift::{Runtime, Stream, Task};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::database::{self, Error, Options};
use crate::notes::{ADD, DELETE, Draft, EDIT, KEEP, Note};

/// The steps from an empty database to the current schema. Only ever appended to; the table `steps` lists those done.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/postgres/1.sql"), include_str!("../migrations/postgres/2.sql")];
/// Time for all pending migrations together.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Held while migrations run. The key is an arbitrary number that no other program uses.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7061676501)";
/// A connection that was idle for longer is tested before it is used.
const TRUSTED: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Postgres {
    runtime: Runtime,
    pool: Pool<Server>,
    options: Options,
}

impl Postgres {
    pub(crate) async fn open(runtime: &Runtime, url: &str, options: Options) -> Result<Postgres, Error> {
        let config = url.parse()?;
        let server = Server { runtime: runtime.clone(), config, patience: options.connection_timeout };
        let pool = database::pool(server, options.connections);
        let postgres = Postgres { runtime: runtime.clone(), pool, options };
        postgres.run(MIGRATION_TIMEOUT, migrate).await?;
        Ok(postgres)
    }

    pub(crate) async fn select<P>(&self, sql: &'static str, parameter: P) -> Result<Vec<Note>, Error>
    where
        P: ToSql + Send + Sync,
    {
        self.run(self.options.statement_timeout, async |client| {
            client.query(sql, &[&parameter]).await?.iter().map(note).collect()
        })
        .await
    }

    pub(crate) async fn save(
        &self,
        id: Option<i64>,
        Draft { title, body }: Draft,
        edited: String,
    ) -> Result<Option<Note>, Error> {
        self.run(self.options.statement_timeout, async |client| {
            let change = client.transaction().await?;
            let saved = match id {
                None => change.query_opt(ADD, &[&title, &body, &edited]).await?,
                Some(id) => change.query_opt(EDIT, &[&title, &body, &edited, &id]).await?,
            };
            let saved = saved.as_ref().map(note).transpose()?;
            if let Some(note) = &saved {
                change.execute(KEEP, &[&note.id]).await?;
            }
            change.commit().await?;
            Ok(saved)
        })
        .await
    }

    pub(crate) async fn delete(&self, id: i64) -> Result<bool, Error> {
        self.run(self.options.statement_timeout, async |client| Ok(client.execute(DELETE, &[&id]).await? > 0))
            .await
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// Runs `work` with a connection for at most `limit`.
    async fn run<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let connection = database::take(&self.pool, &self.runtime, self.options.connection_timeout).await?;
        let mut lease = Lease(Some(connection));
        let outcome = self.runtime.timeout(limit, work(lease.client())).await;
        let outcome = outcome.map_err(|_| Error::Away(format!("no answer within {limit:?}")))?;
        lease.give_back();
        outcome
    }
}

/// Runs the pending migrations in one transaction. The lock makes several programs that start at once take turns.
async fn migrate(client: &mut Client) -> Result<(), Error> {
    let change = client.transaction().await?;
    change.batch_execute(MIGRATION_LOCK).await?;
    change.batch_execute("CREATE TABLE IF NOT EXISTS steps (done bigint PRIMARY KEY)").await?;
    let done = change.query_one("SELECT coalesce(max(done), 0) FROM steps", &[]).await?.try_get(0)?;
    for (migration, n) in database::pending(MIGRATIONS, done)?.iter().zip(done + 1..) {
        change.batch_execute(migration).await?;
        change.execute("INSERT INTO steps VALUES ($1)", &[&n]).await?;
    }
    Ok(change.commit().await?)
}

fn note(row: &Row) -> Result<Note, Error> {
    Ok(Note {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        body: row.try_get("body")?,
        edited: row.try_get("edited")?,
    })
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        let source = error.source();
        let cause = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        // Classes of SQLSTATE: connection, resources (such as one more connection), operator intervention.
        let away = |code: &SqlState| ["08", "53", "57"].iter().any(|class| code.code().starts_with(class));
        let lost = error.is_closed() || source.is_some_and(|source| source.is::<io::Error>());
        match error.code() {
            Some(code) if away(code) => Error::Away(cause),
            None if lost => Error::Away(cause),
            _ => Error::Failed(cause),
        }
    }
}

/// A connection that runs statements. If it is dropped before they have ended, it does not return to the pool.
struct Lease(Option<Object<Server>>);

impl Lease {
    fn client(&mut self) -> &mut Client {
        let connection = self.0.as_mut().expect("only `give_back` takes it");
        connection.is_running = true;
        &mut connection.client
    }

    fn give_back(mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.is_running = false;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

/// A connection to a server. It ends when its client is dropped.
struct Connection {
    client: Client,
    task: Task<()>,
    /// Whether the server may be running a statement.
    is_running: bool,
    server: Server,
}

/// Closes a connection that waits for an answer, and asks the server to cancel the statement: it would see that the
/// connection is closed only when the statement has ended. It then rolls back.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_running {
            return;
        }
        self.task.cancel();
        let (server, token) = (self.server.clone(), self.client.cancel_token());
        let cancel = async move {
            let cancel =
                async { token.cancel_query_raw(server.stream().await?, NoTls).await.map_err(Error::from) };
            if !matches!(server.runtime.timeout(server.patience, cancel).await, Ok(Ok(()))) {
                log::warn!("a statement could not be cancelled");
            }
        };
        self.server.runtime.spawn(cancel).detach();
    }
}

/// Opens connections to a server.
#[derive(Clone)]
struct Server {
    runtime: Runtime,
    config: Config,
    /// Time for a request to cancel a statement.
    patience: Duration,
}

impl Server {
    /// Connects to the first host of the URL.
    async fn stream(&self) -> Result<Stream, Error> {
        let port = self.config.get_ports().first().unwrap_or(&5432);
        let address = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) if host.contains(':') => format!("[{host}]:{port}"),
            Some(Host::Tcp(host)) => format!("{host}:{port}"),
            Some(Host::Unix(directory)) => format!("unix:{}/.s.PGSQL.{port}", directory.display()),
            None => format!("localhost:{port}"),
        };
        self.runtime.connect(&address).await.map_err(|error| Error::Away(format!("{address}: {error}")))
    }
}

impl Manager for Server {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (client, messages) = self.config.connect_raw(self.stream().await?, NoTls).await?;
        let task = self.runtime.spawn(async {
            if let Err(error) = messages.await {
                log::warn!("a connection to the database ended: {error}");
            }
        });
        Ok(Connection { client, task, is_running: false, server: self.clone() })
    }

    /// A server whose machine is gone leaves its connections open. The wait for an answer to this test is part of the
    /// wait for a connection.
    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        if metrics.last_used() > TRUSTED {
            connection.is_running = true;
            connection.client.check_connection().await.map_err(Error::from)?;
            connection.is_running = false;
        }
        Ok(())
    }
}
