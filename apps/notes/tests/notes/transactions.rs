//! A change of a note and of its history is made as a whole or not at all, also if its peer leaves.

use crate::case::Case;
use crate::program::FORM;

/// The second statement of a transaction fails. The first one is rolled back.
pub(crate) fn a_change_is_whole_or_not_at_all(case: &Case) {
    let notes = case.start();
    let path = notes.form("/notes", "before", "").field("Location").to_owned();
    case.run(
        "CREATE TRIGGER refusing BEFORE INSERT ON revisions WHEN NEW.title = 'refused'
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "ALTER TABLE revisions ADD CHECK (title <> 'refused')",
    );
    let unchanged = notes.get("/api/notes").body;
    // More failures than connections, none of which may be lost.
    for _ in 0..6 {
        for path in ["/notes", &*path] {
            let response = notes.form(path, "refused", "");
            assert_eq!(response.status, 500, "{path}");
            assert!(!response.body.contains("refused"), "{}", response.body);
        }
    }
    assert_eq!(notes.get("/api/notes").body, unchanged);
    assert_eq!(notes.form(&path, "after", "").status, 303);
    assert!(notes.get(&path).body.contains("<h2>after</h2>"));
    notes.stop();
}

/// Peers leave while their changes wait for a lock. When the lock is released, nothing is changed. The exception is a
/// call that blocks the thread of the connection: the server does not see that the peer has left, and the change may
/// be made.
pub(crate) fn a_peer_that_leaves_ends_its_change(case: &Case) {
    let notes = case.start_with(&["--database-connections", "2"]);
    let path = notes.form("/notes", "before", "").field("Location").to_owned();
    for path in ["/notes", &*path] {
        let lock = case.lock();
        let peer = notes.send("POST", path, FORM, "title=abandoned");
        if !case.is_sqlite() {
            case.wait_for_waiting("1");
        } else if !case.is_sequential() {
            assert_eq!(notes.get("/api/notes").status, 200);
        }
        if case.blocks_in_place() {
            drop(peer);
        } else {
            notes.leave(peer);
        }
        if !case.is_sqlite() {
            case.wait_for_waiting("0");
        }
        lock.release();
    }
    // Waits for the changes before it, if there are any.
    assert_eq!(notes.form(&path, "after", "").status, 303);
    if !case.blocks_in_place() {
        let titles = notes.get(&format!("/api{path}/history")).value();
        assert_eq!((&titles[0]["title"], &titles[1]["title"]), (&"after".into(), &"before".into()));
        assert_eq!(notes.get("/api/notes").value().as_array().map(Vec::len), Some(1));
    }
    notes.stop();
}

/// Peers leave while their statements run. The statements are interrupted, and their connections are used again.
pub(crate) fn a_peer_that_leaves_ends_its_statement(case: &Case) {
    // The server does not see that a peer leaves while a call blocks its thread, so that only time ends the statement.
    let timeout = if case.blocks_in_place() { "1s" } else { "1h" };
    let notes = case.start_with(&["--database-connections", "2", "--statement-timeout", timeout]);
    case.make_endless();
    for _ in 0..3 {
        let peer = notes.send("POST", "/notes", FORM, "title=endless");
        if !case.is_sqlite() {
            case.wait_for_running("1");
        }
        drop(peer);
        // Waits for a connection, or for the only one that can change something.
        assert_eq!(notes.form("/notes", "after", "").status, 303);
    }
    if !case.is_sqlite() {
        case.wait_for_running("0");
    }
    let titles = notes.get("/api/notes").value();
    let titles: Vec<_> = titles.as_array().into_iter().flatten().map(|note| note["title"].as_str()).collect();
    assert_eq!(titles, [Some("after"); 3]);
    notes.stop();
}
