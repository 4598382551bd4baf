//! A test case: a backend, an empty database, and what is done to that database from outside the program.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::time::Instant;

use gearshift::Backend;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::program::{PATIENCE, Program, command};

pub(crate) struct Case {
    pub(crate) backend: Backend,
    /// The argument of `--database`.
    pub(crate) database: String,
    /// The server of the database, if it is PostgreSQL.
    pub(crate) cluster: Option<Arc<Cluster>>,
    _directory: TempDir,
}

impl Case {
    pub(crate) fn new(backend: Backend, cluster: Option<Arc<Cluster>>) -> Case {
        let directory = TempDir::new().expect("a directory for temporary files");
        let database = match &cluster {
            Some(cluster) => cluster.database(),
            None => directory.path().join("notes.db").to_string_lossy().into_owned(),
        };
        Case { backend, database, cluster, _directory: directory }
    }

    pub(crate) fn start(&self) -> Program {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Program {
        Program::spawn(command(self.backend.name(), &self.database).args(arguments))
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.cluster.is_none()
    }

    /// Whether a handler that waits keeps other requests waiting.
    pub(crate) fn is_sequential(&self) -> bool {
        let mut config = gearshift::Config::default();
        config.threads = Some(2);
        self.backend.threads_block() && self.backend.check(&config).is_err()
    }

    /// Whether a call that blocks runs on the thread of its connection, so that the server cannot see that the peer has
    /// left.
    pub(crate) fn blocks_in_place(&self) -> bool {
        self.is_sqlite() && self.backend.threads_block()
    }

    /// Changes the database while the program may run.
    pub(crate) fn run(&self, sqlite: &str, postgres: &str) {
        match &self.cluster {
            Some(cluster) => drop(cluster.run(&self.database, postgres)),
            None => self.file().execute_batch(sqlite).expect("SQL of SQLite"),
        }
    }

    /// Opens the SQLite file.
    pub(crate) fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.database).expect("a file of SQLite")
    }

    /// Waits until the PostgreSQL server has this answer to `sql`.
    pub(crate) fn wait_until(&self, sql: &str, answer: &str) {
        let cluster = self.cluster.as_ref().expect("a test of PostgreSQL");
        let start = Instant::now();
        while cluster.run(&self.database, sql) != answer {
            assert!(start.elapsed() < PATIENCE, "{sql}: {answer}");
        }
    }

    /// Waits until so many statements wait for the lock of [`Case::lock`].
    pub(crate) fn wait_for_waiting(&self, statements: &str) {
        self.wait_until("SELECT count(*) FROM pg_locks WHERE NOT granted", statements);
    }

    /// Waits until so many statements run, other than the one that asks.
    pub(crate) fn wait_for_running(&self, statements: &str) {
        let running = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
        self.wait_until(running, statements);
    }

    /// From now on the statement that adds the title "endless" to a history does not end by itself.
    pub(crate) fn make_endless(&self) {
        self.run(
            "CREATE VIEW endless AS
                 WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c;
             CREATE TRIGGER endless BEFORE INSERT ON revisions WHEN NEW.title = 'endless'
             BEGIN SELECT count(*) FROM endless; END",
            "ALTER TABLE revisions ADD CHECK (title <> 'endless' OR pg_sleep(3600) IS NOT NULL)",
        );
    }

    /// Takes a lock that changes of notes wait for, as another program would. Notes can still be read.
    pub(crate) fn lock(&self) -> Lock {
        self.hold("LOCK TABLE notes IN SHARE MODE")
    }

    /// Takes the lock of a program that runs migrations.
    pub(crate) fn lock_migrations(&self) -> Lock {
        self.hold("DO $$ BEGIN PERFORM pg_advisory_xact_lock(7061676501); END $$")
    }

    /// Begins a transaction in which PostgreSQL has run `sql`. SQLite has one lock for all changes.
    fn hold(&self, sql: &str) -> Lock {
        let Some(cluster) = &self.cluster else {
            let file = self.file();
            file.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
            return Lock::Sqlite(file);
        };
        let mut psql = cluster.psql(&self.database);
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut psql = psql.expect("psql starts");
        let mut input = psql.stdin.take().expect("it is piped");
        writeln!(input, "BEGIN; {sql}; SELECT 'held';").expect("psql reads");
        let mut rows = BufReader::new(psql.stdout.take().expect("it is piped")).lines();
        assert_eq!(rows.next().expect("a row").expect("UTF-8"), "held");
        Lock::Postgres(psql, input)
    }
}

/// A transaction that holds a lock.
pub(crate) enum Lock {
    Sqlite(rusqlite::Connection),
    Postgres(Child, ChildStdin),
}

impl Lock {
    pub(crate) fn release(self) {
        match self {
            Lock::Sqlite(file) => file.execute_batch("COMMIT").expect("it is held"),
            Lock::Postgres(mut psql, input) => {
                drop(input);
                assert!(psql.wait().expect("it was started").success());
            }
        }
    }
}
