//! Connections to a file: how they are made, lent to a job, cut short, and given back. What may take time is never
//! done by whoever drops one, unless that is a thread that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use gearshift_core::{Runtime, Work};
use rusqlite::{Connection, ErrorCode};

use crate::{Error, Options, STATEMENTS};

/// Instructions of SQLite's machine between two looks at whether to go on: some tens of microseconds.
const INSTRUCTIONS: i32 = 4_000;

/// Between two attempts to make a log of a file be written ahead.
const PAUSE: Duration = Duration::from_millis(5);

/// Where connections come from.
pub(crate) struct File {
    runtime: Runtime,
    path: String,
    /// How long a change waits for one of another program.
    patience: Duration,
}

impl File {
    pub(crate) fn new(runtime: &Runtime, path: &str, options: &Options) -> File {
        File { runtime: runtime.clone(), path: path.to_owned(), patience: options.patience }
    }
}

impl Manager for File {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        let (path, patience) = (self.path.clone(), self.patience);
        let runtime = self.runtime.clone();
        let open = move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(patience)?;
            write_ahead(&connection, patience)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            let watch =
                Arc::new(Watch { until: Mutex::new(Instant::now()), abandoned: AtomicBool::new(false) });
            let watching = watch.clone();
            connection.progress_handler(INSTRUCTIONS, Some(move || watching.is_over()));
            Ok(Session { connection: Some(connection), watch, runtime })
        };
        self.runtime.blocking(open).await
    }

    /// A connection that could not even roll back is of no more use.
    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        if session.connection().is_autocommit() {
            Ok(())
        } else {
            Err(RecycleError::message("in a transaction"))
        }
    }
}

/// Has the log of the file written ahead. The first that opens a file changes it for that; SQLite tells the others
/// at once, whatever their patience, as it has them read first and so each might wait for the other.
fn write_ahead(connection: &Connection, patience: Duration) -> Result<(), rusqlite::Error> {
    let since = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && since.elapsed() < patience =>
            {
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// A connection, and what tells it to stop.
pub(crate) struct Session {
    /// `None` once it was dropped.
    connection: Option<Connection>,
    watch: Arc<Watch>,
    runtime: Runtime,
}

impl Session {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is not dropped yet")
    }
}

/// Closing the last connection moves the log into the file.
impl Drop for Session {
    fn drop(&mut self) {
        let connection = self.connection.take();
        aside(&self.runtime, move || drop(connection));
    }
}

/// Looked at while a statement runs.
struct Watch {
    until: Mutex<Instant>,
    /// Nobody waits for the outcome.
    abandoned: AtomicBool,
}

impl Watch {
    fn begin(&self, longest: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + longest;
    }

    fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
            || Instant::now() > *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is lent. Dropped, it is rolled back if need be, and is in its pool again.
pub(crate) struct Lease {
    /// `None` once it was dropped.
    object: Option<Object<File>>,
    runtime: Runtime,
}

impl Lease {
    pub(crate) fn new(object: Object<File>, runtime: &Runtime) -> Lease {
        Lease { object: Some(object), runtime: runtime.clone() }
    }

    /// Does `work` with the connection where that may block. If it fails, or nobody waits for it any more, the lease
    /// is dropped with the work.
    pub(crate) async fn run<T: Send + 'static>(
        mut self,
        longest: Duration,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Lease, T), Error> {
        let runtime = self.runtime.clone();
        let watch = self.session().watch.clone();
        watch.abandoned.store(false, Ordering::Relaxed);
        let mut job = runtime.blocking(move || {
            let session = self.session();
            session.watch.begin(longest);
            let outcome = work(session.connection())?;
            Ok((self, outcome))
        });
        // Dropped before the job, as the connection is nobody else's until then.
        let mut waiting = Waiting { watch, ended: false };
        let outcome = (&mut job).await;
        waiting.ended = true;
        outcome
    }

    fn session(&mut self) -> &mut Session {
        self.object.as_mut().expect("it is not dropped yet")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        if object.connection().is_autocommit() {
            return;
        }
        aside(&self.runtime, move || {
            if object.connection().execute_batch("ROLLBACK").is_err() {
                drop(Object::take(object));
            }
        });
    }
}

/// Somebody who waits for a job.
struct Waiting {
    watch: Arc<Watch>,
    ended: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.ended {
            self.watch.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// Does what may block where that may be done.
fn aside(runtime: &Runtime, work: impl FnOnce() + Send + 'static) {
    if runtime.runs_in_place(Work::Blocking) {
        work();
    } else {
        runtime.spawn(runtime.blocking(work)).detach();
    }
}
