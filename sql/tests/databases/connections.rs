//! How many there are, how long they are waited for, and what they keep.

use std::time::{Duration, Instant};

use gearshift_sql::{Error, Options, STATEMENTS};

use crate::case::{ADD, Case, numbers};

/// What is waited for in vain; more than anything takes that is not stuck.
const SOON: Duration = Duration::from_millis(400);

/// Ten changes wait for a lock that another program holds, the eleventh for one of their connections. Who reads a
/// file waits for nobody.
pub(crate) async fn eleven_share_ten(case: Case) {
    let database = case.open().await;
    let other = case.open().await;
    database.execute(ADD, [0.into()]).await.expect("it changes");
    let mut holder = other.begin().await.expect("a connection is free");
    holder.execute("UPDATE things SET n = n + 1", []).await.expect("it changes");
    let eleven: Vec<_> = (0..11)
        .map(|_| {
            let database = database.clone();
            case.spawn(async move { database.execute("UPDATE things SET n = n + 1", []).await })
        })
        .collect();
    case.until("SELECT 10", "SELECT count(*) FROM pg_locks WHERE NOT granted", "10").await;
    if case.cluster.is_none() {
        assert_eq!(numbers(&database).await, [0]);
    }
    holder.commit().await.expect("it is made to last");
    for task in eleven {
        assert_eq!(task.await.expect("no panic").expect("it had its turn"), 1);
    }
    assert_eq!(numbers(&database).await, [12]);
    database.close();
    other.close();
}

pub(crate) async fn patience_has_an_end(case: Case) {
    let options = || Options { connections: 2, patience: SOON, ..Options::default() };
    let database = case.open_with(options()).await;
    let mut held = vec![database.begin().await.expect("a connection is free")];
    if case.cluster.is_some() {
        held.push(database.begin().await.expect("a connection is free"));
    }
    let since = Instant::now();
    let error = database.begin().await.expect_err("all are in use");
    assert!(matches!(error, Error::Busy(_)), "{error}");
    assert_eq!(error.status(), 503);
    assert!(since.elapsed() >= SOON);
    held.clear();
    database.execute(ADD, [1.into()]).await.expect("it is free again");

    // The lock of another program: a file of SQLite has one for all.
    if case.cluster.is_none() {
        let other = case.open().await;
        let mut holder = other.begin().await.expect("a connection is free");
        holder.execute(ADD, [2.into()]).await.expect("it changes");
        let error = database.execute(ADD, [3.into()]).await.expect_err("it is locked");
        assert!(matches!(error, Error::Busy(_)), "{error}");
        assert_eq!(error.status(), 503);
        let error = case.open_as(crate::case::TABLE, options()).await.expect_err("it is locked");
        assert!(matches!(error, Error::Busy(_)), "{error}");
        holder.commit().await.expect("it is made to last");
        database.execute(ADD, [3.into()]).await.expect("it is free again");
        other.close();
    }
    database.close();
}

pub(crate) async fn statements_have_an_end(case: Case) {
    let database = case.open_with(Options { connections: 2, longest: SOON, ..Options::default() }).await;
    for _ in 0..2 {
        let error = database.query::<i64>(case.endless(), []).await.expect_err("it never ends");
        assert!(matches!(error, Error::Away(_)), "{error}");
        assert_eq!(error.status(), 503);
        let mut change = database.begin().await.expect("a connection is free");
        change.execute(ADD, [1.into()]).await.expect("it changes");
        let error = change.query::<i64>(case.endless(), []).await.expect_err("it never ends");
        assert!(matches!(error, Error::Away(_)), "{error}");
    }
    assert_eq!(numbers(&database).await, [0_i64; 0]);
    database.close();
}

pub(crate) async fn dropped_reads_are_cut_short(case: Case) {
    let database = case.open_with(Options { connections: 1, ..Options::default() }).await;
    for _ in 0..3 {
        let endless = database.query::<i64>(case.endless(), []);
        case.runtime.timeout(Duration::from_millis(50), endless).await.expect_err("it never ends");
        assert_eq!(numbers(&database).await, [0_i64; 0]);
    }
    let running = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    case.until("SELECT 0", running, "0").await;
    database.close();
}

