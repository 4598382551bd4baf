//! The application on every backend, with a file of SQLite and with a PostgreSQL server that is started for it; where
//! there is none, its cases are ignored, and a line says so.

mod behaviour;
mod database;
mod program;

use std::process::ExitCode;
use std::sync::Arc;

use cluster::Cluster;
use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

use program::Program;

/// A test, on one backend and one empty database.
struct Case {
    backend: Backend,
    database: String,
    /// The server of the database, if it is PostgreSQL.
    cluster: Option<Arc<Cluster>>,
    _place: TempDir,
}

impl Case {
    fn new(backend: Backend, cluster: Option<Arc<Cluster>>) -> Case {
        let place = TempDir::new().expect("a directory for temporary files");
        let database = match &cluster {
            Some(cluster) => cluster.database(),
            None => place.path().join("notes.db").to_string_lossy().into_owned(),
        };
        Case { backend, database, cluster, _place: place }
    }

    fn start(&self) -> Program {
        Program::start(&self.backend, &self.database)
    }

    /// Changes the database behind the program's back.
    fn run(&self, sqlite: &str, postgres: &str) {
        match &self.cluster {
            Some(cluster) => drop(cluster.run(&self.database, postgres)),
            None => self.file().execute_batch(sqlite).expect("SQL of SQLite"),
        }
    }

    fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.database).expect("a file of SQLite")
    }
}

type Test = (&'static str, fn(&Case));

const TESTS: [Test; 11] = [
    ("a_note_lives_through_forms", behaviour::a_note_lives_through_forms),
    ("text_is_never_markup", behaviour::text_is_never_markup),
    ("refuses_forms_that_are_no_note", behaviour::refuses_forms_that_are_no_note),
    ("searches_for_what_is_typed", behaviour::searches_for_what_is_typed),
    ("the_last_edited_is_first", behaviour::the_last_edited_is_first),
    ("programs_are_told_by_status", behaviour::programs_are_told_by_status),
    ("a_change_is_whole_or_not_at_all", database::a_change_is_whole_or_not_at_all),
    ("eleven_clients_share_ten_connections", database::eleven_clients_share_ten_connections),
    ("keeps_notes_when_it_is_started_again", database::keeps_notes_when_it_is_started_again),
    ("a_newer_database_is_left_alone", database::a_newer_database_is_left_alone),
    ("a_database_that_is_none_ends_the_start", database::a_database_that_is_none_ends_the_start),
];

const TESTS_OF_A_SERVER: [Test; 2] = [
    ("survives_a_restart", database::survives_a_restart),
    ("gives_up_a_silent_server", database::gives_up_a_silent_server),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cluster = (!arguments.list).then(Cluster::start).unwrap_or(Err("nothing is run")).map(Arc::new);
    if let Err(why) = &cluster {
        eprintln!("without PostgreSQL: {why}");
    }
    // Some tests take their server away.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for backend in Backend::available() {
        for (name, test) in TESTS {
            trials.push(trial(&format!("sqlite::{backend}::{name}"), test, *backend, None));
        }
        for (name, test) in TESTS.into_iter().chain(TESTS_OF_A_SERVER) {
            let name = format!("postgres::{backend}::{name}");
            let cluster = cluster.as_ref().ok().cloned();
            let missing = cluster.is_none();
            trials.push(trial(&name, test, *backend, cluster).with_ignored_flag(missing));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(cluster);
    conclusion.exit_code()
}

fn trial(name: &str, test: fn(&Case), backend: Backend, cluster: Option<Arc<Cluster>>) -> Trial {
    Trial::test(name, move || {
        test(&Case::new(backend, cluster));
        Ok(())
    })
}
