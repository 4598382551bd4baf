//! What only a server does: it comes and goes, falls silent, and has types of its own.

use std::time::Duration;

use cluster::signal;
use gearshift_sql::{Error, Migrations, Options, Value};

use crate::case::{ADD, Case, numbers};

pub(crate) async fn survives_a_restart(case: Case) {
    let cluster = case.cluster.clone().expect("a test of PostgreSQL");
    let database = case.open().await;
    // As many connections as there may be, all to be replaced, and a transaction to be lost.
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(database.begin().await.expect("a connection is free"));
    }
    let mut lost = held.pop().expect("there are ten");
    held.clear();
    lost.execute(ADD, [1.into()]).await.expect("it changes");
    let server = cluster.clone();
    case.runtime.blocking(move || server.down()).await;
    for error in [
        lost.execute(ADD, [2.into()]).await.expect_err("it is away"),
        database.query::<i64>("SELECT 1", []).await.expect_err("it is away"),
        database.begin().await.map(drop).expect_err("it is away"),
    ] {
        assert!(matches!(error, Error::Away(_)), "{error}");
        assert_eq!(error.status(), 503);
    }
    assert!(matches!(lost.commit().await, Err(Error::RolledBack)));
    case.runtime.blocking(move || cluster.up()).await;
    let peers: Vec<_> = (0..20)
        .map(|n: i64| {
            let database = database.clone();
            case.spawn(async move { database.execute(ADD, [n.into()]).await })
        })
        .collect();
    for peer in peers {
        peer.await.expect("no panic").expect("it is back");
    }
    assert_eq!(numbers(&database).await.len(), 20);
    database.close();
}

/// The server's end of a connection says nothing any more, and does not close it either, as when its machine is gone:
/// the call that meets it fails, and the connection is not lent again, nor is it missed.
pub(crate) async fn gives_up_a_silent_server(case: Case) {
    let patience = Duration::from_millis(500);
    let options = Options { connections: 2, patience, longest: patience, ..Options::default() };
    let database = case.open_with(options).await;
    let mut silent = Silent(Vec::new());
    for looked_at in [false, true] {
        let pids: Vec<i32> = database.query("SELECT pg_backend_pid()", []).await.expect("a row");
        signal("-STOP", pids[0].cast_unsigned());
        silent.0.push(pids[0].cast_unsigned());
        if looked_at {
            // Before it is lent, as it was not asked for so long.
            case.runtime.sleep(Duration::from_millis(1100)).await;
        }
        let error = numbers_or(&database).await.expect_err("it says nothing");
        assert_eq!(matches!(error, Error::Busy(_)), looked_at, "{error}");
        assert_eq!(error.status(), 503);
        numbers_or(&database).await.expect("another connection");
        numbers_or(&database).await.expect("another connection");
    }
    drop(silent);
    database.close();
}

/// Processes that were stopped; they go on when the test ends, or no server would.
struct Silent(Vec<u32>);

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| signal("-CONT", *process));
    }
}

async fn numbers_or(database: &gearshift_sql::Database) -> Result<Vec<i64>, Error> {
    database.query("SELECT n FROM things", []).await
}

pub(crate) async fn refuses_types_without_a_value(case: Case) {
    let database = case.open().await;
    for sql in [
        "SELECT 1 AS fine, now() AS column_x",
        "SELECT CAST(1 AS numeric) AS column_x",
        "SELECT array[1] AS column_x",
        "SELECT sum(n) AS column_x FROM things",
    ] {
        let error = database.query::<(i64,)>(sql, []).await.expect_err("there is no value for it");
        let said = error.to_string();
        assert!(matches!(error, Error::Column { name, .. } if name == "column_x"), "{said}");
        assert!(said.contains("cast it"), "{said}");
    }
    let rows: Vec<(i64, i64, f64, String, String)> = database
        .query(
            "SELECT CAST(1 AS smallint), 2, CAST(0.5 AS real), CAST(CAST('c' AS char(2)) AS varchar),
                CAST(CAST('2000-01-01' AS date) AS text)",
            [],
        )
        .await
        .expect("a row");
    assert_eq!(rows, [(1, 2, 0.5, "c".into(), "2000-01-01".into())]);
    database.close();
}

