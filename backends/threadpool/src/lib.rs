//! gearshift on a pool of threads: a request has a thread, an idle connection has none.
