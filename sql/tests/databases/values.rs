//! What goes in, what comes out, and what is refused on the way.

use std::collections::HashMap;

use gearshift_sql::{Error, Migrations, Options, Value};

use crate::case::{ADD, Case, numbers};

const ALL: Migrations = Migrations {
    sqlite: &[
        "CREATE TABLE kinds (id INTEGER PRIMARY KEY, whole INTEGER, number REAL, words TEXT, bytes BLOB,
        truth INTEGER) STRICT",
    ],
    postgres: &[
        "CREATE TABLE kinds (id bigint PRIMARY KEY, whole bigint, number float8, words text, bytes bytea,
        truth boolean)",
    ],
};

const KEEP: &str =
    "INSERT INTO kinds (id, whole, number, words, bytes, truth) VALUES ($1, $2, $3, $4, $5, $6)";

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Kinds {
    whole: Option<i64>,
    number: Option<f64>,
    words: Option<String>,
    bytes: Option<Vec<u8>>,
    truth: Option<bool>,
}

pub(crate) async fn values_come_back_as_they_went(case: Case) {
    let database = case.open_as(ALL, Options::default()).await.expect("it opens");
    let long = "ü\u{10348}".repeat(100_000);
    let rows = [
        Kinds { whole: None, number: None, words: None, bytes: None, truth: None },
        Kinds {
            whole: Some(i64::MIN),
            number: Some(f64::MIN_POSITIVE),
            words: Some(String::new()),
            bytes: Some(vec![]),
            truth: Some(false),
        },
        Kinds {
            whole: Some(i64::MAX),
            number: Some(f64::NEG_INFINITY),
            words: Some(long),
            bytes: Some((0..=255).cycle().take(100_000).collect()),
            truth: Some(true),
        },
        Kinds {
            whole: Some(0),
            number: Some(-0.1),
            words: Some("';--$1?\\".into()),
            bytes: Some(vec![0]),
            truth: None,
        },
    ];
    for (id, row) in (0_i64..).zip(&rows) {
        let params = [
            id.into(),
            row.whole.into(),
            row.number.into(),
            row.words.clone().into(),
            row.bytes.clone().into(),
            row.truth.into(),
        ];
        assert_eq!(database.execute(KEEP, params).await.expect("it fits"), 1);
    }
    let kept: Vec<Kinds> = database.query("SELECT * FROM kinds ORDER BY id", []).await.expect("rows");
    assert_eq!(kept, rows);
    // Whole numbers are numbers, where one is wanted.
    let params = [9.into(), Value::Null, 7.into(), Value::Null, Value::Null, Value::Null];
    database.execute(KEEP, params).await.expect("it fits");
    let found: Vec<f64> =
        database.query("SELECT number FROM kinds WHERE number = $1", [7.into()]).await.expect("a row");
    assert_eq!(found, [7.0]);
    database.close();
}

