//! What holds between the program and its database, whatever happens to either.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster::signal;

use crate::Case;
use crate::program::{Answer, FORM, Program, command};

/// Less than the program's own, with a connection that it waits for.
const PATIENCE: Duration = Duration::from_secs(4);

/// The second statement of a transaction fails; what the first did is not to be seen.
pub(crate) fn a_change_is_whole_or_not_at_all(case: &Case) {
    let notes = case.start();
    let path = notes.form("/notes", "before", "").field("Location").to_owned();
    case.run(
        "CREATE TRIGGER refusing BEFORE INSERT ON revisions WHEN NEW.title = 'refused'
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "ALTER TABLE revisions ADD CHECK (title <> 'refused')",
    );
    let unchanged = notes.get("/api/notes").body;
    // More often than there are connections: none is lost by a failure.
    for _ in 0..6 {
        for path in ["/notes", &*path] {
            let answer = notes.form(path, "refused", "");
            assert_eq!(answer.status, 500, "{path}");
            assert!(!answer.body.contains("refused"), "{}", answer.body);
        }
    }
    assert_eq!(notes.get("/api/notes").body, unchanged);
    assert_eq!(notes.form(&path, "after", "").status, 303);
    assert!(notes.get(&path).body.contains("<h2>after</h2>"));
    notes.stop();
}

/// Ten changes wait for a lock that the test holds, the eleventh for one of their connections.
pub(crate) fn eleven_clients_share_ten_connections(case: &Case) {
    let notes = case.start();
    assert_eq!(notes.form("/notes", "first", "").status, 303);
    let eleven = || -> Vec<_> { (0..11).map(|_| notes.send("POST", "/notes", FORM, "title=more")).collect() };
    let peers = match &case.cluster {
        None => {
            let file = case.file();
            file.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
            let peers = eleven();
            // Those who read wait for nobody, where a request does not wait for the one before it.
            if case.backend.name() != "sequential" {
                assert_eq!(notes.get("/api/notes").status, 200);
            }
            file.execute_batch("COMMIT").expect("it is held");
            peers
        }
        Some(cluster) => {
            let mut holder = cluster.psql(&case.database);
            let holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut holder = holder.expect("psql starts");
            let mut sql = holder.stdin.take().expect("it is piped");
            writeln!(sql, "BEGIN; LOCK TABLE notes IN SHARE MODE; SELECT 'held';").expect("psql reads");
            let mut answers = BufReader::new(holder.stdout.take().expect("it is piped")).lines();
            assert_eq!(answers.next().expect("a row").expect("UTF-8"), "held");
            let peers = eleven();
            let most = if case.backend.name() == "sequential" { "1" } else { "10" };
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            let since = Instant::now();
            while cluster.run(&case.database, waiting) != most {
                assert!(since.elapsed() < PATIENCE, "{most} of them wait for the lock");
            }
            drop(sql);
            assert!(holder.wait().expect("it was started").success());
            peers
        }
    };
    for peer in peers {
        assert_eq!(Answer::read(peer).status, 303);
    }
    assert_eq!(notes.get("/api/notes").value().as_array().map(Vec::len), Some(12));
    notes.stop();
}

pub(crate) fn keeps_notes_when_it_is_started_again(case: &Case) {
    let notes = case.start();
    let path = notes.form("/notes", "kept", "").field("Location").to_owned();
    notes.stop();
    let notes = case.start();
    assert!(notes.get(&path).body.contains("<h2>kept</h2>"));
    notes.stop();
}

pub(crate) fn a_newer_database_is_left_alone(case: &Case) {
    case.start().stop();
    case.run("PRAGMA user_version = 99", "INSERT INTO steps VALUES (99)");
    refuses_to_start(case, &case.database, "version 99");
}

pub(crate) fn a_database_that_is_none_ends_the_start(case: &Case) {
    if case.cluster.is_some() {
        for (url, why) in [
            ("postgres://notes@127.0.0.1:1/notes", "127.0.0.1:1"),
            ("postgres://notes@%2Fnowhere/notes", "/nowhere"),
            ("postgres://notes@127.0.0.1:none/notes", "port"),
            (&*format!("{}nowhere", case.database), "does not exist"),
        ] {
            refuses_to_start(case, url, why);
        }
    } else {
        std::fs::write(&case.database, "text, and no database".repeat(100)).expect("a directory to write to");
        refuses_to_start(case, &case.database, "not a database");
        refuses_to_start(case, "/nowhere/notes.db", "/nowhere/notes.db");
    }
}

/// The server ends while the program has connections to it: requests fail until it is back, and no longer.
pub(crate) fn survives_a_restart(case: &Case) {
    let cluster = case.cluster.as_ref().expect("a test of PostgreSQL");
    let notes = case.start();
    let path = notes.form("/notes", "kept", "").field("Location").to_owned();
    // As many connections as there may be, all to be replaced.
    let peers: Vec<_> = (0..20).map(|_| notes.send("GET", "/", "", "")).collect();
    assert!(peers.into_iter().all(|peer| Answer::read(peer).status == 200));
    cluster.down();
    for answer in [notes.get("/"), notes.get(&path), notes.form("/notes", "lost", "")] {
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("try again"), "{}", answer.body);
    }
    assert_eq!(notes.get("/api/notes").status, 503);
    assert_eq!(notes.get("/style.css").status, 200);
    cluster.up();
    assert_eq!(notes.get(&path).status, 200);
    let peers: Vec<_> = (0..20).map(|_| notes.send("POST", "/notes", FORM, "title=more")).collect();
    assert!(peers.into_iter().all(|peer| Answer::read(peer).status == 303));
    notes.stop();
}

/// The server's end of a connection says nothing any more, and does not close it either, as when its machine is gone:
/// the request that meets it fails, and the connection is not lent again.
pub(crate) fn gives_up_a_silent_server(case: &Case) {
    let cluster = case.cluster.as_ref().expect("a test of PostgreSQL");
    let notes = Program::spawn(command(case.backend.name(), &case.database).args(["--timeout", "1200ms"]));
    assert_eq!(notes.get("/").status, 200);
    let silent =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let silent = cluster.run(&case.database, silent).parse().expect("one connection");
    signal("-STOP", silent);
    let statuses: Vec<_> = (0..3).map(|_| notes.get("/").status).collect();
    signal("-CONT", silent);
    assert_eq!(statuses, [503, 200, 200]);
    notes.stop();
}

/// Status 3, and after the log one line that says why.
fn refuses_to_start(case: &Case, database: &str, why: &str) {
    let output = command(case.backend.name(), database).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: the application did not start: ") && last.contains(why), "{said}");
}
