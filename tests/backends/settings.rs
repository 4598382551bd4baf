//! Settings that no server can honour are refused by name, before anything starts. All other values serve requests.

use std::io::Write;
use std::time::Duration;

use gearshift::{Backend, Config, ServeError, TestServer};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "settings",
    &[
        ("the_default_settings_are_accepted", default),
        ("a_number_of_threads_is_refused", threads),
        ("more_than_one_worker_is_refused", workers),
        ("one_worker_is_accepted", one_worker),
        ("extreme_times_are_refused_or_served", extreme_times),
        ("extreme_numbers_are_refused_or_served", extreme_numbers),
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

/// The answer of `/compute/1`.
const SHA_256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The effect of a value.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    /// The server does not start.
    Refused,
    /// All requests are answered as usual.
    Served,
    /// Requests are answered as usual, or the server gives their peers or handlers up.
    GivenUp,
}
use Effect::{GivenUp, Refused, Served};

/// The settings that are times. The effects are those of zero and of a nanosecond.
const TIMES: [(&str, fn(&mut Config) -> &mut Duration, Effect, Effect); 10] = [
    ("connect_timeout", |config| &mut config.connect_timeout, Refused, Served),
    ("stall_threshold", |config| &mut config.stall_threshold, Served, Served),
    ("max_age", |config| &mut config.max_age, Served, Served),
    ("keep_alive", |config| &mut config.keep_alive, Served, Served),
    ("header_timeout", |config| &mut config.header_timeout, Refused, GivenUp),
    ("body_timeout", |config| &mut config.body_timeout, Refused, GivenUp),
    ("handler_timeout", |config| &mut config.handler_timeout, Refused, GivenUp),
    ("write_timeout", |config| &mut config.write_timeout, Refused, GivenUp),
    ("linger", |config| &mut config.linger, Served, Served),
    ("graceful_timeout", |config| &mut config.graceful_timeout, Served, Served),
];

/// The settings that are numbers. The effects are those of zero and of the largest number.
const NUMBERS: [(&str, fn(&mut Config, usize), Effect, Effect); 19] = [
    ("workers", |config, n| config.workers = Some(n), Refused, Refused),
    ("threads", |config, n| config.threads = Some(n), Refused, Refused),
    ("blocking_threads", |config, n| config.blocking_threads = n, Refused, Refused),
    ("compute_threads", |config, n| config.compute_threads = Some(n), Refused, Refused),
    ("pool_queue", |config, n| config.pool_queue = n, Served, Served),
    ("backlog", |config, n| config.backlog = n.try_into().unwrap_or(u16::MAX), Served, Served),
    ("max_connections", |config, n| config.max_connections = n, Refused, Served),
    ("max_requests", |config, n| config.max_requests = Some(n as u64), Refused, Served),
    ("body_buffer", |config, n| config.body_buffer = n, Served, Served),
    ("min_rate", |config, n| config.min_rate = n.try_into().unwrap_or(u32::MAX), Served, GivenUp),
    ("unix_mode", |config, n| config.unix_mode = Some(n.try_into().unwrap_or(u32::MAX)), Served, Refused),
    ("limits.request_line", |config, n| config.limits.request_line = n, Refused, Served),
    ("limits.field_line", |config, n| config.limits.field_line = n, Refused, Served),
    ("limits.fields", |config, n| config.limits.fields = n, Refused, Served),
    ("limits.head", |config, n| config.limits.head = n, Refused, Served),
    ("limits.body", |config, n| config.limits.body = n as u64, GivenUp, Served),
    ("limits.drain", |config, n| config.limits.drain = n as u64, Served, Served),
    ("limits.output", |config, n| config.limits.output = n, Refused, Served),
    ("limits.pipeline", |config, n| config.limits.pipeline = n, Refused, Served),
];

fn extreme_times(backend: Backend) {
    for (setting, time, of_zero, of_a_nanosecond) in TIMES {
        let values =
            [(Duration::ZERO, of_zero), (Duration::from_nanos(1), of_a_nanosecond), (Duration::MAX, Served)];
        for (value, effect) in values {
            let mut config = few_workers(backend);
            *time(&mut config) = value;
            expect(backend, config, effect, &format!("{setting} = {value:?}"));
        }
    }
    let mut config = few_workers(backend);
    for (_, time, _, _) in TIMES {
        *time(&mut config) = Duration::MAX;
    }
    expect(backend, config, Served, "all times are endless");
}

fn extreme_numbers(backend: Backend) {
    for (setting, set, of_zero, of_the_largest) in NUMBERS {
        for (value, effect) in [(0, of_zero), (usize::MAX, of_the_largest)] {
            let mut config = few_workers(backend);
            set(&mut config, value);
            expect(backend, config, effect, &format!("{setting} = {value}"));
        }
    }
}

/// Starts a server, sends requests of each kind, and stops it.
fn expect(backend: Backend, config: Config, effect: Effect, what: &str) {
    const REQUESTS: [(&str, &str, &str, &str); 6] = [
        ("GET", "/plaintext", "", "Hello, World!"),
        ("GET", "/sleep/2", "", "ok"),
        ("GET", "/offload/2", "", "ok"),
        ("GET", "/compute/1", "", SHA_256_OF_NOTHING),
        ("GET", "/stream/2", "", "chunk 0\nchunk 1\n"),
        ("POST", "/echo", "hello", "hello"),
    ];
    let server = match TestServer::with_config(backend, config, demo::app()) {
        Ok(server) => server,
        Err(ServeError::Value { .. } | ServeError::Setting { .. }) => {
            assert!(effect == Refused, "{what} is refused");
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(effect != Refused, "{what} is not refused");
    for (method, path, body, expected) in REQUESTS {
        let mut client = Client::connect(server.addr());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        if effect == GivenUp {
            let _ = client
                .socket
                .write_all(head.as_bytes())
                .and_then(|()| client.socket.write_all(body.as_bytes()));
            let _ = client.try_answer(false);
            continue;
        }
        client.send(head);
        client.send(body);
        let answer = client.try_answer(false).unwrap_or_else(|why| panic!("{what}: {path}: {why}"));
        assert_eq!(answer.said(), (200, expected.to_owned()), "{what}: {path}");
    }
    server.stop().unwrap_or_else(|error| panic!("{what}: {error}"));
}
