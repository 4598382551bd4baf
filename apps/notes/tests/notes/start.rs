//! The start of the program, which opens its database and runs the pending migrations, or ends with a clear error.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::program::{Program, command};

pub(crate) fn keeps_notes_when_it_is_started_again(case: &Case) {
    let notes = case.start();
    let path = notes.form("/notes", "kept", "").field("Location").to_owned();
    notes.stop();
    let notes = case.start();
    assert!(notes.get(&path).body.contains("<h2>kept</h2>"));
    notes.stop();
}

/// The first version of the program did not have histories.
pub(crate) fn migrates_an_older_database(case: &Case) {
    let note = "INSERT INTO notes (title, body, edited) VALUES ('old', '', '2020-01-01T00:00:00.000Z');";
    case.run(
        &format!("{} {note} PRAGMA user_version = 1", include_str!("../../migrations/sqlite/1.sql")),
        &format!(
            "{} {note} CREATE TABLE steps (done bigint PRIMARY KEY); INSERT INTO steps VALUES (1)",
            include_str!("../../migrations/postgres/1.sql")
        ),
    );
    for _ in 0..2 {
        let notes = case.start();
        let history = notes.get("/api/notes/1/history").value();
        assert_eq!(history.as_array().map(Vec::len), Some(1));
        assert_eq!(history[0]["title"], "old");
        notes.stop();
    }
}

pub(crate) fn leaves_a_newer_database_alone(case: &Case) {
    let notes = case.start();
    notes.form("/notes", "kept", "");
    notes.stop();
    case.run("PRAGMA user_version = 99", "INSERT INTO steps VALUES (99)");
    refuses_to_start(case, &case.database, "version 99");
    case.run("PRAGMA user_version = -1", "UPDATE steps SET done = -done");
    refuses_to_start(case, &case.database, "version -1");
    case.run(
        "PRAGMA user_version = 2",
        "UPDATE steps SET done = -done WHERE done <> -99; DELETE FROM steps WHERE done < 0",
    );
    let notes = case.start();
    assert_eq!(notes.get("/api/notes").value()[0]["title"], "kept");
    notes.stop();
}

/// The second migration fails. What the first one did is rolled back.
pub(crate) fn a_migration_that_fails_leaves_nothing(case: &Case) {
    case.run("CREATE TABLE revisions (n INTEGER)", "CREATE TABLE revisions (n bigint)");
    refuses_to_start(case, &case.database, "revisions");
    let rest = "DROP TABLE revisions; CREATE TABLE notes (n INTEGER); DROP TABLE notes";
    case.run(rest, rest);
    let notes = case.start();
    assert_eq!(notes.form("/notes", "title", "").status, 303);
    notes.stop();
}

/// On an empty database one program runs the migrations, and the others wait for it.
pub(crate) fn four_programs_start_at_once(case: &Case) {
    let start = || Program::listen(&mut command(case.backend.name(), &case.database));
    let programs = [start(), start(), start(), start()];
    programs.iter().for_each(Program::wait_until_it_serves);
    let path = programs[0].form("/notes", "shared", "").field("Location").to_owned();
    for notes in programs {
        assert_eq!(notes.get(&path).status, 200);
        notes.stop();
    }
}

pub(crate) fn waits_for_another_program_that_migrates(case: &Case) {
    let lock = case.lock_migrations();
    if case.is_sqlite() {
        let mut impatient = command(case.backend.name(), &case.database);
        let start = Instant::now();
        let output = impatient.args(["--database-timeout", "1s"]).output().expect("the program starts");
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(output.status.code(), Some(3));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("the database is busy") && log.contains(&case.database), "{log}");
    }
    let notes = Program::listen(&mut command(case.backend.name(), &case.database));
    if !case.is_sqlite() {
        case.wait_for_waiting("1");
    }
    lock.release();
    notes.wait_until_it_serves();
    notes.stop();
}

pub(crate) fn does_not_start_without_a_database(case: &Case) {
    if case.is_sqlite() {
        std::fs::write(&case.database, "text, and no database".repeat(100)).expect("a directory to write to");
        refuses_to_start(case, &case.database, "not a database");
        refuses_to_start(case, "/nowhere/notes.db", "/nowhere/notes.db");
        refuses_to_start(case, ":memory:", "name a file");
    } else {
        for (url, cause) in [
            ("postgres://notes@127.0.0.1:1/notes", "127.0.0.1:1"),
            ("postgresql://notes@%2Fnowhere/notes", "/nowhere"),
            ("postgres://notes@127.0.0.1:none/notes", "port"),
            (&*format!("{}nowhere", case.database), "does not exist"),
        ] {
            refuses_to_start(case, url, cause);
        }
    }
}

/// The program ends with status 3, and the last line of its log says why.
fn refuses_to_start(case: &Case, database: &str, cause: &str) {
    let output = command(case.backend.name(), database).output().expect("the program starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: the application did not start: ") && last.contains(cause), "{log}");
}