pub(crate) async fn rows_have_a_limit(case: Case) {
    let database = case.open_with(Options { connections: 1, most_rows: 10, ..Options::default() }).await;
    const ROWS: &str = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c
        WHERE n < CAST($1 AS INTEGER)) SELECT n FROM c";
    for _ in 0..3 {
        let rows: Vec<i64> = database.query(ROWS, [10.into()]).await.expect("no more than ten");
        assert_eq!(rows, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        for many in [11, 1_000_000] {
            let error = database.query::<i64>(ROWS, [many.into()]).await.expect_err("more than ten");
            assert!(matches!(error, Error::Rows(10)), "{error}");
            let mut change = database.begin().await.expect("a connection is free");
            change.execute(ADD, [1.into()]).await.expect("it changes");
            let error = change.query::<i64>(ROWS, [many.into()]).await.expect_err("more than ten");
            assert!(matches!(error, Error::Rows(10)), "{error}");
        }
    }
    assert_eq!(numbers(&database).await, [0_i64; 0]);
    database.close();
}

pub(crate) async fn keeps_no_more_statements_than_it_may(case: Case) {
    let database = case.open_with(Options { connections: 1, ..Options::default() }).await;
    let statements: Vec<&'static str> =
        (0..2 * STATEMENTS + 50).map(|n| &*String::leak(format!("SELECT {n}"))).collect();
    let mut change = database.begin().await.expect("a connection is free");
    let mut most = 0;
    for round in 0..2 {
        for (n, sql) in (0..).zip(&statements) {
            assert_eq!(change.query::<i64>(sql, []).await.expect("a row"), [n]);
            if case.cluster.is_some() && (round == 0 || n % 10 == 0) {
                let kept = "SELECT count(*) FROM pg_prepared_statements";
                most = most.max(change.query::<usize>(kept, []).await.expect("a row")[0]);
            }
        }
    }
    if case.cluster.is_some() {
        assert_eq!(most, STATEMENTS);
    }
    drop(change);
    database.close();
}

pub(crate) async fn a_closed_database_is_away(case: Case) {
    let database = case.open().await;
    let mut change = database.begin().await.expect("a connection is free");
    change.execute(ADD, [1.into()]).await.expect("it changes");
    database.close();
    for error in [
        database.query::<i64>("SELECT 1", []).await.expect_err("closed"),
        database.execute(ADD, [2.into()]).await.expect_err("closed"),
        database.begin().await.map(drop).expect_err("closed"),
    ] {
        assert!(matches!(error, Error::Away(_)), "{error}");
    }
    // What was begun is finished.
    change.commit().await.expect("it is made to last");
    let other = case.open().await;
    assert_eq!(numbers(&other).await, [1]);
    other.close();
}

/// All that SQLite does is a job for threads that may block, and each statement is one. PostgreSQL has none.
pub(crate) async fn what_blocks_is_a_job(case: Case) {
    let jobs = || case.runtime.stats().blocking.started;
    let count = |jobs| case.pick(jobs, 0);
    let database = case.open_with(Options { connections: 1, ..Options::default() }).await;
    // Both connections of a file are made.
    assert_eq!(numbers(&database).await, [0_i64; 0]);
    let began = jobs();
    let mut change = database.begin().await.expect("a connection is free");
    change.execute(ADD, [1.into()]).await.expect("it changes");
    change.execute(ADD, [2.into()]).await.expect("it changes");
    change.commit().await.expect("it is made to last");
    assert_eq!(jobs() - began, count(3));
    let began = jobs();
    let mut change = database.begin().await.expect("a connection is free");
    change.execute(ADD, [3.into()]).await.expect("it changes");
    // A job to roll back, which comes before the next.
    drop(change);
    database.execute(ADD, [3.into()]).await.expect("it changes");
    assert_eq!(jobs() - began, count(3));
    let began = jobs();
    database.close();
    let since = Instant::now();
    while jobs() - began < count(2) {
        assert!(since.elapsed() < Duration::from_secs(10), "files are closed by jobs");
        case.runtime.sleep(Duration::from_millis(1)).await;
    }
}

/// Whoever drops a connection or a transaction when there is no server any more does not hang, and does not panic.
pub(crate) async fn may_outlive_their_server(case: Case) {
    let database = case.open().await;
    let mut change = database.begin().await.expect("a connection is free");
    change.execute(ADD, [1.into()]).await.expect("it changes");
    if case.cluster.is_some() {
        // A connection to a server is a background task, for which a stop would wait.
        change.commit().await.expect("it is made to last");
        database.close();
    } else {
        case.left.lock().expect("no test panics with it").push(Box::new(change));
    }
    case.left.lock().expect("no test panics with it").push(Box::new(database));
}
