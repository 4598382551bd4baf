//! Each wire case sent whole, byte by byte, and with a request behind it. All backends have to answer the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gearshift::{Backend, Config, TestServer};
use libtest_mimic::{Failed, Trial};
use test_support::app;
use test_support::client::{Answer, Client, DATE, masked};

use crate::case::{self, Case, Expected, Parts, Step};

/// How a case is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Each step in one piece.
    Whole,
    /// A byte at a time, or more where a step has thousands of bytes.
    Chopped,
    /// In one piece with another request behind it.
    Followed,
}

/// The maximum number of pieces of a step that is chopped.
const MAX_PIECES: usize = 600;

/// The request that shows whether a connection is still open.
const PROBE: &[u8] = b"GET /json HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
const PROBED: &[u8] = b"{\"message\":\"Hello, World!\"}";

/// One test for each case, or for each family of cases.
pub(crate) fn trials(backend: Backend) -> Vec<Trial> {
    let families = cases().chunk_by(|one, other| one.name == other.name);
    families
        .map(|family| {
            Trial::test(trial_name(backend, &family[0]), move || {
                for case in family {
                    for how in [How::Whole, How::Chopped, How::Followed] {
                        run(case, backend, how).map_err(|why| {
                            let row = case.row.as_deref().unwrap_or_default();
                            Failed::from(format!("{row:.100} sent {how:?}: {why}"))
                        })?;
                    }
                }
                Ok(())
            })
        })
        .collect()
}

/// The name of the test that runs a case on a backend.
pub(crate) fn trial_name(backend: Backend, case: &Case) -> String {
    format!("{backend}::wire::{}", case.name)
}

