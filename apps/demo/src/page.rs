//! The page at `/`: which backend serves it, and what there is to ask.

/// A route as the page shows it: method, a path to try, what happens.
const ROUTES: [(&str, &str, &str); 16] = [
    ("GET", "/plaintext", "“Hello, World!” from a sync handler"),
    ("GET", "/json", "the same as JSON, serialised for each request"),
    ("GET", "/async", "the same from an async handler"),
    ("POST", "/echo", "the body back, streamed in constant memory"),
    ("GET", "/stream/10", "ten chunks from an async stream"),
    ("GET", "/sleep/500", "waits half a second with the runtime’s timer"),
    ("GET", "/data", "an async function awaits another that takes a second"),
    ("POST", "/later/500", "202 at once, and half a second of work afterwards"),
    ("GET", "/later", "how many of those are done"),
    ("GET", "/block/500", "blocks the thread for half a second: the mistake"),
    ("GET", "/offload/500", "blocks a thread that may: the remedy"),
    ("GET", "/cpu/100000", "100,000 rounds of SHA-256 in place"),
    ("GET", "/compute/100000", "the same on a pool with a thread for each core"),
    ("GET", "/panic", "a handler that panics costs its request a 500"),
    ("GET", "/metrics", "what the server counts, as Prometheus reads it"),
    ("GET", "/nowhere", "404"),
];

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2129;--soft:#667085;--line:#e4e7ec;--paper:#fff;--accent:#c2410c}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ec;--soft:#98a2b3;--line:#2b313b;--paper:#14171c;\
--accent:#fb923c}}\
body{margin:0 auto;padding:9vh 1.5rem 4rem;max-width:42rem;font:16px/1.55 system-ui,sans-serif;\
color:var(--ink);background:var(--paper)}\
h1{margin:0;font-size:2.2rem;letter-spacing:-.02em}\
p{color:var(--soft);margin:.4rem 0 2.2rem}\
b{color:var(--accent)}\
table{border-collapse:collapse;width:100%}\
td{padding:.55rem .75rem .55rem 0;border-top:1px solid var(--line);vertical-align:baseline}\
td:first-child{color:var(--soft);font-size:.75rem;letter-spacing:.05em}\
code,a{font-family:ui-monospace,monospace;font-size:.92rem}\
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}";

/// The page, for one backend.
pub(crate) fn html(backend: &str) -> String {
    let rows: String = ROUTES.iter().map(|route| row(*route)).collect();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>gearshift on {backend}</title><style>{STYLE}</style>\
         <h1>gearshift</h1><p>in the gear <b>{backend}</b></p><table>{rows}</table></html>\n"
    )
}

fn row((method, path, what): (&str, &str, &str)) -> String {
    let path = match method {
        "GET" => format!("<a href=\"{path}\">{path}</a>"),
        _ => format!("<code>{path}</code>"),
    };
    format!("<tr><td>{method}<td>{path}<td>{what}")
}
