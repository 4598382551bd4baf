//! The trace to which a request belongs: the fields `traceparent` and `tracestate` of the W3C Trace Context.
//!
//! A `traceparent` that is not exactly as the recommendation demands is ignored, as is one that occurs twice. Without a
//! valid `traceparent`, `tracestate` is ignored, and a `tracestate` that is invalid is ignored alone.

use std::collections::HashSet;
use std::fmt;

use http::{HeaderMap, HeaderValue};

use crate::proto::request::Request;

/// The largest number of members of `tracestate`.
const MAX_MEMBERS: usize = 32;
/// The flags that are passed on: sampled, and random of level 2. The others are reserved and must be 0.
const KNOWN_FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b1;

/// The trace to which a request belongs, as its client has sent it (W3C Trace Context).
///
/// [`Request::trace_context`] reads it. An outgoing request that belongs to the same trace carries
/// [`TraceContext::traceparent`] and [`TraceContext::tracestate`]. An application with OpenTelemetry sends the span in
/// which it works instead, with the propagator of that crate.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::Request;
/// use gearshift::trace::TraceContext;
///
/// let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let request = Request::get("/").with_header("traceparent", value);
/// let context: TraceContext = request.trace_context().expect("it is valid");
/// assert_eq!(context.trace_id(), 0x0af7651916cd43dd8448eb211c80319c);
/// assert!(context.is_sampled());
/// // For the request to another service.
/// assert_eq!(context.traceparent(), value);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    /// The members of `tracestate`, as one valid value.
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the fields of a request of the `http` crate. `None` without a valid `traceparent`.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::HeaderMap;
    /// use gearshift::trace::TraceContext;
    ///
    /// assert_eq!(TraceContext::of(&HeaderMap::new()), None);
    /// ```
    pub fn of(headers: &HeaderMap) -> Option<TraceContext> {
        let values = |name| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        TraceContext::read(values("traceparent"), values("tracestate"))
    }

    fn read<'a>(
        mut parents: impl Iterator<Item = &'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Option<TraceContext> {
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        let mut context = parse_parent(parent)?;
        context.state = parse_state(states).map(String::into_boxed_str);
        Some(context)
    }

    /// The number of the trace; not 0.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The number of the span of the client that has sent the request; not 0.
    pub fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// Whether the client may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent` for an outgoing request, in version 00. It names the same parent as that of the
    /// request, because only a tracer makes spans.
    pub fn traceparent(&self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).expect("digits and hyphens are valid")
    }

    /// The value of `tracestate` for an outgoing request; `None` if there is no state.
    pub fn tracestate(&self) -> Option<HeaderValue> {
        self.state.as_deref().map(|state| HeaderValue::from_str(state).expect("the members were checked"))
    }
}

/// The value of `traceparent`, see [`TraceContext::traceparent`].
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace_id, parent_id, flags, .. } = self;
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }
}

impl Request {
    /// Returns the trace to which the request belongs, if it has a valid `traceparent`.
    pub fn trace_context(&self) -> Option<TraceContext> {
        let values = |name| self.headers().get_all(name);
        TraceContext::read(values("traceparent"), values("tracestate"))
    }
}

/// Reads `VERSION-TRACE-PARENT-FLAGS`. Later versions may have more behind it.
fn parse_parent(value: &[u8]) -> Option<TraceContext> {
    const LEN: usize = 55;
    let (known, rest) = value.split_at_checked(LEN)?;
    let known = std::str::from_utf8(known).ok()?;
    let mut parts = known.split('-');
    let mut next = |len| parts.next().filter(|part| part.len() == len && is_lower_hex(part));
    let version = u8::from_str_radix(next(2)?, 16).ok()?;
    let trace_id = u128::from_str_radix(next(32)?, 16).ok()?;
    let parent_id = u64::from_str_radix(next(16)?, 16).ok()?;
    let flags = u8::from_str_radix(next(2)?, 16).ok()?;
    let is_end = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => matches!(rest, [] | [b'-', ..]),
    };
    let is_valid = is_end && trace_id != 0 && parent_id != 0;
    is_valid.then_some(TraceContext { trace_id, parent_id, flags: flags & KNOWN_FLAGS, state: None })
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Joins the members of all fields. `None` if there are none, or if one is invalid.
fn parse_state<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut state = String::new();
    let mut keys = HashSet::new();
    for value in values {
        let value = std::str::from_utf8(value).ok()?;
        for member in value.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || !keys.insert(key) || keys.len() > MAX_MEMBERS {
                return None;
            }
            if !state.is_empty() {
                state.push(',');
            }
            state.push_str(member);
        }
    }
    (!state.is_empty()).then_some(state)
}

