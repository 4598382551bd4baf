//! The program as started from a shell: its results and files, its exit status, and that it leaves no process behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use compare::results::Results;
use tempfile::TempDir;

/// Deadline of every wait.
const TIMEOUT: Duration = Duration::from_secs(60);

fn compare(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--generator", "built-in", "--duration", "0.15", "--rounds", "2", "--out"]).arg(out);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn results(out: &Path) -> Results {
    let json = fs::read(out.join("results.json")).expect("the file was written");
    serde_json::from_slice(&json).expect("the file matches the schema")
}

#[test]
fn compares_two_backends_end_to_end() {
    let out = directory();
    let flags = ["--backend", "mio,threadpool", "--scenario", "low,waiting,fan-out,idle"];
    let command =
        || compare(out.path()).args(flags).args(["--connections", "2"]).output().expect("compare starts");
    let output = command();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");

    let found = results(out.path());
    let subjects: Vec<&str> = found.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(subjects, ["mio", "threadpool"]);
    let ids: Vec<&str> = found.scenarios.iter().map(|scenario| scenario.id.as_str()).collect();
    assert_eq!(ids, ["low", "waiting", "fan-out", "idle"]);
    for scenario in &found.scenarios {
        assert!(!scenario.winners.is_empty() && !scenario.reading.is_empty(), "{scenario:?}");
        for measure in scenario.points.iter().flat_map(|point| &point.measures) {
            assert_eq!((measure.errors, &measure.skipped), (0, &None), "{}: {measure:?}", scenario.id);
            assert_eq!(measure.threads.values.len(), 2, "{}: {measure:?}", scenario.id);
            assert!(measure.threads.min >= 1.0 && measure.peak_rss.min > 0.0, "{}: {measure:?}", scenario.id);
            let idle = measure.idle_bytes.is_some();
            assert_eq!(idle, scenario.id == "idle");
            assert!(idle || (measure.rate.max > 0.0 && measure.latency.p50.max > 0.0), "{measure:?}");
        }
    }
    let waits = &found.scenarios[1].points[0].measures;
    assert!(waits.iter().all(|measure| measure.latency.p50.min >= 49_000.0), "{waits:?}");

    let csv = fs::read_to_string(out.path().join("results.csv")).expect("the file was written");
    let lines = found.scenarios.iter().flat_map(|scenario| &scenario.points).count() * subjects.len();
    assert_eq!(csv.lines().count(), 1 + lines, "{csv}");
    let page = fs::read_to_string(out.path().join("index.html")).expect("the file was written");
    let markdown = fs::read_to_string(out.path().join("results.md")).expect("the file was written");
    assert!(found.scenarios.iter().all(|scenario| markdown.contains(&format!("## {}\n", scenario.title))));
    assert_eq!(markdown.matches("| threadpool |").count(), lines / 2, "{markdown}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(found.scenarios.iter().all(|scenario| page.contains(&scenario.title)), "{page}");
    assert!(found.scenarios.iter().all(|scenario| table.contains(&scenario.title)), "{table}");
}

#[test]
fn compares_a_users_command_with_a_baseline() {
    let (first, second) = (directory(), directory());
    let server = format!(
        "x='{}' serve demo --log-level error --bind 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_compare")
    );
    let flags = ["--backend", "mio", "--scenario", "low", "--path", "/json", "--against", &server];
    let output = compare(first.path()).args(flags).output().expect("compare starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let baseline = first.path().join("results.json");
    let output =
        compare(second.path()).args(flags).arg("--baseline").arg(baseline).output().expect("compare starts");
    // Either verdict is possible after so short a run.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let found = results(second.path());
    assert_eq!(found.subjects[1].name, "x");
    assert!(found.changes.iter().any(|change| change.subject == "x"), "{:?}", found.changes);
}

#[test]
fn checks_the_claims_about_a_backend() {
    let out = directory();
    let flags = ["--backend", "sequential", "--claims", "--rounds", "1"];
    let output = compare(out.path()).args(flags).output().expect("compare starts");
    let found = results(out.path());
    assert_eq!(found.claims.iter().map(|claim| claim.number).collect::<Vec<_>>(), [1, 2, 3, 6, 7, 8, 9]);
    assert!(found.claims.iter().all(|claim| !claim.findings.is_empty()), "{:?}", found.claims);
    let all = found.claims.iter().all(|claim| claim.holds);
    assert_eq!(output.status.code(), Some(if all { 0 } else { 1 }), "{:?}", found.claims);
}

/// Checks the exit status, and that standard error is one line that contains `what`.
fn refuses(args: &[&str], status: i32, what: &str) {
    let out = directory();
    let output = compare(out.path()).args(args).output().expect("compare starts");
    check_refusal(&output, status, what);
}

fn check_refusal(output: &Output, status: i32, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(what), "{stderr}");
}

#[test]
fn each_failure_has_one_line_and_its_own_status() {
    refuses(&["--rounds", "0"], 2, "--rounds");
    refuses(&["--against", "x=cmd"], 2, "{port}");
    refuses(&["--backend", "mio", "--against", "x=/nowhere/server {port}"], 3, "server x");
    refuses(&["--backend", "mio", "--against", "x=sh -c 'echo no luck >&2; exit 1' {port}"], 3, "no luck");
    refuses(&["--backend", "twisted"], 4, "twisted");
    refuses(&["--scenario", "fancy"], 5, "fancy");
    refuses(&["--backend", "mio", "--path", "/nowhere"], 6, "/nowhere returned status 404");
    refuses(&["--baseline", "/nowhere/results.json"], 7, "/nowhere/results.json");
    let file = tempfile::NamedTempFile::new().expect("a temporary directory");
    check_refusal(&compare(file.path()).output().expect("compare starts"), 8, "cannot write");
}

#[test]
fn leaves_no_server_behind_when_it_is_killed() {
    let (mut program, server) = measuring();
    program.0.kill().expect("the child runs");
    program.0.wait().expect("the child has exited");
    wait_until("the server is gone", || !Path::new(&format!("/proc/{server}")).exists());
}

#[test]
fn leaves_no_server_behind_when_it_is_interrupted() {
    let (mut program, server) = measuring();
    let killed = Command::new("kill").args(["-INT", &program.0.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let status = program.0.wait().expect("the child has exited");
    let stderr = program.0.stderr.take().map(std::io::read_to_string);
    assert_eq!(status.code(), Some(130), "{stderr:?}");
    wait_until("the server is gone", || !Path::new(&format!("/proc/{server}")).exists());
}

/// A program that is killed at the end of its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program during a measurement, and the process id of its server.
fn measuring() -> (Running, u32) {
    let out = directory();
    let flags = ["--backend", "mio", "--scenario", "waiting", "--duration", "50"];
    let program = Running(compare(out.path()).args(flags).spawn().expect("compare starts"));
    let mut server = None;
    wait_until("there is a server", || {
        server = children(program.0.id()).into_iter().flat_map(children).next();
        server.is_some()
    });
    (program, server.expect("a server"))
}

/// The processes whose parent is `of`. The parent is the second field after the name, which is in parentheses.
fn children(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        parent == Some(of)
    };
    pids.filter(is_child).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not in time");
        thread::sleep(Duration::from_millis(5));
    }
}
