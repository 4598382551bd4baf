//! All of it, or nothing.

use std::time::Duration;

use gearshift_sql::{Error, Options};

use crate::case::{ADD, Case, numbers};

/// As few connections as there can be: one that is lost is missed.
fn few() -> Options {
    Options { connections: 1, ..Options::default() }
}

pub(crate) async fn is_whole_or_not_at_all(case: Case) {
    let database = case.open_with(few()).await;
    let mut change = database.begin().await.expect("a connection is free");
    for n in [1, 2] {
        change.execute(ADD, [n.into()]).await.expect("it changes");
    }
    assert_eq!(case.ask("SELECT count(*) FROM things", "SELECT count(*) FROM things").await, "0");
    change.commit().await.expect("it is made to last");
    assert_eq!(numbers(&database).await, [1, 2]);
    // One without a statement is nothing.
    database.begin().await.expect("a connection is free").commit().await.expect("it does nothing");
    database.close();
}

pub(crate) async fn sees_its_own_changes(case: Case) {
    let database = case.open_with(few()).await;
    let mut change = database.begin().await.expect("a connection is free");
    let added = "INSERT INTO things (n) VALUES ($1) RETURNING n, id";
    let ids: Vec<(i64, i64)> = change.query(added, [7.into()]).await.expect("a row");
    assert_eq!(ids, [(7, 1)]);
    assert_eq!(change.query::<i64>("SELECT n FROM things", []).await.expect("a row"), [7]);
    assert_eq!(change.execute("UPDATE things SET n = 8", []).await.expect("it changes"), 1);
    change.commit().await.expect("it is made to last");
    assert_eq!(numbers(&database).await, [8]);
    database.close();
}

pub(crate) async fn is_over_after_a_failure(case: Case) {
    let database = case.open_with(few()).await;
    database.execute(ADD, [1.into()]).await.expect("it changes");
    for round in 0..3 {
        let mut change = database.begin().await.expect("a connection is free");
        change.execute(ADD, [2.into()]).await.expect("it changes");
        match round {
            0 => {
                let error = change.execute(ADD, [1.into()]).await.expect_err("it is there already");
                assert!(matches!(error, Error::Refused(_)), "{error}");
                assert_eq!(error.status(), 500);
            }
            1 => {
                let error = change.query::<String>("SELECT n FROM things", []).await;
                assert!(matches!(error, Err(Error::Column { .. })), "{error:?}");
            }
            _ => {
                let error = change.execute(ADD, []).await.expect_err("no parameter");
                assert!(matches!(error, Error::Parameters { .. }), "{error}");
            }
        }
        let error = change.execute(ADD, [3.into()]).await.expect_err("it is over");
        assert!(matches!(error, Error::RolledBack), "{error}");
        assert!(matches!(change.commit().await, Err(Error::RolledBack)));
        assert_eq!(numbers(&database).await, [1]);
    }
    database.close();
}

pub(crate) async fn is_rolled_back_when_dropped(case: Case) {
    let database = case.open_with(few()).await;
    let other = case.open().await;
    for n in 0..12 {
        let mut change = database.begin().await.expect("a connection is free");
        change.execute(ADD, [1.into()]).await.expect("it changes");
        drop(change);
        // Its locks are given back, whether this program goes on or not.
        if n == 0 {
            other.execute(ADD, [9.into()]).await.expect("nothing is locked");
        }
    }
    assert_eq!(numbers(&database).await, [9]);
    database.execute(ADD, [1.into()]).await.expect("it changes");
    database.close();
    other.close();
}

pub(crate) async fn is_rolled_back_when_a_call_is_dropped(case: Case) {
    let database = case.open_with(few()).await;
    let soon = Duration::from_millis(50);
    for _ in 0..3 {
        let mut change = database.begin().await.expect("a connection is free");
        change.execute(ADD, [1.into()]).await.expect("it changes");
        let endless = change.query::<i64>(case.endless(), []);
        case.runtime.timeout(soon, endless).await.expect_err("it never ends");
        let error = change.execute(ADD, [2.into()]).await.expect_err("it is over");
        assert!(matches!(error, Error::RolledBack), "{error}");
    }
    // A task that is cancelled takes all that it has with it.
    let (its, endless) = (database.clone(), case.endless());
    let task = case.spawn(async move {
        let mut change = its.begin().await.expect("a connection is free");
        change.execute(ADD, [1.into()]).await.expect("it changes");
        change.query::<i64>(endless, []).await
    });
    case.runtime.sleep(soon).await;
    task.cancel();
    assert!(task.await.is_err());
    database.execute(ADD, [3.into()]).await.expect("it changes");
    assert_eq!(numbers(&database).await, [3]);
    database.close();
}