pub(crate) async fn values_fit_or_are_refused(case: Case) {
    const KINDS: Migrations = Migrations {
        sqlite: &[],
        postgres: &["CREATE TABLE kinds (i2 smallint, i4 integer, f4 real, f8 float8, b boolean, t text,
            v varchar(3), a bytea, n numeric)"],
    };
    let database = case.open_as(KINDS, Options::default()).await.expect("it opens");
    let large = (1_i64 << 53) + 1;
    let cases: [(&'static str, &[Value], &[Value]); 9] = [
        (
            "INSERT INTO kinds (i2) VALUES ($1)",
            &[Value::Integer(-32768), Value::Null],
            &[Value::Integer(32768), Value::Real(1.0), Value::Text("1".into()), Value::Blob(vec![1])],
        ),
        (
            "INSERT INTO kinds (i4) VALUES ($1)",
            &[Value::Integer(i32::MAX as i64)],
            &[Value::Integer(i32::MAX as i64 + 1)],
        ),
        (
            "INSERT INTO kinds (f4) VALUES ($1)",
            &[Value::Real(0.1), Value::Integer(1 << 24), Value::Real(f64::INFINITY)],
            &[Value::Real(1e300), Value::Integer((1 << 24) + 1)],
        ),
        (
            "INSERT INTO kinds (f8) VALUES ($1)",
            &[Value::Real(1e300), Value::Integer(large - 1)],
            &[Value::Integer(large), Value::Text("1".into())],
        ),
        (
            "INSERT INTO kinds (b) VALUES ($1)",
            &[Value::Integer(0), Value::Integer(1), Value::Null],
            &[Value::Integer(2), Value::Text("true".into())],
        ),
        (
            "INSERT INTO kinds (t) VALUES ($1)",
            &[Value::Text("text".into())],
            &[Value::Integer(1), Value::Blob(vec![65])],
        ),
        ("INSERT INTO kinds (v) VALUES ($1)", &[Value::Text("abc".into())], &[Value::Real(1.0)]),
        ("INSERT INTO kinds (a) VALUES ($1)", &[Value::Blob(vec![0])], &[Value::Text("a".into())]),
        ("INSERT INTO kinds (n) VALUES ($1)", &[Value::Null], &[Value::Integer(1), Value::Text("1".into())]),
    ];
    for (sql, fit, refused) in cases {
        for value in fit {
            database
                .execute(sql, [value.clone()])
                .await
                .unwrap_or_else(|error| panic!("{sql} {value:?}: {error}"));
        }
        for value in refused {
            let error = database.execute(sql, [value.clone()]).await.expect_err(sql);
            assert!(matches!(error, Error::Parameter { number: 1, .. }), "{sql} {value:?}: {error}");
        }
    }
    let long = database.execute("INSERT INTO kinds (v) VALUES ($1)", ["abcd".into()]).await;
    assert!(matches!(long, Err(Error::Failed(_))), "{long:?}");
    database.close();
}

/// The server refuses a prepared statement whose result would have another type by now.
pub(crate) async fn prepares_anew_what_has_changed(case: Case) {
    let database = case.open_with(Options { connections: 1, ..Options::default() }).await;
    database.execute(ADD, [1.into()]).await.expect("it changes");
    const ALL: &str = "SELECT * FROM things";
    assert_eq!(database.query::<(i64, i64)>(ALL, []).await.expect("a row"), [(1, 1)]);
    database.execute("ALTER TABLE things ADD COLUMN more bigint", []).await.expect("it changes");
    let error = database.query::<(i64, i64)>(ALL, []).await.expect_err("it has changed");
    assert!(matches!(error, Error::Failed(_)), "{error}");
    type Three = (i64, i64, Option<i64>);
    assert_eq!(database.query::<Three>(ALL, []).await.expect("a row"), [(1, 1, None)]);
    database.close();
}
