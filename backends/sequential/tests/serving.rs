//! Real requests over loopback: what has to do with who waits where. HTTP itself is tested elsewhere.

#[path = "../../blocking/tests/cases/rig.rs"]
mod rig;
#[path = "../../blocking/tests/cases/serving.rs"]
mod serving;
#[path = "../../blocking/tests/cases/stopping.rs"]
mod stopping;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gearshift_core::{Backend, Config, Request, Router, ServeError};
use gearshift_sequential::Sequential;
use rig::{GET, Running, response};

const BACKEND: Sequential = Sequential;

fn settings() -> Config {
    Config::default()
}

#[test]
fn settings_it_cannot_honour_are_refused() {
    let mut config = settings();
    config.workers = Some(1);
    assert!(BACKEND.check(&config).is_ok());
    config.workers = Some(2);
    assert!(matches!(BACKEND.check(&config), Err(ServeError::Setting { backend: "sequential", .. })));
    config = settings();
    config.threads = Some(1);
    assert!(BACKEND.check(&config).is_err());
}

#[test]
fn requests_never_overlap() {
    let running = Arc::new(AtomicUsize::new(0));
    let server = Running::with(settings(), move |runtime| {
        Router::new().get("/", move |_: Request| {
            let (running, runtime) = (running.clone(), runtime.clone());
            async move {
                let others = running.fetch_add(1, SeqCst);
                runtime.sleep(Duration::from_millis(5)).await;
                running.fetch_sub(1, SeqCst);
                others.to_string()
            }
        })
    });
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.write_all(GET).unwrap());
    clients.iter_mut().for_each(|client| assert_eq!(response(client), (200, "0".into())));
}
