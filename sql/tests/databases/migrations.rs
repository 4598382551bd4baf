//! From an empty database to the form that the program knows, and no further.

use std::thread;
use std::time::Duration;

use gearshift_sql::{Database, Error, Migrations, Options};

use crate::case::{ADD, Case, TABLE, numbers};

const MORE: Migrations = Migrations {
    sqlite: &[TABLE.sqlite[0], "INSERT INTO things (n) VALUES (1); INSERT INTO things (n) VALUES (2)"],
    postgres: &[TABLE.postgres[0], "INSERT INTO things (n) VALUES (1); INSERT INTO things (n) VALUES (2)"],
};

pub(crate) async fn come_once_in_order(case: Case) {
    let old = case.open().await;
    old.execute(ADD, [0.into()]).await.expect("it changes");
    old.close();
    for _ in 0..2 {
        let new = case.open_as(MORE, Options::default()).await.expect("it opens");
        assert_eq!(numbers(&new).await, [0, 1, 2]);
        new.close();
    }
}

pub(crate) async fn newer_databases_are_left_alone(case: Case) {
    case.open_as(MORE, Options::default()).await.expect("it opens").close();
    let error = case.open_as(TABLE, Options::default()).await.expect_err("it is newer");
    assert!(matches!(error, Error::Newer { found: 2, known: 1 }), "{error}");
    assert!(error.to_string().contains("version 2"), "{error}");
    case.ask("PRAGMA user_version = -1", "INSERT INTO steps VALUES (99)").await;
    let error = case.open_as(MORE, Options::default()).await.expect_err("it is newer");
    assert!(matches!(error, Error::Newer { found: 99 | -1, known: 2 }), "{error}");
    let there = case.ask("SELECT count(*) FROM things", "SELECT count(*) FROM things").await;
    assert_eq!(there, "2");
}

pub(crate) async fn four_programs_start_at_once(case: Case) {
    let programs: Vec<_> = (0..4)
        .map(|_| {
            let (case, its) = (case.clone(), case.clone());
            case.spawn(async move { its.open_as(MORE, Options::default()).await })
        })
        .collect();
    for program in programs {
        let database = program.await.expect("no panic").expect("it opens");
        assert_eq!(numbers(&database).await, [1, 2]);
        database.close();
    }
}

pub(crate) async fn another_program_is_waited_for_within_patience(case: Case) {
    let held = Duration::from_millis(300);
    let other = rusqlite::Connection::open(&case.url).expect("a file of SQLite");
    other.execute_batch("BEGIN IMMEDIATE").expect("it is alone");
    let impatient = Options { patience: held / 10, ..Options::default() };
    let error = case.open_as(MORE, impatient).await.expect_err("the other is not done");
    assert!(matches!(error, Error::Busy(_)), "{error}");
    let other = thread::spawn(move || {
        thread::sleep(held);
        other.execute_batch("COMMIT").expect("it is alone");
    });
    let database = case.open_as(MORE, Options::default()).await.expect("it opens");
    assert_eq!(numbers(&database).await, [1, 2]);
    database.close();
    other.join().expect("no panic");
}

pub(crate) async fn a_step_that_fails_leaves_nothing(case: Case) {
    const FAILING: Migrations = Migrations {
        sqlite: &[TABLE.sqlite[0], "INSERT INTO nowhere VALUES (1)"],
        postgres: &[TABLE.postgres[0], "INSERT INTO nowhere VALUES (1)"],
    };
    let error = case.open_as(FAILING, Options::default()).await.expect_err("there is no such table");
    assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("nowhere"), "{error}");
    let database = case.open_as(MORE, Options::default()).await.expect("it opens");
    assert_eq!(numbers(&database).await, [1, 2]);
    database.close();
}

pub(crate) async fn databases_that_are_none(case: Case) {
    let patience = Duration::from_secs(2);
    let fails = async |url: &str, why: &str| {
        let options = Options { patience, ..Options::default() };
        let error = Database::open(&case.runtime, url, TABLE, options).await.expect_err("there is none");
        assert!(error.to_string().contains(why), "{url}: {error}");
        error.status()
    };
    if case.cluster.is_some() {
        assert_eq!(fails("postgres://test@127.0.0.1:1/test", "127.0.0.1:1").await, 503);
        assert_eq!(fails("postgresql://test@%2Fnowhere/test", "/nowhere").await, 503);
        assert_eq!(fails("postgres://test@127.0.0.1:none/test", "port").await, 500);
        assert_eq!(fails(&format!("{}nowhere", case.url), "does not exist").await, 500);
    } else {
        std::fs::write(&case.url, "text, and no database".repeat(100)).expect("a directory to write to");
        assert_eq!(fails(&case.url, "not a database").await, 500);
        assert_eq!(fails("/nowhere/test.db", "/nowhere/test.db").await, 500);
        assert_eq!(fails(":memory:", "name a file").await, 500);
    }
}