/// `KEY`, or `TENANT@SYSTEM`.
fn is_key(key: &str) -> bool {
    let is_of = |text: &str, begins: fn(u8) -> bool, max: usize| {
        let is_inner = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        (1..=max).contains(&text.len()) && begins(text.as_bytes()[0]) && text.bytes().all(is_inner)
    };
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match key.split_once('@') {
        None => is_of(key, is_letter, 256),
        Some((tenant, system)) => is_of(tenant, is_letter_or_digit, 241) && is_of(system, is_letter, 14),
    }
}

fn is_value(value: &str) -> bool {
    let is_inner = |byte| matches!(byte, b' '..=b'~') && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(is_inner) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn context(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let (parents, states) = (bytes(parents), bytes(states));
        TraceContext::read(parents.iter().map(Vec::as_slice), states.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_traceparent_is_read_or_ignored() {
        let valid = format!("00-{TRACE}-{PARENT}-01");
        for (value, expected) in [
            (valid.clone(), Some(valid.clone())),
            (format!("00-{TRACE}-{PARENT}-00"), Some(format!("00-{TRACE}-{PARENT}-00"))),
            // Reserved flags are not passed on.
            (format!("00-{TRACE}-{PARENT}-ff"), Some(format!("00-{TRACE}-{PARENT}-03"))),
            // A later version is passed on as the one that is known.
            (format!("01-{TRACE}-{PARENT}-01"), Some(valid.clone())),
            (format!("cc-{TRACE}-{PARENT}-01-what the future will be like"), Some(valid.clone())),
            (format!("01-{TRACE}-{PARENT}-01-"), Some(valid.clone())),
            (format!("01-{TRACE}-{PARENT}-01.x"), None),
            (format!("ff-{TRACE}-{PARENT}-01"), None),
            (format!("00-{TRACE}-{PARENT}-01-x"), None),
            (format!("00-{TRACE}-{PARENT}-01-"), None),
            (format!("00-{TRACE}-{PARENT}-1"), None),
            (format!("0-{TRACE}-{PARENT}-011"), None),
            (format!("00-{TRACE}-{PARENT}_01"), None),
            (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{}-01", PARENT.to_uppercase()), None),
            (format!("00-{TRACE}-{PARENT}-0A"), None),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-+{}-{PARENT}-01", &TRACE[1..]), None),
            (format!("00-{}-{PARENT}-01", &TRACE[1..]), None),
            (format!(" {valid}"), None),
            (format!("{valid} "), None),
            (format!("00-{TRACE}-{}é-01", &PARENT[2..]), None),
            (String::new(), None),
        ] {
            let read = context(&[&value], &[]).map(|context| context.to_string());
            assert_eq!(read, expected, "{value}");
        }
        assert_eq!(context(&[], &[]), None);
        assert_eq!(context(&[&valid, &valid], &[]), None, "it occurs twice");
    }

    #[test]
    fn a_tracestate_is_read_or_ignored() {
        let parent = format!("00-{TRACE}-{PARENT}-01");
        let many = |n: usize| (0..n).map(|nth| format!("k{nth}=v")).collect::<Vec<_>>().join(",");
        let (most, too_many) = (many(32), many(33));
        let long = format!("a={}", "v".repeat(257));
        for (values, expected) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1, b=2\t,,", "", "0t@s=x y"], Some("a=1,b=2,0t@s=x y")),
            (&["a_-*/0= ~"], Some("a_-*/0= ~")),
            (&[most.as_str()], Some(most.as_str())),
            (&[too_many.as_str()], None),
            (&[long.as_str()], None),
            (&["a=1", "a=2"], None),
            (&["a"], None),
            (&["a="], None),
            (&["=1"], None),
            (&["A=1"], None),
            (&["0=1"], None),
            (&["a=1=2"], None),
            (&["a=\u{e9}"], None),
            (&["t@=1"], None),
            (&["t@0=1"], None),
            (&["t@fifteen-letters=1"], None),
            (&[""], None),
            (&[], None),
        ] {
            let state = context(&[&parent], values).expect("the parent is valid").tracestate();
            assert_eq!(state.as_ref().map(|state| state.to_str().unwrap()), expected, "{values:?}");
        }
        assert_eq!(context(&["00"], &["a=1"]), None, "a state needs a parent");
    }
}
