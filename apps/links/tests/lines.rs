//! Counts the lines of each part here and on axum, and compares them with the table in `README.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The parts, and the files in which they are.
const PARTS: [(&str, &str); 19] = [
    ("JSON API with typed errors", "api"),
    ("state", "state"),
    ("redirect", "redirect"),
    ("form", "form"),
    ("upload and ranged download", "files"),
    ("request id", "request_id"),
    ("logging", "logging"),
    ("bearer authentication", "auth"),
    ("CORS", "cors"),
    ("gzip", "gzip"),
    ("session cookie", "session"),
    ("server-sent events", "events"),
    ("WebSocket", "socket"),
    ("call to another service", "title"),
    ("unit and integration tests", "tests"),
    ("static files", "assets"),
    ("a layer of tower-http: timeout", "timeout"),
    ("periodic task", "periodic"),
    ("stop hook", "stop"),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a file without those that are blank, that are comments, or that belong to a `use`.
fn count(path: &str) -> usize {
    let mut in_use = false;
    let is_code = |line: &&str| {
        let begins_use = line.starts_with("use ");
        let is_use = in_use || begins_use;
        in_use = is_use && !line.ends_with(';');
        !(is_use || line.is_empty() || line.starts_with("//"))
    };
    read(path).lines().map(str::trim).filter(is_code).count()
}

#[test]
fn no_part_is_much_longer_than_on_axum() {
    let mut table = "| part | here | axum |\n| --- | --- | --- |\n".to_owned();
    let (mut all_here, mut all_axum) = (0, 0);
    for (part, file) in PARTS {
        let here = count(&format!("src/{file}.rs"));
        let axum = count(&format!("examples/links_axum/{file}.rs"));
        assert!(here * 10 <= axum * 12, "{part}: {here} lines here, {axum} on axum");
        writeln!(table, "| [{part}](src/{file}.rs) | {here} | [{axum}](examples/links_axum/{file}.rs) |")
            .expect("memory is written");
        (all_here, all_axum) = (all_here + here, all_axum + axum);
    }
    writeln!(table, "| all | {all_here} | {all_axum} |").expect("memory is written");
    assert!(read("README.md").contains(&table), "the table in README.md has to be:\n\n{table}");
}
