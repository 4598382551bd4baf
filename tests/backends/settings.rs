//! Settings that a backend cannot honour are refused by its name, before anything starts.

use gearshift::{Backend, Config, ServeError};
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "settings",
    &[
        ("the_default_settings_are_accepted", default),
        ("a_number_of_threads_is_refused", threads),
        ("more_than_one_worker_is_refused", workers),
        ("one_worker_is_accepted", one_worker),
    ],
);

fn expect_refused(backend: Backend, config: &Config) {
    match backend.check(config) {
        Err(ServeError::Setting { backend: name, .. }) => assert_eq!(name, backend.name()),
        other => panic!("the setting is not refused: {other:?}"),
    }
}

fn default(backend: Backend) {
    backend.check(&Config::default()).expect("the default settings are accepted");
}

fn threads(backend: Backend) {
    for threads in [1, 3] {
        let mut config = Config::default();
        config.threads = Some(threads);
        expect_refused(backend, &config);
    }
}

fn workers(backend: Backend) {
    let mut config = Config::default();
    config.workers = Some(2);
    expect_refused(backend, &config);
}

fn one_worker(backend: Backend) {
    let mut config = Config::default();
    config.workers = Some(1);
    backend.check(&config).expect("one worker is what there is");
}
