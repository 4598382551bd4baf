//! The first inputs: the bytes that the wire cases of `tests/wire` send, and bytes at the edges of the grammar.
//!
//! Only the lines of a case that are sent matter here (`> text`), and the rows of a family of cases (`| text`). The
//! format is explained in `tests/backends/case.rs`. Cases that send the same bytes make one seed.

use std::collections::HashSet;
use std::path::Path;

use crate::SCRIPT;

/// The bytes that one case sends.
#[derive(Clone, Debug)]
pub struct Seed {
    /// File and name of the case, and its number in its family.
    pub name: String,
    /// All bytes that the case sends.
    pub wire: Vec<u8>,
}

/// The scripts for each seed: all choices at their defaults, and some others.
pub const SCRIPTS: [[u8; SCRIPT]; 4] = [
    [0; SCRIPT],
    [0, 0, 0, 0, 1, 1, 3, 0, 3, 4, 5, 7, 2, 0, 1, 6],
    [1, 2, 0, 1, 2, 7, 0, 1, 3, 2, 4, 0, 8, 5, 1, 3],
    [2, 1, 1, 2, 2, 5, 40, 2, 0, 9, 33, 1, 6, 16, 4, 1],
];

impl Seed {
    /// The input that a target reads.
    pub fn input(&self, script: &[u8; SCRIPT]) -> Vec<u8> {
        [&script[..], &self.wire].concat()
    }

    /// The input for the target `chunked`: the bytes after the first head.
    pub fn body_input(&self, script: &[u8; SCRIPT]) -> Option<Vec<u8>> {
        let end = self.wire.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let body = &self.wire[end..];
        (!body.is_empty()).then(|| [&script[..], body].concat())
    }
}

// The tables use the notation of the cases.

/// Request lines at an edge of the grammar. A `Host` line follows each.
const LINES: &[&str] = &[
    "GET http:///b HTTP/1.1",
    "GET http://a HTTP/1.1",
    "GET HTTPS://[::1]:80?q HTTP/1.1",
    "GET http://a?q#f HTTP/1.1",
    "GET http://u@a/ HTTP/1.1",
    "GET //a/b HTTP/1.1",
    r"GET /|[]@:!?{}\\^`% HTTP/1.1",
    r"GET /a\\b HTTP/1.1",
    "GET /%4g HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "OPTIONS http://a HTTP/1.1",
    "connect a:80 HTTP/1.1",
    "CONNECT a:80 HTTP/1.1",
    "CONNECT a:1:2 HTTP/1.1",
    "CONNECT [::1]:443 HTTP/1.1",
    "CONNECT [::1] HTTP/1.1",
    "CONNECT [v1.a:80] HTTP/1.1",
    "GET / HTTP/1.9",
    "GET / HTTP/1.10",
    r"GET / HTTP/1.1\rA",
    r"HEAD / HTTP/1.1\nA",
    r"\r\n\r\n\r\nHEAD / HTTP/1.1",
    r"\(M*63) / HTTP/1.1",
    r"\(M*64) / HTTP/1.1",
    r"\(M*8190) / HTTP/1.1",
];

/// Field lines at an edge of the grammar. Each entry is a whole field section.
const FIELDS: &[&str] = &[
    "Host: a[::1]",
    "Host: [::1]x",
    "Host: [::ffff:1.2.3.4]:8080",
    "Host: [::1.2.3.04]",
    "Host: [1:2:3:4:5:6:7::]",
    "Host: [1:2:3:4:5:6:7::8]",
    "Host: [1::2::3]",
    "Host: [v1.a]",
    "Host: [vF0.a,b:c]:1",
    "Host: [v.a]",
    "Host: [v1.a/]",
    r"Host: a\r\nContent-Length: 9223372036854775807",
    r"Host: a\r\nContent-Length: 9223372036854775808",
    r"Host: a\r\nContent-Length: 00000000000000000000000000000000000000000",
    r"Host: a\r\nExpect: ,100-continue, 100-Continue\r\nContent-Length: 1",
    "Host: a:000065535",
    "Host: a:65536",
    "Host:",
    "Host: :80",
    r"Host: a\r\nConnection: keep-alive",
    r"Host: a\r\nConnection: keep-alive, close",
    r"Host: a\r\nConnection: upgrade\r\nUpgrade: x",
    r"Host: a\r\nExpect: 100-continue\r\nContent-Length: 0",
    r"Host: a\r\nA:\r\nB: \t\r\nC: \x80\xff\r\nD: d",
];

/// Headers of the PROXY protocol, and lines that the target `proxies` takes as values of fields.
const PROXIES: &[&str] = &[
    r"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\n",
    r"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 0 65535\r\n",
    r"PROXY UNKNOWN ffff::1 ::1 1 2\r\n",
    r"10.0.0.1 4711 80\r\n",
    r"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\x0a\x00\x00\x01\x12\x67\x00\x50",
    r"\xc0\x00\x02\x01\x0a\x00\x00\x01\x12\x67\x00\x50\x20\x00\x05\x01\x00\x00\x00\x00",
    r"\x21\x00\x00\x03\x04\x00\x00",
    r"192.0.2.9, 192.0.2.1:80, [2001:db8::1]:99\nhttp, https\nevil:80\nunknown",
    r#"for="[2001:db8::1]:80";proto=https; host="a:1" ;by=_x;a=b\n10.0.0.1, 10.2.2.2"#,
    r#"for=192.0.2.1, for="\n;proto=http\nfor=unknown;host="\\"\n,,"#,
];

