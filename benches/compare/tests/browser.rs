//! The page in a browser, light and dark, on a desk and on a telephone: it has nothing to complain of, nothing scrolls
//! sideways, every drawing is there, and its text is large enough and stands out.
//!
//! Without Chromium on the PATH this is skipped, and says so.

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
/// Chromium needs a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the probe says of a page at one width.
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
        // Not by a macro: those are kept back while the test passes.
        writeln!(std::io::stderr(), "skipped: no chromium on the PATH to look at the page with")
            .expect("is open");
        return;
    };
    let sample: Results = serde_json::from_str(SAMPLE).expect("the sample is what the schema says");
    for (name, results) in [("sample", sample.clone()), ("hard", hard(sample)), ("empty", Results::default())]
    {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}"));
        fs::create_dir_all(&place).expect("a directory to write to");
        let page = render(&results);
        fs::write(place.join("page.html"), &page).expect("writes the page");
        fs::write(place.join("probe.html"), PROBE).expect("writes the probe");
        let mut grounds = Vec::new();
        let mut pictures = Vec::new();
        for dark in [false, true] {
            let found = look(&chromium, &place, dark);
            assert_eq!(found.iter().map(|findings| findings.width).collect::<Vec<_>>(), [390, 1280]);
            for findings in found {
                let Findings { width, content, height, drawings, faults, .. } = &findings;
                let at = format!("{name} at {width}, dark: {dark}");
                assert_eq!(findings.dark, dark, "{at}");
                assert!(content <= width, "{at}: it is {content} wide, and scrolls sideways");
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
        assert_ne!(grounds[0], grounds[2], "{name}: light and dark are the same colour");
        assert_ne!(pictures[0], pictures[1], "{name}: light and dark look the same");
    }
}

/// The sample with what is hard to lay out: names without a place to break, figures far apart, many servers.
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

/// What the probe finds.
fn look(chromium: &Path, place: &Path, dark: bool) -> Vec<Findings> {
    let (document, log) = run(chromium, place, dark, "--dump-dom");
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "the browser complains: {complaints:#?}");
    let findings =
        document.split_once("<pre id=\"findings\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (findings, _) = findings.unwrap_or_else(|| panic!("no findings in {document}\n{log}"));
    let mut findings: Vec<Findings> =
        serde_json::from_str(findings).unwrap_or_else(|error| panic!("{error}: {findings}\n{log}"));
    // Frames are ready in any order.
    findings.sort_by_key(|findings| findings.width);
    findings
}

/// What a person sees, as a PNG that is kept.
fn picture(chromium: &Path, place: &Path, dark: bool) -> Vec<u8> {
    let file = place.join(if dark { "dark.png" } else { "light.png" });
    // So that an old one is not looked at.
    let _ = fs::remove_file(&file);
    let (_, log) = run(chromium, place, dark, &format!("--screenshot={}", file.display()));
    fs::read(&file).unwrap_or_else(|error| panic!("no picture, {error}: {log}"))
}

/// Opens the probe; gives what the browser writes, and its log.
fn run(chromium: &Path, place: &Path, dark: bool, task: &str) -> (String, String) {
    // Of this process alone: one that is in use, or was when its browser was killed, is not taken.
    let profile = place.join(format!("profile-{}", std::process::id()));
    let mut browser = Command::new(chromium)
        // Root has no sandbox, and the page is our own. Frames from disk are strangers to each other by default.
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
    let (mut stdout, mut stderr) =
        (browser.stdout.take().expect("is piped"), browser.stderr.take().expect("is piped"));
    let (done, finished) = mpsc::channel();
    let log = thread::spawn(move || read(&mut stderr));
    thread::spawn(move || done.send(read(&mut stdout)));
    let output = finished.recv_timeout(PATIENCE);
    if output.is_err() {
        browser.kill().expect("is ours");
    }
    browser.wait().expect("is ours");
    let log = log.join().expect("reads");
    let _ = fs::remove_dir_all(&profile);
    (output.unwrap_or_else(|_| panic!("chromium was not done in {PATIENCE:?}: {log}")), log)
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What a process that was killed left is all there is.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .flat_map(|place| ["chromium", "chromium-browser", "google-chrome"].map(|name| place.join(name)))
        .find(|file| file.is_file())
}
