//! Connections are few, and each wait for one, for a lock and for a statement ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::Case;
use crate::program::{FORM, Response};

/// Ten changes wait for a lock that the test holds, the eleventh for one of their connections.
pub(crate) fn eleven_clients_share_ten_connections(case: &Case) {
    let notes = case.start();
    assert_eq!(notes.form("/notes", "first", "").status, 303);
    let lock = case.lock();
    let peers: Vec<_> = (0..11).map(|_| notes.send("POST", "/notes", FORM, "title=more")).collect();
    if !case.is_sqlite() {
        case.wait_for_waiting(if case.is_sequential() { "1" } else { "10" });
    } else if !case.is_sequential() {
        // Readers of a file do not wait for writers.
        assert_eq!(notes.get("/api/notes").status, 200);
    }
    lock.release();
    for peer in peers {
        assert_eq!(Response::read(peer).status, 303);
    }
    assert_eq!(notes.get("/api/notes").value().as_array().map(Vec::len), Some(12));
    notes.stop();
}

/// While changes wait for a lock that is not released, requests that wait for a connection are refused. When the lock
/// is released, all are served.
pub(crate) fn the_wait_for_a_connection_ends(case: &Case) {
    const LIMIT: Duration = Duration::from_secs(1);
    let notes = case.start_with(&["--database-connections", "2", "--database-timeout", "1s"]);
    let lock = case.lock();
    let mut peers = Vec::new();
    if case.is_sqlite() {
        let start = Instant::now();
        is_unavailable(&notes.form("/notes", "late", ""));
        assert!(start.elapsed() >= LIMIT);
        // One of them waits for the lock, the other for the connection.
        let late = [0, 1].map(|_| notes.send("POST", "/notes", FORM, "title=late"));
        late.into_iter().for_each(|peer| is_unavailable(&Response::read(peer)));
    } else if !case.is_sequential() {
        peers.extend([0, 1].map(|_| notes.send("POST", "/notes", FORM, "title=waits")));
        case.wait_for_waiting("2");
        let start = Instant::now();
        is_unavailable(&notes.get("/"));
        assert!(start.elapsed() >= LIMIT);
    }
    lock.release();
    let waiting = peers.len();
    for peer in peers {
        assert_eq!(Response::read(peer).status, 303);
    }
    assert_eq!(notes.form("/notes", "after", "").status, 303);
    assert_eq!(notes.get("/api/notes").value().as_array().map(Vec::len), Some(waiting + 1));
    notes.stop();
}

/// More statements take too long than there are connections. Each is interrupted and changes nothing, and no connection
/// is lost.
pub(crate) fn statements_have_an_end(case: &Case) {
    case.start().stop();
    case.make_endless();
    // A request that waited for a connection would not be answered.
    let limits = ["--database-connections", "2", "--database-timeout", "1h", "--statement-timeout", "50ms"];
    let limited = case.start_with(&limits);
    for _ in 0..3 {
        is_unavailable(&limited.form("/notes", "endless", ""));
    }
    case.run(
        "ALTER TABLE notes RENAME TO kept; CREATE VIEW notes AS
             SELECT 1 AS id, '' AS title, '' AS body, '' AS edited FROM endless WHERE n < 0",
        "ALTER TABLE notes RENAME TO kept; CREATE VIEW notes AS
             SELECT CAST(1 AS bigint) AS id, '' AS title, '' AS body, '' AS edited FROM pg_sleep(3600)",
    );
    for _ in 0..3 {
        is_unavailable(&limited.get("/"));
    }
    let restore = "DROP VIEW notes; ALTER TABLE kept RENAME TO notes";
    case.run(restore, restore);
    limited.stop();
    let notes = case.start();
    assert_eq!(notes.get("/api/notes").value(), json!([]));
    assert_eq!(notes.form("/notes", "after", "").status, 303);
    notes.stop();
}

fn is_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.body);
    assert!(response.body.contains("try again"), "{}", response.body);
}
