//! Wire cases: bytes that are sent and what is answered, as they stand in the files of `tests/wire`.
//!
//! ```text
//! === a_name_for_the_case
//! # A comment, best one that cites.
//! > GET /plaintext HTTP/1.1
//! > Host: test
//! >
//! < 200
//! < Content-Length: 13
//! < no Connection
//! = Hello, World!
//! open
//! ```
//!
//! | line | means |
//! | --- | --- |
//! | `> text` | sends the text and CR LF; one that ends in `\` sends no line end |
//! | `half-close` | shuts the sending side, when all before it is sent |
//! | `< 200`, `< 200 to HEAD` | an answer begins; the second has no body, whatever its fields say |
//! | `< Name: value` | it has this field once, with this value |
//! | `< no Name` | it has no such field |
//! | `= text` | its body, without line ends and chunks; several such lines are joined; none: it is empty |
//! | `<< text` | the very bytes of an answer, and CR LF as above; `Date: *` stands for any date |
//! | `alone` | the case is not tried with a request behind it, whose bytes would be those of an unsent body |
//! | `open`, `closed` | what becomes of the connection, at once; the case ends |
//!
//! In all texts `\r`, `\n`, `\t`, `\\`, `\s` (a space) and `\xHH` are bytes, and `\(text*N)` is the text N times.
//! When lines to send follow those of an answer, they are sent once that answer is there.

use std::path::Path;

use crate::client::DATE;

/// A case, with the name of the file it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) stays_open: bool,
    /// Whether another request may be sent right behind it.
    pub(crate) can_be_followed: bool,
}

/// Something is sent, then answers are awaited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) send: Vec<u8>,
    pub(crate) half_close: bool,
    pub(crate) answers: Vec<Expected>,
}

/// What an answer has to be.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Parts(Parts),
    /// These bytes, with [`DATE`] where any date may be.
    Exact(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) status: u16,
    pub(crate) to_head: bool,
    /// `None`: there is no such field.
    pub(crate) fields: Vec<(String, Option<String>)>,
    pub(crate) body: Vec<u8>,
}

/// Reads all files of `tests/wire`, in the order of their names.
pub(crate) fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are no cases in {}", folder.display());
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let file = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8");
    let text = std::fs::read_to_string(path).expect("a file in UTF-8");
    let mut cases: Vec<Case> = Vec::new();
    let mut draft: Option<Case> = None;
    for (number, line) in text.lines().enumerate() {
        let at = || format!("{}:{}: {line}", path.display(), number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("=== ") {
            assert!(draft.is_none(), "{}: the case before has no end", at());
            let name = format!("{file}::{name}");
            assert!(cases.iter().all(|case| case.name != name), "{}: twice", at());
            draft =
                Some(Case { name, steps: vec![Step::default()], stays_open: false, can_be_followed: true });
            continue;
        }
        let case = draft.as_mut().unwrap_or_else(|| panic!("{}: outside a case", at()));
        match line {
            "open" | "closed" => {
                case.stays_open = line == "open";
                assert!(case.steps.iter().any(|step| !step.send.is_empty()), "{}: nothing is sent", at());
                cases.extend(draft.take());
            }
            _ => case.take_line(line).unwrap_or_else(|| panic!("{}: no such line", at())),
        }
    }
    assert!(draft.is_none(), "{}: the last case has no end", path.display());
    cases
}

impl Case {
    fn take_line(&mut self, line: &str) -> Option<()> {
        let last = self.steps.last_mut()?;
        let (sign, rest) = line.split_once(' ').unwrap_or((line, ""));
        match sign {
            ">" if last.answers.is_empty() => line_of_bytes(&mut last.send, rest)?,
            ">" => {
                let mut step = Step::default();
                line_of_bytes(&mut step.send, rest)?;
                self.steps.push(step);
            }
            "half-close" => {
                last.half_close = true;
                self.can_be_followed = false;
            }
            "alone" => self.can_be_followed = false,
            "<<" => match last.answers.last_mut() {
                Some(Expected::Exact(bytes)) => line_of_bytes(bytes, rest)?,
                _ => {
                    let mut bytes = Vec::new();
                    line_of_bytes(&mut bytes, rest)?;
                    last.answers.push(Expected::Exact(bytes));
                }
            },
            "<" if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                let (status, to_head) = match rest.strip_suffix(" to HEAD") {
                    Some(status) => (status, true),
                    None => (rest, false),
                };
                let status = status.parse().ok()?;
                let parts = Parts { status, to_head, fields: Vec::new(), body: Vec::new() };
                last.answers.push(Expected::Parts(parts));
            }
            "<" => {
                let Some(Expected::Parts(parts)) = last.answers.last_mut() else { return None };
                parts.fields.push(match rest.strip_prefix("no ") {
                    Some(name) => (name.to_owned(), None),
                    None => {
                        let (name, value) = rest.split_once(": ")?;
                        (name.to_owned(), Some(value.to_owned()))
                    }
                });
            }
            "=" => {
                let Some(Expected::Parts(parts)) = last.answers.last_mut() else { return None };
                unescape(&mut parts.body, rest)?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Appends the bytes of a line, and its line end.
fn line_of_bytes(into: &mut Vec<u8>, text: &str) -> Option<()> {
    if text == "Date: *" {
        into.extend_from_slice(format!("Date: {DATE}\r\n").as_bytes());
        return Some(());
    }
    match text.strip_suffix('\\') {
        Some(text) => unescape(into, text),
        None => {
            unescape(into, text)?;
            into.extend_from_slice(b"\r\n");
            Some(())
        }
    }
}

fn unescape(into: &mut Vec<u8>, text: &str) -> Option<()> {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        into.extend_from_slice(plain.as_bytes());
        let kind = escaped.chars().next()?;
        rest = &escaped[kind.len_utf8()..];
        match kind {
            'r' => into.push(b'\r'),
            'n' => into.push(b'\n'),
            't' => into.push(b'\t'),
            's' => into.push(b' '),
            '\\' => into.push(b'\\'),
            'x' => {
                into.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
            '(' => {
                let (repeated, after) = rest.split_once(')')?;
                let (text, times) = repeated.rsplit_once('*')?;
                let mut once = Vec::new();
                unescape(&mut once, text)?;
                into.extend(once.repeat(times.parse().ok()?));
                rest = after;
            }
            _ => return None,
        }
    }
    into.extend_from_slice(rest.as_bytes());
    Some(())
}
