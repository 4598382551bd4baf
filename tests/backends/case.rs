//! Wire cases: requests and the expected answers, read from the files of `tests/wire`.
//!
//! ```text
//! rule a response says how long it is (RFC 9112, 6.3)
//!
//! === a_name_for_the_case
//! # A comment, preferably a citation.
//! > GET /plaintext HTTP/1.1
//! > Host: test
//! >
//! < 200
//! < Content-Length: 13
//! < no Connection
//! = Hello, World!
//! open
//!
//! === a_name_for_a_family
//! | GE(T
//! | GE[T
//! > {} / HTTP/1.1
//! > Host: test
//! >
//! ! 400 the method is not a token
//! ```
//!
//! | line | means |
//! | --- | --- |
//! | `rule text (RFC n, section)` | the rule that the following cases belong to |
//! | `\| text` | one case for each such line, with its text in place of each `{}` |
//! | `\| text \| text` | the same with two texts, in place of each `{1}` and `{2}` |
//! | `> text` | sends the text and CR LF; a `\` at the end suppresses the line end |
//! | `half-close` | closes the sending side once the lines before it are sent |
//! | `< 200`, `< 200 to HEAD` | an answer begins; an answer to HEAD has no body, whatever its fields say |
//! | `< Name: value` | the answer has this field once, with this value |
//! | `< no Name` | the answer has no such field |
//! | `= text` | the body, without line ends and chunks; several lines are joined; without such a line it is empty |
//! | `+ Name: value` | a trailer field of the answer; without such a line it has none |
//! | `<< text` | the exact bytes of an answer, with CR LF as above; `Date: *` stands for any date |
//! | `alone` | the case is not tried with a request behind it, whose bytes would be read as the missing body |
//! | `open`, `closed` | whether the connection stays open or closes at once; the case ends |
//! | `! 400 text`, `! 400 to HEAD text` | the peer is refused with this text, and the connection closes; the case ends |
//!
//! In all texts `\r`, `\n`, `\t`, `\\`, `\s` (a space) and `\xHH` are bytes, and `\(text*N)` is the text N times.
//! Lines to send that follow an answer are sent once that answer has been received.

use std::path::Path;

use test_support::client::DATE;

/// A single case, or one member of a family.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The name of its file and its own name, which all members of a family share.
    pub(crate) name: String,
    /// The row of a family, if it is a member of one.
    pub(crate) row: Option<String>,
    pub(crate) rule: Rule,
    pub(crate) steps: Vec<Step>,
    pub(crate) stays_open: bool,
    /// Whether another request may be sent directly behind it.
    pub(crate) can_be_followed: bool,
}

/// A rule for servers, and the section of the RFC that it is written in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    /// For example `RFC 9112, 3.2`.
    pub(crate) section: String,
    pub(crate) text: String,
}

/// Bytes to send, and the answers to wait for afterwards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) send: Vec<u8>,
    pub(crate) half_close: bool,
    pub(crate) answers: Vec<Expected>,
}

/// An expected answer.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Parts(Parts),
    /// Exactly these bytes, with [`DATE`] in place of any date.
    Exact(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) status: u16,
    pub(crate) to_head: bool,
    /// Expected fields. `None` stands for a field that must be absent.
    pub(crate) fields: Vec<(String, Option<String>)>,
    pub(crate) body: Vec<u8>,
    /// All trailer fields, in their order.
    pub(crate) trailers: Vec<(String, String)>,
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

/// The lines of a case or a family, as they are in the file.
struct Draft<'a> {
    name: String,
    rule: Rule,
    rows: Vec<&'a str>,
    /// The lines with their numbers.
    lines: Vec<(usize, &'a str)>,
}

