//! Inputs to begin with: what the wire cases of `tests/wire` send.
//!
//! Only the lines of a case that are sent matter here (`> text`); the format is explained in `tests/backends/case.rs`.

use std::path::Path;

use crate::SCRIPT;

/// What one case sends.
#[derive(Clone, Debug)]
pub struct Seed {
    /// File and name of the case.
    pub name: String,
    /// All that it sends.
    pub wire: Vec<u8>,
}

/// The scripts that each seed is tried with: all choices at their defaults, and some that vary.
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

    /// The same for the target of bodies alone: what stands behind the first head.
    pub fn body_input(&self, script: &[u8; SCRIPT]) -> Option<Vec<u8>> {
        let end = self.wire.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let body = &self.wire[end..];
        (!body.is_empty()).then(|| [&script[..], body].concat())
    }
}

/// What the cases send.
///
/// # Panics
/// If a case cannot be read.
pub fn all() -> Vec<Seed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry of it").path();
        let text = std::fs::read_to_string(&path).expect("a file in UTF-8");
        let file = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
        for case in text.split("\n=== ").skip(1) {
            let (name, lines) = case.split_once('\n').expect("a case has lines");
            let wire = lines.lines().filter_map(|line| line.strip_prefix('>')).map(sent).collect::<Vec<_>>();
            seeds.push(Seed { name: format!("{file}-{name}"), wire: wire.concat() });
        }
    }
    seeds.sort_by(|a, b| a.name.cmp(&b.name));
    seeds
}

/// The bytes of one line that is sent.
fn sent(line: &str) -> Vec<u8> {
    let line = line.strip_prefix(' ').unwrap_or(line);
    match line.strip_suffix('\\') {
        Some(unended) => unescape(unended),
        None => [unescape(line), b"\r\n".to_vec()].concat(),
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
