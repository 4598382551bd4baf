//! Notes in PostgreSQL, async all the way: no call blocks, and a request waits as the backend waits.

use std::time::Duration;

use deadpool::managed::{Object, Pool};
use gearshift::{BoxError, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};

use crate::pool;
use crate::server::{Connection, Prepared, Server};
use crate::steps::{self, POSTGRES};
use crate::store::{self, Answer, CONNECTIONS, Draft, Note, Store, StoreError};

/// The key of a lock that is held by whoever migrates: any number that nobody else takes.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7061676501)";

/// How long the steps may take, with the wait for another program that is at them.
const MIGRATION: Duration = Duration::from_secs(60);

pub(crate) struct Postgres {
    runtime: Runtime,
    pool: Pool<Server>,
}

impl Postgres {
    pub(crate) async fn open(runtime: Runtime, url: &str) -> Result<Postgres, BoxError> {
        let server = Server::new(runtime.clone(), url)?;
        let mut client = runtime.timeout(store::PATIENCE, server.connect()).await??;
        runtime.timeout(MIGRATION, migrate(&mut client)).await??;
        Ok(Postgres { runtime, pool: pool::of(server, CONNECTIONS) })
    }

    fn take(&self) -> Answer<Object<Server>> {
        let (runtime, pool) = (self.runtime.clone(), self.pool.clone());
        Box::pin(async move { pool::take(&pool, &runtime).await })
    }

    fn read(&self, sql: &'static str, param: impl ToSql + Send + Sync + 'static) -> Answer<Vec<Note>> {
        let taken = self.take();
        Box::pin(async move {
            let Connection { client, prepared } = &*taken.await?;
            let rows = client.query(&prepared[sql], &[&param]).await?;
            rows.iter().map(|row| note(row).map_err(StoreError::from)).collect()
        })
    }
}

impl Store for Postgres {
    fn search(&self, text: &str) -> Answer<Vec<Note>> {
        self.read(store::SEARCH, store::containing(text))
    }

    fn note(&self, id: i64) -> Answer<Option<Note>> {
        let found = self.read(store::NOTE, id);
        Box::pin(async move { Ok(found.await?.pop()) })
    }

    fn history(&self, id: i64) -> Answer<Vec<Note>> {
        self.read(store::HISTORY, id)
    }

    fn add(&self, draft: Draft) -> Answer<Note> {
        let taken = self.take();
        Box::pin(async move {
            let Connection { client, prepared } = &mut *taken.await?;
            let change = client.transaction().await?;
            let mut note = draft.note(0);
            let values: Values<'_> = &[&note.title, &note.body, &note.edited];
            note.id = change.query_one(&prepared[store::ADD], values).await?.try_get(0)?;
            keep(&change, prepared, &note).await?;
            change.commit().await?;
            Ok(note)
        })
    }

    fn edit(&self, id: i64, draft: Draft) -> Answer<Option<Note>> {
        let taken = self.take();
        Box::pin(async move {
            let Connection { client, prepared } = &mut *taken.await?;
            let change = client.transaction().await?;
            let note = draft.note(id);
            let values: Values<'_> = &[&note.title, &note.body, &note.edited, &id];
            if change.execute(&prepared[store::EDIT], values).await? == 0 {
                return Ok(None);
            }
            keep(&change, prepared, &note).await?;
            change.commit().await?;
            Ok(Some(note))
        })
    }

    fn delete(&self, id: i64) -> Answer<bool> {
        let taken = self.take();
        Box::pin(async move {
            let Connection { client, prepared } = &*taken.await?;
            Ok(client.execute(&prepared[store::DELETE], &[&id]).await? > 0)
        })
    }

    fn close(&self) {
        self.pool.close();
    }
}

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

async fn keep(
    change: &Transaction<'_>,
    prepared: &Prepared,
    note: &Note,
) -> Result<u64, tokio_postgres::Error> {
    change.execute(&prepared[store::KEEP], &[&note.title, &note.body, &note.edited, &note.id]).await
}

fn note(row: &Row) -> Result<Note, tokio_postgres::Error> {
    Ok(Note { id: row.try_get(0)?, title: row.try_get(1)?, body: row.try_get(2)?, edited: row.try_get(3)? })
}

async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let change = client.transaction().await?;
    change.batch_execute(LOCK).await?;
    change.batch_execute("CREATE TABLE IF NOT EXISTS steps (done bigint PRIMARY KEY)").await?;
    let done = change.query_one("SELECT coalesce(max(done), 0) FROM steps", &[]).await?.try_get(0)?;
    for (step, n) in steps::pending(POSTGRES, done)?.iter().zip(done + 1..) {
        change.batch_execute(step).await?;
        change.execute("INSERT INTO steps VALUES ($1)", &[&n]).await?;
    }
    Ok(change.commit().await?)
}
