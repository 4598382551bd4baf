//! gearshift on tokio.
