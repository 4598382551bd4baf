//! A connection to a PostgreSQL server, what it is asked, and what the server does on it meanwhile.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use futures_util::future::join3;
use tokio_postgres::{Client, Statement};

use crate::parameter::{parameters, refuse_column, value};
use crate::row::Rows;
use crate::{Error, STATEMENTS, Value};

/// Outside of a transaction that says so, a connection only reads.
const BEGIN: &str = "BEGIN READ WRITE";

/// A connection, and what each statement is called on it.
pub(crate) struct Session {
    pub(crate) client: Client,
    prepared: HashMap<&'static str, Statement>,
    /// Stays [`State::Running`] if what is asked is not waited for.
    pub(crate) state: State,
}

/// What the server does on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Idle,
    /// It waits for the next statement of a transaction.
    Open,
    /// It runs a statement.
    Running,
}

impl Session {
    pub(crate) fn new(client: Client) -> Session {
        Session { client, prepared: HashMap::new(), state: State::Idle }
    }

    /// What a statement gives.
    pub(crate) async fn query(
        &mut self,
        after: State,
        sql: &'static str,
        params: &[Value],
        most: usize,
    ) -> Result<Rows, Error> {
        self.state = State::Running;
        let answer = self.rows(sql, params, most).await;
        // The server has more to give than anybody takes.
        let cut = matches!(answer, Err(Error::Rows(_)));
        self.answered(sql, answer, if cut { State::Running } else { after })
    }

    /// Runs a statement of a transaction, and says how many rows it has changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.state = State::Running;
        let answer = async {
            let statement = self.prepare_change(sql).await?;
            let params = parameters(&statement, params)?;
            Ok(self.client.execute_raw(&statement, params).await?)
        };
        let answer = answer.await;
        self.answered(sql, answer, State::Open)
    }

    /// The same for a transaction of one statement. What begins and ends it is sent with it.
    pub(crate) async fn execute_alone(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        self.state = State::Running;
        let answer = async {
            let statement = self.prepare_change(sql).await?;
            let params = parameters(&statement, params)?;
            let (begin, execute, commit) = (
                self.client.batch_execute(BEGIN),
                self.client.execute_raw(&statement, params),
                self.client.batch_execute("COMMIT"),
            );
            let (begun, changed, committed) = join3(begin, execute, commit).await;
            begun?;
            let changed = changed?;
            committed?;
            Ok(changed)
        };
        let answer = answer.await;
        self.answered(sql, answer, State::Idle)
    }

    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.state = State::Running;
        self.client.batch_execute(BEGIN).await?;
        self.state = State::Open;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.state = State::Running;
        let answer = self.client.batch_execute("COMMIT").await;
        self.state = State::Idle;
        Ok(answer?)
    }

    /// A statement that failed is prepared anew when it is asked again: what it is about may have changed.
    fn answered<T>(&mut self, sql: &'static str, answer: Result<T, Error>, after: State) -> Result<T, Error> {
        self.state = after;
        if answer.is_err() {
            self.prepared.remove(sql);
        }
        answer
    }

    async fn rows(&mut self, sql: &'static str, params: &[Value], most: usize) -> Result<Rows, Error> {
        let statement = self.prepare(sql).await?;
        statement.columns().iter().try_for_each(refuse_column)?;
        let names = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        let params = parameters(&statement, params)?;
        let mut answer = pin!(self.client.query_raw(&statement, params).await?);
        let mut rows = Vec::new();
        while let Some(row) = answer.try_next().await? {
            if rows.len() == most {
                return Err(Error::Rows(most));
            }
            rows.push((0..row.len()).map(|place| value(&row, place)).collect::<Result<_, _>>()?);
        }
        Ok(Rows { names, rows })
    }

    async fn prepare_change(&mut self, sql: &'static str) -> Result<Statement, Error> {
        let statement = self.prepare(sql).await?;
        if statement.columns().is_empty() { Ok(statement) } else { Err(Error::GivesRows) }
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        if self.prepared.len() >= STATEMENTS {
            self.prepared.clear();
        }
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}