pub(crate) async fn rows_are_read_by_name_by_position_and_alone(case: Case) {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Id(i64);
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum State {
        Open,
        Done,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Named {
        state: State,
        id: Id,
        #[serde(default)]
        more: Option<i64>,
    }
    let database = case.open_as(ALL, Options::default()).await.expect("it opens");
    for (id, words) in [(1, "open"), (2, "done")] {
        let params = [id.into(), Value::Null, Value::Null, words.into(), Value::Null, Value::Null];
        database.execute(KEEP, params).await.expect("it fits");
    }
    let sql = "SELECT id, words AS state, truth AS more FROM kinds ORDER BY id";
    let named: Vec<Named> = database.query(sql, []).await.expect("rows");
    let expected = |id, state| Named { state, id: Id(id), more: None };
    assert_eq!(named, [expected(1, State::Open), expected(2, State::Done)]);
    let placed: Vec<(Id, String, Option<bool>)> = database.query(sql, []).await.expect("rows");
    assert_eq!(placed, [(Id(1), "open".into(), None), (Id(2), "done".into(), None)]);
    const IDS: &str = "SELECT id FROM kinds ORDER BY id";
    assert_eq!(database.query::<(i64,)>(IDS, []).await.expect("rows"), [(1,), (2,)]);
    assert_eq!(database.query::<Id>(IDS, []).await.expect("rows"), [Id(1), Id(2)]);
    assert_eq!(database.query::<Option<u8>>(IDS, []).await.expect("rows"), [Some(1), Some(2)]);
    let maps: Vec<HashMap<String, i64>> = database.query(IDS, []).await.expect("rows");
    assert_eq!(maps[1], HashMap::from([("id".to_owned(), 2)]));
    let states: Vec<State> = database.query("SELECT words FROM kinds ORDER BY id", []).await.expect("rows");
    assert_eq!(states, [State::Open, State::Done]);
    database.close();
}

pub(crate) async fn parameters_have_numbers(case: Case) {
    let database = case.open().await;
    let sql = "SELECT CAST($3 AS text), CAST($1 AS text), CAST($2 AS text), CAST($1 AS text)";
    type Four = (String, String, String, String);
    let rows: Vec<Four> = database.query(sql, ["1".into(), "2".into(), "3".into()]).await.expect("a row");
    assert_eq!(rows, [("3".into(), "1".into(), "2".into(), "1".into())]);
    for (params, given) in [(vec!["1".into(), "2".into()], 2), (vec![Value::Null; 4], 4)] {
        let error = database.query::<Four>(sql, params).await.expect_err("another number");
        assert!(matches!(error, Error::Parameters { wanted: 3, given: n } if n == given), "{error}");
    }
    let error = database.execute(ADD, []).await.expect_err("another number");
    assert!(matches!(error, Error::Parameters { wanted: 1, given: 0 }), "{error}");
    assert_eq!(error.status(), 500);
    database.close();
}

pub(crate) async fn refuses_values_that_do_not_fit(case: Case) {
    let database = case.open_as(ALL, Options::default()).await.expect("it opens");
    for value in [Value::Real(f64::NAN), "NUL\0".into()] {
        let params = [1.into(), Value::Null, Value::Null, value, Value::Null, Value::Null];
        let error = database.execute(KEEP, params).await.expect_err("no database has both");
        assert!(matches!(error, Error::Parameter { number: 4, .. }), "{error}");
    }
    let params = [1.into(), "words".into(), Value::Null, Value::Null, Value::Null, Value::Null];
    let error = database.execute(KEEP, params).await.expect_err("text is no number");
    let refused = matches!(error, Error::Parameter { number: 2, .. } | Error::Refused(_));
    assert!(refused, "{error}");
    assert_eq!(database.query::<i64>("SELECT count(*) FROM kinds", []).await.expect("a row"), [0]);
    database.close();
}

pub(crate) async fn refuses_rows_that_do_not_fit(case: Case) {
    #[derive(Debug, serde::Deserialize)]
    struct Missing {
        #[expect(dead_code, reason = "it cannot be read")]
        missing: i64,
    }
    let database = case.open_as(ALL, Options::default()).await.expect("it opens");
    let params = [300.into(), Value::Null, Value::Null, "words".into(), Value::Null, 1.into()];
    database.execute(KEEP, params).await.expect("it fits");
    const SQL: &str = "SELECT id, whole, words FROM kinds";
    let column = |error: Error| match error {
        Error::Column { name, .. } => name,
        error => panic!("{error}"),
    };
    assert_eq!(column(database.query::<(u8, (), String)>(SQL, []).await.expect_err("too large")), "id");
    assert_eq!(column(database.query::<(i64, i64, String)>(SQL, []).await.expect_err("null")), "whole");
    assert_eq!(column(database.query::<(i64, Option<i64>, i64)>(SQL, []).await.expect_err("text")), "words");
    for error in [
        database.query::<(i64,)>(SQL, []).await.expect_err("two more"),
        database.query::<(i64, (), String, ())>(SQL, []).await.map(drop).expect_err("one less"),
        database.query::<i64>(SQL, []).await.map(drop).expect_err("not alone"),
        database.query::<Missing>(SQL, []).await.map(drop).expect_err("missing"),
    ] {
        assert!(matches!(error, Error::Row(_)), "{error}");
    }
    database.close();
}

pub(crate) async fn refuses_the_wrong_call(case: Case) {
    let database = case.open().await;
    const ADDING: &str = "INSERT INTO things (n) VALUES ($1) RETURNING id";
    // More often than there are connections: none is lost by it.
    for _ in 0..11 {
        let error = database.query::<i64>(ADDING, [1.into()]).await.expect_err("it changes");
        assert!(matches!(error, Error::Changes), "{error}");
        let error = database.execute(ADDING, [1.into()]).await.expect_err("it gives rows");
        assert!(matches!(error, Error::GivesRows), "{error}");
    }
    for sql in ["SELECT 1; SELECT 2", "SELEKT", "SELECT nothing FROM things", "SELECT ?1"] {
        let error = database.query::<i64>(sql, []).await.expect_err("it is not right");
        assert!(matches!(error, Error::Failed(_) | Error::Parameters { .. }), "{sql}: {error}");
        assert_eq!(error.status(), 500);
    }
    for sql in ["BEGIN", " commit", "End;", "START TRANSACTION", "rollback", "SAVEPOINT s"] {
        let mut change = database.begin().await.expect("a connection is free");
        for error in [
            database.query::<()>(sql, []).await.map(drop),
            database.execute(sql, []).await.map(drop),
            change.execute(sql, []).await.map(drop),
        ] {
            assert!(matches!(error, Err(Error::Failed(_))), "{sql}: {error:?}");
        }
    }
    assert_eq!(numbers(&database).await, [0_i64; 0]);
    for n in 0..11 {
        database.execute(ADD, [n.into()]).await.expect("it changes");
    }
    assert_eq!(case.ask("SELECT count(*) FROM things", "SELECT count(*) FROM things").await, "11");
    database.close();
}

pub(crate) async fn counts_changed_rows(case: Case) {
    let database = case.open().await;
    for n in 0..3 {
        assert_eq!(database.execute(ADD, [n.into()]).await.expect("it changes"), 1);
    }
    for (sql, changed) in [
        ("UPDATE things SET n = n + 10", 3),
        ("UPDATE things SET n = 0 WHERE n = 1", 0),
        ("CREATE INDEX by_n ON things (n)", 0),
        ("DELETE FROM things WHERE n > 10", 2),
        ("CREATE TABLE more (n INTEGER)", 0),
        ("INSERT INTO more SELECT n FROM things", 1),
        ("DROP TABLE more", 0),
    ] {
        assert_eq!(database.execute(sql, []).await.expect("it changes"), changed, "{sql}");
    }
    database.close();
}