/// Chunked bodies at an edge of the grammar.
const BODIES: &[&str] = &[
    r"0000000000000003\r\nabc\r\n0\r\n\r\n",
    r"00000000000000003\r\nabc\r\n0\r\n\r\n",
    r"ffffffffffffffff\r\nabc",
    r"7fffffffffffffff\r\nabc",
    r"08000000000000000\r\nabc",
    r"\(0*4112)3\r\nabc\r\n0\r\n\r\n",
    r"\(0*4113)3\r\nabc\r\n0\r\n\r\n",
    r"\(0*17)1;\(a*4094)\r\nx\r\n0\r\n\r\n",
    r"\(0*17)1;\(a*4095)\r\nx\r\n0\r\n\r\n",
    r"14\r\n\(a*20)\r\n15\r\n\(a*21)\r\n0\r\n\r\n",
    r"1\rx",
    r"0\r\nA: a\rB: b\r\n\r\n",
    r"0\r\nA: a\r\nB: b\r\nC: c\r\nD: d\r\n\r\n",
    r"0\r\nCookie: a\r\n\r\n",
    r#"1\t;\ta\s=\s"\\"\x80|";b;c=d\r\nx\r\n0\r\n\r\n"#,
    r"1;\(a*4095)\r\nx\r\n0\r\n\r\n",
    r"1;\(a*4096)\r\nx\r\n0\r\n\r\n",
    r"\(1;abc\r\nx\r\n*1024)0\r\n\r\n",
    r"\(1;abc\r\nx\r\n*1024)0;a\r\n\r\n",
];

/// The bytes that the cases send, and the tables above.
///
/// # Panics
/// If a case cannot be read.
pub fn all() -> Vec<Seed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wire");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry of it").path();
        let text = std::fs::read_to_string(&path).expect("a file in UTF-8");
        let file = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
        for case in text.split("\n=== ").skip(1) {
            let (name, lines) = case.split_once('\n').expect("a case has lines");
            for (number, wire) in family(lines).into_iter().enumerate() {
                seeds.push(Seed { name: format!("{file}-{name}-{number:02}"), wire });
            }
        }
    }
    let heads = LINES.iter().map(|line| format!(r"{line}\r\nHost: a\r\n\r\n"));
    let fields = FIELDS.iter().flat_map(|fields| {
        ["1.0", "1.1"].map(|version| format!(r"GET / HTTP/{version}\r\n{fields}\r\n\r\nGET / HTTP/1.1\r\n"))
    });
    const CHUNKED: &str = r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = BODIES.iter().map(|body| format!(r"{CHUNKED}{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let proxies = PROXIES.iter().map(ToString::to_string);
    for (number, text) in heads.chain(fields).chain(bodies).chain(proxies).enumerate() {
        seeds.push(Seed { name: format!("edge-{number:02}"), wire: unescape(&text) });
    }
    seeds.sort_by(|a, b| a.name.cmp(&b.name));
    let mut wires = HashSet::new();
    seeds.retain(|seed| wires.insert(seed.wire.clone()));
    seeds
}

/// The bytes that a case sends, for each of its rows.
fn family(lines: &str) -> Vec<Vec<u8>> {
    let sent_by = |row: Option<&str>| -> Vec<u8> {
        let lines = lines.lines().filter_map(|line| line.strip_prefix('>'));
        let lines = lines.map(|line| match row.map(|row| row.split_once(" | ").ok_or(row)) {
            None => line.to_owned(),
            Some(Err(row)) => line.replace("{}", row),
            Some(Ok((first, second))) => line.replace("{1}", first).replace("{2}", second),
        });
        lines.flat_map(|line| sent(&line)).collect()
    };
    let rows: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    if rows.is_empty() {
        vec![sent_by(None)]
    } else {
        rows.into_iter().map(|row| sent_by(Some(row))).collect()
    }
}

/// The bytes of one line that is sent.
fn sent(line: &str) -> Vec<u8> {
    let line = line.strip_prefix(' ').unwrap_or(line);
    // A backslash at the end joins lines, unless it is escaped.
    match line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 {
        1 => unescape(&line[..line.len() - 1]),
        _ => [unescape(line), b"\r\n".to_vec()].concat(),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let Some((plain, escaped)) = text.split_once('\\') else { return text.as_bytes().to_vec() };
    let (kind, rest) = escaped.split_at(1);
    let (bytes, rest) = match kind {
        "r" => (b"\r".to_vec(), rest),
        "n" => (b"\n".to_vec(), rest),
        "t" => (b"\t".to_vec(), rest),
        "s" => (b" ".to_vec(), rest),
        "\\" => (b"\\".to_vec(), rest),
        "x" => (vec![u8::from_str_radix(&rest[..2], 16).expect("two digits")], &rest[2..]),
        "(" => {
            let (repeated, rest) = rest.split_once(')').expect("a closing parenthesis");
            let (text, times) = repeated.rsplit_once('*').expect("a number of times");
            (unescape(text).repeat(times.parse().expect("a number")), rest)
        }
        _ => panic!("no such escape: \\{kind}"),
    };
    [plain.as_bytes(), &bytes, &unescape(rest)].concat()
}
