//! `compare --python` as started from a shell: with an interpreter that only pretends to be one, and, if servers are
//! installed, with Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use compare::results::Results;
use tempfile::TempDir;

/// Claims to be Python with gearshift and granian, and starts the demo application instead. The backend `tokio` of
/// gearshift does not start.
const PRETENDER: &str = r#"#!/bin/sh
case "$1" in
-c)
    echo '{"python": "3.99.0", "packages": [["gearshift", "0.1.0"], ["granian", "9.9.9"], ["uvloop", "0.9"]]}'
    exit ;;
esac
while [ $# -gt 0 ]; do
    case "$1" in
    tokio) echo 'no luck' >&2; exit 1 ;;
    --port) address=127.0.0.1:$2 ;;
    --bind) address=$2 ;;
    esac
    shift
done
exec '{compare}' serve demo --backend mio --log-level error --bind "$address"
"#;

fn compare(out: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--python", "--generator", "built-in", "--duration", "0.15", "--rounds", "2", "--out"]);
    command.arg(out).args(flags).stdin(Stdio::null());
    command.output().expect("compare starts")
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

/// An executable script that pretends to be Python.
fn pretender(directory: &Path) -> PathBuf {
    let file = directory.join("python");
    fs::write(&file, PRETENDER.replace("{compare}", env!("CARGO_BIN_EXE_compare")))
        .expect("it can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it belongs to this test");
    file
}

fn results(out: &Path) -> Results {
    let json = fs::read(out.join("results.json")).expect("the file was written");
    serde_json::from_slice(&json).expect("the file matches the schema")
}

#[test]
fn compares_servers_and_leaves_out_those_that_are_missing_or_do_not_start() {
    let out = directory();
    let python = pretender(out.path());
    let flags = ["--python-app", "raw-wsgi", "--scenario", "plaintext,json", "--connections", "2"];
    let backends = ["--backend", "mio,tokio", "--python-bin", python.to_str().expect("UTF-8")];
    let output = compare(out.path(), &[flags.as_slice(), &backends].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");

    let found = results(out.path());
    let names: Vec<&str> = found.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["gearshift-mio", "granian"]);
    assert_eq!(found.packages, ["Python 3.99.0", "gearshift 0.1.0", "granian 9.9.9", "uvloop 0.9"]);
    for note in
        ["gearshift-tokio with Raw WSGI", "gunicorn: gunicorn is not installed", "waitress: waitress is"]
    {
        let is_omitted = found.omitted.iter().any(|omitted| omitted.starts_with(note));
        assert!(is_omitted && stderr.contains(&format!("left out: {note}")), "{note}: {stderr}");
    }
    let ids: Vec<&str> = found.scenarios.iter().map(|scenario| scenario.id.as_str()).collect();
    assert_eq!(ids, ["raw-wsgi-plaintext", "raw-wsgi-json"]);
    for measure in found.scenarios.iter().flat_map(|scenario| &scenario.points[0].measures) {
        assert_eq!((measure.errors, &measure.skipped), (0, &None), "{measure:?}");
        assert!(measure.rate.min > 0.0 && measure.peak_rss.min > 0.0, "{measure:?}");
    }
    for ratio in &found.ratios {
        assert_eq!((ratio.subject.as_str(), ratio.best_other.as_str()), ("gearshift-mio", "granian"));
        assert_eq!(ratio.granian.as_ref().map(|spread| spread.values.len()), Some(2), "one for each round");
        assert!(ratio.uvicorn.is_none());
    }
    assert_eq!(found.ratios.len(), 2);

    let markdown = fs::read_to_string(out.path().join("results.md")).expect("the file was written");
    for part in
        ["Python 3.99.0", "## Ratios\n", "## Raw WSGI: JSON\n", "| gearshift-mio | WSGI: ", "-m granian "]
    {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("÷ granian") && table.contains("Raw WSGI: plain responses"), "{table}");
}

#[test]
fn each_failure_has_one_line_and_its_own_status() {
    let refuses = |flags: &[&str], status: i32, what: &str| {
        let out = directory();
        let output = compare(out.path(), flags);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(what), "{stderr}");
    };
    refuses(&["--python-bin", "/nowhere/python"], 3, "/nowhere/python: cannot run it");
    refuses(&["--python-bin", "true"], 3, "not a Python interpreter");
    refuses(&["--server", "apache"], 2, "apache");
    refuses(&["--against", "x=cmd {port}"], 2, "--against");
    refuses(&["--backend", "twisted"], 4, "twisted");
    refuses(&["--scenario", "fan-out"], 5, "plaintext, json, wait, echo, upload");
}

#[test]
fn it_is_a_failure_if_no_server_starts() {
    let out = directory();
    let python = pretender(out.path());
    let flags = ["--python-app", "raw-wsgi", "--server", "gearshift-tokio", "--python-bin"];
    let output = compare(out.path(), &[flags.as_slice(), &[python.to_str().expect("UTF-8")]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no luck") && stderr.contains("none of the servers"), "{stderr}");
}

/// Measures the applications that need no framework on the servers that are installed.
#[test]
fn compares_the_servers_that_are_installed() {
    let python = std::env::var("COMPARE_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_any =
        ["gearshift", "granian", "uvicorn", "hypercorn", "gunicorn", "waitress"].iter().any(|package| {
            let status = Command::new(&python)
                .args(["-c", &format!("import {package}")])
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        });
    if !has_any {
        println!("skipped: {python} has no server; COMPARE_PYTHON names another interpreter");
        return;
    }
    let out = directory();
    let flags =
        ["--python-app", "raw-wsgi,raw-asgi", "--scenario", "plaintext,wait,upload", "--connections", "2"];
    let fewer = ["--backend", "mio,threadpool", "--rounds", "1", "--python-bin", &python];
    let output = compare(out.path(), &[flags.as_slice(), &fewer].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let found = results(out.path());
    assert!(found.omitted.iter().all(|note| note.ends_with("is not installed")), "{:?}", found.omitted);
    assert!(!found.scenarios.is_empty());
    for scenario in &found.scenarios {
        for measure in &scenario.points[0].measures {
            let context = format!("{}: {measure:?}", scenario.id);
            assert_eq!((measure.errors, &measure.skipped), (0, &None), "{context}");
            assert!(measure.rate.min > 0.0 && measure.latency.p50.min > 0.0, "{context}");
        }
        let waits = scenario.id.ends_with("-wait");
        assert!(
            !waits || scenario.points[0].measures.iter().all(|measure| measure.latency.p50.min >= 9_900.0)
        );
    }
}
