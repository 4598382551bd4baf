//! The report page in Chromium, light and dark, as wide as a desktop and a phone: no console messages, no horizontal
//! scrolling, all charts drawn, and text of sufficient size and contrast.
//!
//! Without Chromium on the PATH the test prints that it is skipped.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use compare::page::render;
use compare::results::{Results, Spread};
use serde::Deserialize;

const PROBE: &str = include_str!("browser/probe.html");
const SAMPLE: &str = include_str!("sample.json");
/// Deadline of one run of Chromium, which takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The findings of the probe at one width.
#[derive(Debug, Deserialize)]
struct Findings {
    width: u32,
    content: u32,
    height: u32,
    dark: bool,
    ground: String,
    drawings: usize,
    faults: Vec<String>,
}

#[test]
fn the_page_is_sound_in_a_browser_light_and_dark_wide_and_narrow() {
    let Some(chromium) = chromium() else {
        // The test harness would hide the output of `eprintln!`.
        writeln!(std::io::stderr(), "skipped: no chromium on the PATH").expect("stderr is open");
        return;
    };
    let sample: Results = serde_json::from_str(SAMPLE).expect("the sample matches the schema");
    for (name, results) in [("sample", sample.clone()), ("hard", hard(sample)), ("empty", Results::default())]
    {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}"));
        fs::create_dir_all(&place).expect("a writable directory");
        let page = render(&results);
        fs::write(place.join("page.html"), &page).expect("the page is written");
        fs::write(place.join("probe.html"), PROBE).expect("the probe is written");
        let mut grounds = Vec::new();
        let mut pictures = Vec::new();
        for dark in [false, true] {
            let found = look(&chromium, &place, dark);
            assert_eq!(found.iter().map(|findings| findings.width).collect::<Vec<_>>(), [390, 1280]);
            for findings in found {
                let Findings { width, content, height, drawings, faults, .. } = &findings;
                let at = format!("{name} at {width}, dark: {dark}");
                assert_eq!(findings.dark, dark, "{at}");
                assert!(content <= width, "{at}: content is {content} wide");
                assert!(*height > 400, "{at}: {height} high");
                assert_eq!(*drawings, page.matches("<svg").count(), "{at}");
                assert!(
                    faults.is_empty(),
                    "{at}: {} faults: {:#?}",
                    faults.len(),
                    &faults[..faults.len().min(20)]
                );
                grounds.push(findings.ground);
            }
            pictures.push(picture(&chromium, &place, dark));
        }
        assert_ne!(grounds[0], grounds[2], "{name}: light and dark have the same background");
        assert_ne!(pictures[0], pictures[1], "{name}: light and dark look the same");
    }
}

/// The sample made hard to lay out: long words, figures of very different size, many servers.
fn hard(mut results: Results) -> Results {
    let long = "unbreakable".repeat(9);
    results.command = format!("compare {long}{long}");
    let last = results.subjects.len() - 1;
    let old = std::mem::replace(&mut results.subjects[last].name, long.clone());
    results.subjects[last].command = long.clone();
    for scenario in &mut results.scenarios {
        scenario.title += &long;
        scenario.reading += &long;
        scenario.winners.push(long.clone());
        scenario.left_out = 1;
        for point in &mut scenario.points {
            point.label += &long;
            point.path = format!("/{long}");
            for measure in &mut point.measures {
                if measure.subject == old {
                    measure.subject.clone_from(&long);
                    measure.rate = Spread::of(vec![1e-3, 1e9]);
                    measure.latency.p99 = Spread::of(vec![1.0, 1e9]);
                    measure.peak_rss = Spread::of(vec![f64::NAN]);
                    measure.ticks = 0;
                }
            }
            for more in 0..12 {
                let mut copy = point.measures[0].clone();
                copy.subject = format!("server {more}");
                point.measures.push(copy);
            }
        }
    }
    for claim in &mut results.claims {
        claim.statement += &long;
        claim.findings[0].measured += &long;
        claim.left_out = 2;
    }
    results
}

/// Runs the probe and returns its findings.
fn look(chromium: &Path, place: &Path, dark: bool) -> Vec<Findings> {
    let (document, log) = run(chromium, place, dark, "--dump-dom");
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "console messages: {complaints:#?}");
    let findings =
        document.split_once("<pre id=\"findings\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (findings, _) = findings.unwrap_or_else(|| panic!("no findings in {document}\n{log}"));
    let mut findings: Vec<Findings> =
        serde_json::from_str(findings).unwrap_or_else(|error| panic!("{error}: {findings}\n{log}"));
    // The frames load in any order.
    findings.sort_by_key(|findings| findings.width);
    findings
}

/// Takes a screenshot, which is kept as a file.
fn picture(chromium: &Path, place: &Path, dark: bool) -> Vec<u8> {
    let file = place.join(if dark { "dark.png" } else { "light.png" });
    // An old file must not be taken for a new one.
    let _ = fs::remove_file(&file);
    let (_, log) = run(chromium, place, dark, &format!("--screenshot={}", file.display()));
    fs::read(&file).unwrap_or_else(|error| panic!("no screenshot, {error}: {log}"))
}

/// Opens the probe in Chromium and returns its output and its log.
fn run(chromium: &Path, place: &Path, dark: bool, task: &str) -> (String, String) {
    // Chromium refuses a profile that another process uses, or that a killed one has left locked.
    let profile = place.join(format!("profile-{}", std::process::id()));
    let mut browser = Command::new(chromium)
        // Chromium has no sandbox for root. By default, frames from disk cannot access each other.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--no-first-run", "--disable-background-networking", "--allow-file-access-from-files"])
        .args(["--enable-logging=stderr", "--window-size=1280,6000"])
        .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(task)
        .arg(format!("file://{}", place.join("probe.html").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chromium starts");
    let (mut stdout, mut stderr) = (
        browser.stdout.take().expect("the stream is piped"),
        browser.stderr.take().expect("the stream is piped"),
    );
    let (done, finished) = mpsc::channel();
    let log = thread::spawn(move || read(&mut stderr));
    thread::spawn(move || done.send(read(&mut stdout)));
    let output = finished.recv_timeout(TIMEOUT);
    if output.is_err() {
        browser.kill().expect("the child is ours");
    }
    browser.wait().expect("the child is ours");
    let log = log.join().expect("the reader does not panic");
    let _ = fs::remove_dir_all(&profile);
    (output.unwrap_or_else(|_| panic!("chromium took more than {TIMEOUT:?}: {log}")), log)
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // After a kill, the output so far is all there is.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .flat_map(|place| ["chromium", "chromium-browser", "google-chrome"].map(|name| place.join(name)))
        .find(|file| file.is_file())
}
