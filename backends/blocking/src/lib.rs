//! The thread-side half of gearshift's blocking backends: a transport that waits, and a runtime.
