//! A PostgreSQL server that stops and starts again, or does not answer.

use std::thread;
use std::time::Duration;

use crate::case::Case;
use crate::cluster::signal;
use crate::program::{FORM, Response};

/// The server stops while the program has connections to it. Requests fail until it is back, and no longer.
pub(crate) fn survives_a_restart(case: &Case) {
    let cluster = case.cluster.as_ref().expect("a test of PostgreSQL");
    let notes = case.start();
    let path = notes.form("/notes", "kept", "").field("Location").to_owned();
    // Opens as many connections as there may be, so that all of them have to be replaced.
    let peers: Vec<_> = (0..20).map(|_| notes.send("GET", "/", "", "")).collect();
    assert!(peers.into_iter().all(|peer| Response::read(peer).status == 200));
    // A stop of the server ends its connections in any order. This one must not get the lock of another.
    let lock = case.lock();
    let lost = notes.send("POST", &path, FORM, "title=lost");
    case.wait_for_waiting("1");
    cluster.run(&case.database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted");
    assert_eq!(Response::read(lost).status, 503);
    lock.release();
    cluster.down();
    for response in [notes.get("/"), notes.get(&path), notes.form("/notes", "lost", "")] {
        assert_eq!(response.status, 503);
        assert!(response.body.contains("try again"), "{}", response.body);
    }
    assert_eq!(notes.get("/api/notes").status, 503);
    assert_eq!(notes.get("/style.css").status, 200);
    cluster.up();
    assert!(notes.get(&path).body.contains("<h2>kept</h2>"));
    let peers: Vec<_> = (0..20).map(|_| notes.send("POST", "/notes", FORM, "title=more")).collect();
    assert!(peers.into_iter().all(|peer| Response::read(peer).status == 303));
    notes.stop();
}

/// The server's end of a connection neither answers nor closes, as when its machine is gone: the request that uses the
/// connection fails, and no request uses it again.
pub(crate) fn gives_up_a_silent_connection(case: &Case) {
    let notes = case.start_with(&["--timeout", "1200ms"]);
    assert_eq!(notes.get("/").status, 200);
    let silent = Silent::new(case);
    let statuses: Vec<_> = (0..3).map(|_| notes.get("/").status).collect();
    drop(silent);
    assert_eq!(statuses, [503, 200, 200]);
    notes.stop();
}

/// The same with a connection that was idle for a while: it is tested before it is used, and the test has a limit.
pub(crate) fn gives_up_an_idle_silent_connection(case: &Case) {
    let notes = case.start_with(&["--database-timeout", "1s", "--statement-timeout", "1h"]);
    assert_eq!(notes.get("/").status, 200);
    let silent = Silent::new(case);
    // Longer than a connection is trusted.
    thread::sleep(Duration::from_millis(1_100));
    let statuses: Vec<_> = (0..3).map(|_| notes.get("/").status).collect();
    drop(silent);
    assert_eq!(statuses, [503, 200, 200]);
    notes.stop();
}

/// The one process of the server that serves the program, suspended until this is dropped.
struct Silent(u32);

impl Silent {
    fn new(case: &Case) -> Silent {
        let cluster = case.cluster.as_ref().expect("a test of PostgreSQL");
        let process =
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let process = cluster.run(&case.database, process).parse().expect("one connection");
        signal("-STOP", process);
        Silent(process)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}
