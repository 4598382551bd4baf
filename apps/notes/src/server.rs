//! Connections to a PostgreSQL server: streams of [`Runtime::connect`], each driven by a background task.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use gearshift::{BoxError, Runtime};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::store::{self, StoreError};

/// A connection that was not asked for so long is asked for a sign of life before it is lent again.
const TRUSTED: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(crate) struct Server {
    runtime: Runtime,
    config: Config,
}

pub(crate) type Prepared = HashMap<&'static str, Statement>;

/// A connection, and what each statement is called on it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) prepared: Prepared,
}

impl Server {
    pub(crate) fn new(runtime: Runtime, url: &str) -> Result<Server, BoxError> {
        let config = url.parse().map_err(|error| explained(&error))?;
        Ok(Server { runtime, config })
    }

    /// Connects to the first host of the URL. The connection ends when its client is dropped, or the server ends it.
    pub(crate) async fn connect(&self) -> Result<Client, StoreError> {
        let port = self.config.get_ports().first().unwrap_or(&5432);
        let address = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) if host.contains(':') => format!("[{host}]:{port}"),
            Some(Host::Tcp(host)) => format!("{host}:{port}"),
            Some(Host::Unix(directory)) => format!("unix:{}/.s.PGSQL.{port}", directory.display()),
            None => format!("localhost:{port}"),
        };
        let away = |error| StoreError::Away(format!("{address}: {error}").into());
        let stream = self.runtime.connect(&address).await.map_err(away)?;
        let (client, connection) = self.config.connect_raw(stream, NoTls).await?;
        let driven = async {
            if let Err(error) = connection.await {
                log::warn!("a connection to the database ended: {error}");
            }
        };
        self.runtime.spawn(driven).detach();
        Ok(client)
    }
}

impl Manager for Server {
    type Type = Connection;
    type Error = StoreError;

    async fn create(&self) -> Result<Connection, StoreError> {
        let client = self.connect().await?;
        let mut prepared = Prepared::new();
        for sql in store::STATEMENTS {
            prepared.insert(sql, client.prepare(sql).await?);
        }
        Ok(Connection { client, prepared })
    }

    /// A server that has gone without a word leaves its connections open: whoever waits for the sign of life in vain
    /// has thrown the connection away.
    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<StoreError> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        if metrics.last_used() > TRUSTED {
            connection.client.batch_execute("").await.map_err(StoreError::from)?;
        }
        Ok(())
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> StoreError {
        // Classes of SQLSTATE: no connection, no resources (such as one more connection), an operator intervened.
        let away = |code: &SqlState| ["08", "53", "57"].iter().any(|class| code.code().starts_with(class));
        let cut = || error.source().is_some_and(|source| source.is::<io::Error>());
        let said = explained(&error).into();
        if error.code().is_some_and(away) || error.is_closed() || cut() {
            StoreError::Away(said)
        } else {
            StoreError::Failed(said)
        }
    }
}

/// What went wrong is in the source: the server's words, for one.
fn explained(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
