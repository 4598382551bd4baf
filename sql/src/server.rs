//! Connections to a PostgreSQL server: streams of [`Runtime::connect`], each driven by a background task; how they are
//! made, lent, cut short and given back.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use futures_io::AsyncRead;
use gearshift_core::{Runtime, Stream};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use crate::session::{Session, State};
use crate::{Error, Options};

/// A connection that was not asked for so long is asked for a sign of life before it is lent again.
const TRUSTED: Duration = Duration::from_secs(1);

/// Where connections come from.
#[derive(Clone)]
pub(crate) struct Server {
    runtime: Runtime,
    config: Config,
    patience: Duration,
}

impl Server {
    pub(crate) fn new(runtime: &Runtime, url: &str, options: &Options) -> Result<Server, Error> {
        let config = url.parse().map_err(|error| Error::Failed(explained(&error).into()))?;
        Ok(Server { runtime: runtime.clone(), config, patience: options.patience })
    }

    /// Connects to the first host of the URL.
    async fn stream(&self) -> Result<Stream, Error> {
        let port = self.config.get_ports().first().unwrap_or(&5432);
        let address = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) if host.contains(':') => format!("[{host}]:{port}"),
            Some(Host::Tcp(host)) => format!("{host}:{port}"),
            Some(Host::Unix(directory)) => format!("unix:{}/.s.PGSQL.{port}", directory.display()),
            None => format!("localhost:{port}"),
        };
        let away = |error| Error::Away(format!("{address}: {error}").into());
        self.runtime.connect(&address).await.map_err(away)
    }

    /// A connection, which ends when its client is dropped, or the server ends it. What it is asked outside of a
    /// transaction may only read.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = self.config.connect_raw(self.stream().await?, NoTls).await?;
        let driven = async {
            if let Err(error) = connection.await {
                log::warn!("a connection to the database ended: {error}");
            }
        };
        self.runtime.spawn(driven).detach();
        client.batch_execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await?;
        Ok(client)
    }

    /// Has the server stop what it does on a connection. It has, or never will, when this is over: so that it does
    /// not stop what it does there next.
    async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        let mut stream = self.stream().await?;
        token.cancel_query_raw(&mut stream, NoTls).await?;
        let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])).await;
        read.map(drop).map_err(|error| Error::Away(error.into()))
    }
}

impl Manager for Server {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        Ok(Session::new(self.connect().await?))
    }

    /// A server that has gone without a word leaves its connections open: whoever waits for the sign of life in vain
    /// has thrown the connection away.
    async fn recycle(&self, session: &mut Session, metrics: &Metrics) -> RecycleResult<Error> {
        if session.client.is_closed() || session.state != State::Idle {
            return Err(RecycleError::message("closed, or in use"));
        }
        if metrics.last_used() > TRUSTED {
            session.client.batch_execute("").await.map_err(Error::from)?;
        }
        Ok(())
    }
}

/// A connection that is lent. Dropped, it is rolled back if need be, and is in its pool again; or it is thrown away,
/// if that takes longer than patience.
pub(crate) struct Lease(
    /// `None` once it was dropped.
    Option<Object<Server>>,
);

impl Lease {
    pub(crate) fn new(object: Object<Server>) -> Lease {
        Lease(Some(object))
    }

    pub(crate) fn session(&mut self) -> &mut Session {
        self.0.as_mut().expect("it is not dropped yet")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.0.take() else { return };
        // Without its pool, or closed, it ends by being dropped.
        let Some(pool) = Object::pool(&object) else { return };
        if object.state == State::Idle || object.client.is_closed() {
            return;
        }
        let server = pool.manager().clone();
        let runtime = server.runtime.clone();
        runtime.spawn(async move { server.recover(object).await }).detach();
    }
}

impl Server {
    /// Brings a connection back to where nothing is done on it.
    async fn recover(&self, mut object: Object<Server>) {
        let recovery = async {
            if object.state == State::Running {
                self.cancel(object.client.cancel_token()).await?;
            }
            object.client.batch_execute("ROLLBACK").await.map_err(Error::from)
        };
        match self.runtime.timeout(self.patience, recovery).await {
            Ok(Ok(())) => object.state = State::Idle,
            _ => drop(Object::take(object)),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        if error.source().is_some_and(|source| source.is::<Error>()) {
            let own = error.into_source().and_then(|source| source.downcast::<Error>().ok());
            return *own.expect("it was looked at");
        }
        // Classes of SQLSTATE: no connection, no resources (such as one more connection), an operator intervened.
        let away = |code: &SqlState| ["08", "53", "57"].iter().any(|class| code.code().starts_with(class));
        let cut = || error.source().is_some_and(|source| source.is::<io::Error>());
        let said = || explained(&error).into();
        match error.code() {
            Some(code) if away(code) => Error::Away(said()),
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Error::Changes,
            // The class of violated constraints.
            Some(code) if code.code().starts_with("23") => Error::Refused(said()),
            None if error.is_closed() || cut() => Error::Away(said()),
            _ => Error::Failed(said()),
        }
    }
}

/// What went wrong is in the source: the server's words, for one.
fn explained(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
