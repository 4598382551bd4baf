//! Clients of HTTP/2 as whole programs, where they are installed.

use gearshift::{Backend, BodyError, Request, Router};
use test_support::server::Running;

use super::app::{LARGE, patient, serve};
use super::beginning::with_tls;
use crate::tls::programs::run;

/// A body that is sent, and the URL that it is sent to. A program that fails says so.
fn posts(url: &str, version: &str) {
    let body = "x".repeat(1 << 20);
    let echo = format!("{url}/echo");
    let args =
        ["--silent", "--show-error", "--fail", "--max-time", "20", version, "--data-binary", "@-", &echo];
    let (is_success, out, err) = run("curl", &args, &body, false).expect("it is installed");
    assert!(is_success && out == body, "{err}");
}

pub(super) fn curl(backend: Backend) {
    let (server, _) = serve(backend);
    let url = format!("http://{}", server.addr());
    let (who, large) = (format!("{url}/who"), format!("{url}/large"));
    let common = ["--silent", "--show-error", "--fail", "--max-time", "20", "--http2-prior-knowledge"];
    let shown = ["--write-out", "\n%{http_version} %{size_download}\n"];
    let said = format!("HTTP/2.0 http {} Some(127.0.0.1)", server.addr());
    // Not on one connection: some versions of curl send the preface again for the second request.
    for (url, body) in [(&who, &said), (&large, &"x".repeat(LARGE))] {
        let args = [&common[..], &shown, &[url.as_str()]].concat();
        let Some((is_success, out, err)) = run("curl", &args, "", false) else { return };
        assert!(is_success, "{err}");
        assert!(out == format!("{body}\n2 {}\n", body.len()), "{} bytes", out.len());
    }
    posts(&url, "--http2-prior-knowledge");

    let (server, _) = with_tls(backend, |_| {});
    let url = format!("https://localhost:{}/alpn", server.addr().port());
    let args = ["--silent", "--show-error", "--max-time", "20", "--insecure", "--http2", &url, &url];
    let (is_success, out, err) = run("curl", &args, "", false).expect("it is installed");
    assert!(is_success && out == "HTTP/2.0 h2HTTP/2.0 h2", "{out} {err}");
}

pub(super) fn fallback(backend: Backend) {
    let (server, _) = with_tls(backend, |_| {});
    let url = format!("https://localhost:{}/alpn", server.addr().port());
    let args = ["--silent", "--show-error", "--max-time", "20", "--insecure", "--http2", &url];
    let Some((is_success, out, err)) = run("curl", &args, "", false) else { return };
    assert!(is_success && out == "HTTP/1.1 http/1.1", "{out} {err}");
}

pub(super) fn nghttp(backend: Backend) {
    let (server, _) = serve(backend);
    let url = |path: &str| format!("http://{}{path}", server.addr());
    let (who, pieces, status) = (url("/who"), url("/pieces"), url("/status/304"));
    let args = ["--verbose", "--timeout=20", "--null-out", &who, &pieces, &status];
    let Some((is_success, out, err)) = run("nghttp", &args, "", false) else { return };
    assert!(is_success, "{out} {err}");
    assert_eq!(out.matches(":status: 200").count(), 2, "{out}");
    assert_eq!(out.matches(":status: 304").count(), 1, "{out}");
    assert!(!out.contains("RST_STREAM") && !out.contains("_ERROR(0x01)"), "{out}");
}

pub(super) fn h2load(backend: Backend) {
    let (server, _) = serve(backend);
    let url = format!("http://{}/", server.addr());
    let args = ["--requests=1000", "--clients=5", "--max-concurrent-streams=20", &url];
    let Some((is_success, out, err)) = run("h2load", &args, "", false) else { return };
    let all = "requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(is_success && out.contains(all), "{out} {err}");
}

/// The cases of httpwg that fail. In most of them `h2` ends the stream or the connection with `PROTOCOL_ERROR` where
/// the RFC has a more precise code.
const FAILING: [&str; 16] = [
    // The frame does not end its field section, so the server waits for more.
    "client sends push promise frame",
    // `h2` drops the pseudo-header field, and nobody sees it.
    "sends headers frame with pseudo header in trailer",
    "closed sends headers frame",
    "closed sends headers frame after rst stream",
    "half closed remote sends data frame",
    "half closed remote sends headers frame",
    "invalid header block fragment",
    "sends data frame on invalid stream state",
    "sends ping frame with invalid length",
    "sends priority frame with invalid length",
    "sends rst stream frame with invalid length",
    "sends settings frame with ack and payload",
    "sends settings frame with invalid length",
    "sends settings initial window size with exceeded max window size value",
    "sends settings initial window size with invalid value",
    "sends window update frame with invalid length",
];

/// The suite is `HTTPWG`, see `tests/h2/run`.
pub(super) fn httpwg(backend: Backend) {
    let Ok(suite) = std::env::var("HTTPWG") else {
        return eprintln!("HTTPWG names no suite, so nothing is tested");
    };
    // The suite breaks rules in the body of a request for `/`, which must not be answered before.
    let reads = async |request: Request| {
        request.bytes().await?;
        Ok::<_, BodyError>("hello")
    };
    let server =
        Running::start(backend, patient(backend), move |_| Router::new().get("/", reads).post("/", reads));
    // A busy machine is late.
    let args =
        ["--address", &server.addr().to_string(), "--connect-timeout", "5000", "--frame-timeout", "3000"];
    let (_, out, err) = run(&suite, &args, "", false).expect("the suite is installed");
    let text: String = [out, err].concat().replace("\u{1b}[", "\u{1b}");
    let cases = |what: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once(what));
        let names = lines.filter_map(|(_, name)| name.rsplit_once(" :: "));
        // The colours of a terminal end a name.
        names.map(|(_, name)| name.split('\u{1b}').next().unwrap_or(name).trim().to_owned()).collect()
    };
    let (passed, failed) = (cases("Test passed: "), cases("Test failed: "));
    println!("{backend}: {} cases have passed, {} have not", passed.len(), failed.len());
    let unknown: Vec<_> = failed.iter().filter(|name| !FAILING.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}\n{text}");
    assert!(passed.len() >= 90, "{text}");
}