/// One test for all cases: the answers of all backends are equal byte by byte.
pub(crate) fn same_bytes_everywhere() -> Trial {
    Trial::test("all::wire::same_bytes_everywhere", || {
        for case in cases() {
            let mut first: Option<(Backend, Vec<u8>)> = None;
            for &backend in Backend::available() {
                let bytes = transcript(case, backend)?;
                match &first {
                    None => first = Some((backend, bytes)),
                    Some((other, others)) if *others != bytes => {
                        let (ours, others) = (bytes.escape_ascii(), others.escape_ascii());
                        let (name, row) = (&case.name, &case.row);
                        return Err(format!("{name} {row:?}\n{backend}: {ours}\n{other}: {others}").into());
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    })
}

/// All bytes that a backend answers to a case.
fn transcript(case: &Case, backend: Backend) -> Result<Vec<u8>, String> {
    let mut client = Client::connect(server(backend));
    let mut bytes = Vec::new();
    for step in &case.steps {
        client.send(&step.send);
        if step.half_close {
            client.half_close();
        }
        for expected in &step.answers {
            bytes.extend(take(&mut client, expected).map_err(|why| format!("{}: {why}", case.name))?);
        }
    }
    if case.stays_open {
        client.send(PROBE);
    }
    bytes.extend(client.rest());
    Ok(masked(&bytes))
}

/// Reads an answer of the expected length without checking it.
fn take(client: &mut Client, expected: &Expected) -> Result<Vec<u8>, String> {
    match expected {
        Expected::Parts(parts) => client.try_answer(parts.to_head).map(|answer| answer.raw),
        Expected::Exact(bytes) => client.exactly(bytes.len()),
    }
}

fn run(case: &Case, backend: Backend, how: How) -> Result<(), String> {
    let last = case.steps.len() - 1;
    if how == How::Followed && !case.can_be_followed {
        return Ok(());
    }
    let mut client = Client::connect(server(backend));
    for (number, step) in case.steps.iter().enumerate() {
        let follows = how == How::Followed && number == last;
        send(&mut client, step, how, follows, case.stays_open)?;
        for (nth, expected) in step.answers.iter().enumerate() {
            check_next(&mut client, expected).map_err(|why| format!("answer {}: {why}", nth + 1))?;
        }
    }
    if case.stays_open {
        if how != How::Followed {
            client.send(PROBE);
        }
        let answer = client.try_answer(false).map_err(|why| format!("the request behind it: {why}"))?;
        if answer.status != 200 || answer.body != PROBED {
            return Err(format!("the request behind it was answered {answer:?}"));
        }
    }
    match client.try_end() {
        // A peer that sends after the end of the connection gets a reset.
        Err(why) if how == How::Chopped && why.contains("reset") => Ok(()),
        end => end,
    }
}

fn send(client: &mut Client, step: &Step, how: How, follows: bool, stays_open: bool) -> Result<(), String> {
    let mut bytes = step.send.clone();
    if follows {
        bytes.extend_from_slice(PROBE);
    }
    let piece = match how {
        How::Chopped => bytes.len().div_ceil(MAX_PIECES).max(1),
        _ => bytes.len().max(1),
    };
    for piece in bytes.chunks(piece) {
        match client.socket.write_all(piece) {
            Ok(()) => {}
            // The server may close the connection before the last byte is sent. Its answers have arrived.
            Err(error) if how == How::Chopped && !stays_open && is_closed(&error) => break,
            Err(error) => return Err(format!("sending: {error}")),
        }
    }
    if step.half_close {
        client.half_close();
    }
    Ok(())
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn check_next(client: &mut Client, expected: &Expected) -> Result<(), String> {
    match expected {
        Expected::Parts(parts) => check(&client.try_answer(parts.to_head)?, parts),
        Expected::Exact(bytes) => {
            let got = masked(&client.exactly(bytes.len())?);
            match got == *bytes {
                true => Ok(()),
                false => Err(format!("{}\nshould be {}", got.escape_ascii(), bytes.escape_ascii())),
            }
        }
    }
}

fn check(answer: &Answer, parts: &Parts) -> Result<(), String> {
    let shown = || String::from_utf8_lossy(&answer.raw[..answer.raw.len().min(1000)]).into_owned();
    if answer.status != parts.status {
        return Err(format!("the status is not {}: {:?}", parts.status, shown()));
    }
    for (name, value) in &parts.fields {
        let found: Vec<_> = answer.fields_called(name).collect();
        if found != value.iter().map(String::as_str).collect::<Vec<_>>() {
            return Err(format!("{name} is {found:?} and not {value:?}: {:?}", shown()));
        }
    }
    if answer.body != parts.body {
        let (got, wanted) = (answer.body.escape_ascii(), parts.body.escape_ascii());
        return Err(format!("the body is \"{got:.300}\" and not \"{wanted:.300}\": {:?}", shown()));
    }
    if answer.trailers != parts.trailers {
        let (got, wanted) = (&answer.trailers, &parts.trailers);
        return Err(format!("the trailers are {got:?} and not {wanted:?}: {:?}", shown()));
    }
    check_always(answer).map_err(|why| format!("{why}: {:?}", shown()))
}

/// Checks the properties that every answer has.
fn check_always(answer: &Answer) -> Result<(), String> {
    let count = |name| answer.fields_called(name).count();
    let (length, encoding) = (count("Content-Length"), count("Transfer-Encoding"));
    let fine = match answer.status {
        100 | 102..200 => answer.fields.is_empty(),
        101 | 204 => length == 0 && encoding == 0,
        _ => length + encoding <= 1,
    };
    if !fine {
        return Err("its framing fields are wrong".into());
    }
    if answer.status >= 200 {
        let is_dated = answer.field("Date").is_some_and(is_date);
        if count("Date") != 1 || !is_dated || count("Server") != 1 {
            return Err("its Date or Server is wrong".into());
        }
    }
    Ok(())
}

/// Whether a date has the form of IMF-fixdate (RFC 9110, 5.6.7).
fn is_date(date: &str) -> bool {
    date.len() == DATE.len()
        && date.ends_with(" GMT")
        && date.bytes().zip(DATE.bytes()).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b'a'..=b'z' => byte.is_ascii_lowercase(),
            b'A'..=b'Z' => byte.is_ascii_uppercase(),
            _ => byte == shape,
        })
}

/// All cases. The members of a family follow each other.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(case::all)
}

/// The server of a backend that all cases share. It runs for as long as the process does.
fn server(backend: Backend) -> SocketAddr {
    type Servers = BTreeMap<&'static str, Arc<OnceLock<SocketAddr>>>;
    static SERVERS: Mutex<Servers> = Mutex::new(BTreeMap::new());
    let slot =
        SERVERS.lock().unwrap_or_else(PoisonError::into_inner).entry(backend.name()).or_default().clone();
    *slot.get_or_init(|| {
        let mut config = Config::default();
        // The preface of HTTP/2 is a case, and its refusal the same everywhere.
        config.http2.enabled = false;
        // No timeout should close a connection of a case.
        (config.keep_alive, config.header_timeout) = (Duration::from_secs(600), Duration::from_secs(600));
        config.limits.body = 512 * 1024;
        let server = TestServer::with_config(backend, config, app::app()).expect("the server starts");
        Box::leak(Box::new(server)).addr()
    })
}