fn read(path: &Path) -> Vec<Case> {
    let file = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8");
    let text = std::fs::read_to_string(path).expect("a file in UTF-8");
    let mut cases: Vec<Case> = Vec::new();
    let mut rule: Option<Rule> = None;
    let mut draft: Option<Draft<'_>> = None;
    for (number, line) in text.lines().enumerate() {
        let at = || format!("{}:{}: {line}", path.display(), number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(text) = line.strip_prefix("rule ") {
            assert!(draft.is_none(), "{}: within a case", at());
            rule = Some(Rule::parse(text).unwrap_or_else(|| panic!("{}: not `text (RFC n, section)`", at())));
            continue;
        }
        if let Some(name) = line.strip_prefix("=== ") {
            assert!(draft.is_none(), "{}: the case before has no end", at());
            let name = format!("{file}::{name}");
            assert!(cases.iter().all(|case| case.name != name), "{}: twice", at());
            let rule = rule.clone().unwrap_or_else(|| panic!("{}: a case of no rule", at()));
            draft = Some(Draft { name, rule, rows: Vec::new(), lines: Vec::new() });
            continue;
        }
        let case = draft.as_mut().unwrap_or_else(|| panic!("{}: outside a case", at()));
        match line.strip_prefix("| ") {
            Some(row) => case.rows.push(row),
            None => case.lines.push((number + 1, line)),
        }
        if matches!(line, "open" | "closed") || line.starts_with("! ") {
            let at = |number| format!("{}:{number}", path.display());
            cases.extend(draft.take().into_iter().flat_map(|draft| draft.cases(at)));
        }
    }
    assert!(draft.is_none(), "{}: the last case has no end", path.display());
    cases
}

impl Rule {
    fn parse(line: &str) -> Option<Rule> {
        let (text, section) = line.strip_suffix(')')?.rsplit_once(" (")?;
        let (document, number) = section.split_once(", ")?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_number(document.strip_prefix("RFC ")?) && is_number(number))
            .then(|| Rule { section: section.to_owned(), text: text.to_owned() })
    }
}

impl Draft<'_> {
    fn cases(self, at: impl Fn(usize) -> String) -> Vec<Case> {
        if self.rows.is_empty() {
            return vec![self.case(None, &at)];
        }
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), self.rows.len(), "{}: a row is there twice", self.name);
        self.rows.iter().map(|&row| self.case(Some(row), &at)).collect()
    }

    fn case(&self, row: Option<&str>, at: impl Fn(usize) -> String) -> Case {
        let mut case = Case {
            name: self.name.clone(),
            row: row.map(str::to_owned),
            rule: self.rule.clone(),
            steps: vec![Step::default()],
            stays_open: false,
            can_be_followed: true,
        };
        for &(number, line) in &self.lines {
            let line = match row {
                None => line.to_owned(),
                Some(row) => match row.split_once(" | ") {
                    None => line.replace("{}", row),
                    Some((first, second)) => line.replace("{1}", first).replace("{2}", second),
                },
            };
            case.take_line(&line).unwrap_or_else(|| panic!("{}: no such line: {line}", at(number)));
        }
        assert!(case.steps.iter().any(|step| !step.send.is_empty()), "{}: nothing is sent", self.name);
        case
    }
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
            "open" | "closed" => self.stays_open = sign == "open",
            "!" => last.answers.push(Expected::Parts(refusal(rest)?)),
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
                let parts =
                    Parts { status, to_head, fields: Vec::new(), body: Vec::new(), trailers: Vec::new() };
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
            "+" => {
                let Some(Expected::Parts(parts)) = last.answers.last_mut() else { return None };
                let (name, value) = rest.split_once(": ")?;
                parts.trailers.push((name.to_owned(), value.to_owned()));
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

/// The expected answer to a request that is refused.
fn refusal(line: &str) -> Option<Parts> {
    let (status, text) = line.split_once(' ')?;
    let (to_head, text) = text.strip_prefix("to HEAD ").map_or((false, text), |text| (true, text));
    let fields = [
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Length", text.len().to_string()),
        ("Connection", "close".to_owned()),
    ];
    Some(Parts {
        status: status.parse().ok()?,
        to_head,
        fields: fields.map(|(name, value)| (name.to_owned(), Some(value))).into(),
        body: if to_head { Vec::new() } else { text.as_bytes().to_vec() },
        trailers: Vec::new(),
    })
}

/// Appends the bytes of a line, with its line end unless it is suppressed.
fn line_of_bytes(into: &mut Vec<u8>, text: &str) -> Option<()> {
    if text == "Date: *" {
        into.extend_from_slice(format!("Date: {DATE}\r\n").as_bytes());
        return Some(());
    }
    // A pair of backslashes is an escaped backslash, so only an odd number suppresses the line end.
    let slashes = text.bytes().rev().take_while(|&byte| byte == b'\\').count();
    match slashes % 2 {
        1 => unescape(into, &text[..text.len() - 1]),
        _ => {
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
