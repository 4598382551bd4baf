//! gearshift on one thread: requests run strictly one after another.
