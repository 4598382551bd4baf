//! The page at `/`: the backend that serves it, and the list of routes.

/// The routes on the page: method, example path, description.
const ROUTES: [(&str, &str, &str); 16] = [
    ("GET", "/plaintext", "“Hello, World!” from a sync handler"),
    ("GET", "/json", "the same text as JSON, serialised for each request"),
    ("GET", "/async", "“Hello, World!” from an async handler"),
    ("POST", "/echo", "streams the request body back, in constant memory"),
    ("GET", "/stream/10", "ten chunks from an async stream"),
    ("GET", "/sleep/500", "waits half a second on the runtime’s timer"),
    ("GET", "/data", "awaits an async function that takes a second"),
    ("POST", "/later/500", "responds 202 at once, then works for half a second"),
    ("GET", "/later", "the number of those jobs that are done"),
    ("GET", "/block/500", "the mistake: blocks its thread for half a second"),
    ("GET", "/offload/500", "the remedy: blocks a thread of the pool for blocking work"),
    ("GET", "/cpu/100000", "computes 100,000 rounds of SHA-256 on its thread"),
    ("GET", "/compute/100000", "the same on a pool with one thread per core"),
    ("GET", "/panic", "a handler that panics: the response is a 500"),
    ("GET", "/metrics", "the counters of the server, for Prometheus"),
    ("GET", "/nowhere", "a path without a route: 404"),
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

/// The page of one backend.
pub(crate) fn html(backend: &str) -> String {
    let rows: String = ROUTES.iter().map(|route| row(*route)).collect();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>gearshift on {backend}</title><style>{STYLE}</style>\
         <h1>gearshift</h1><p>on the backend <b>{backend}</b></p><table>{rows}</table></html>\n"
    )
}

fn row((method, path, what): (&str, &str, &str)) -> String {
    let path = match method {
        "GET" => format!("<a href=\"{path}\">{path}</a>"),
        _ => format!("<code>{path}</code>"),
    };
    format!("<tr><td>{method}<td>{path}<td>{what}")
}
