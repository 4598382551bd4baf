//! Request targets (RFC 9112, 3.2) and hosts, by the rules of RFC 3986.

use super::cursor::{Cursor, Parse, Stop, is};

/// The path of a target that is valid for its method; `*` and an authority are their own paths.
pub(crate) fn path<'a>(method: &[u8], target: &'a [u8]) -> Option<&'a [u8]> {
    match target {
        // Method names are case-sensitive (RFC 9110, 9.1), and `CONNECT` has a separate form.
        _ if method == b"CONNECT" => is_authority_form(target).then_some(target),
        b"*" => (method == b"OPTIONS").then_some(target),
        [b'/', ..] => path_and_query(target),
        _ => absolute_form(target),
    }
}

/// `Host = uri-host [ ":" port ]` (RFC 9110, 7.2). Policy: it is not empty (docs/strictness.md, Host).
pub(crate) fn is_host_field(value: &[u8]) -> bool {
    host_and_port(value).is_some()
}

/// `authority-form = uri-host ":" port`, and the port is not empty (RFC 9110, 9.3.6).
fn is_authority_form(target: &[u8]) -> bool {
    matches!(host_and_port(target), Some(Some([_, ..])))
}

/// `absolute-form` of an `http` or `https` URL.
fn absolute_form(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|&byte| byte == b':')?;
    let scheme = target[..colon].to_ascii_lowercase();
    let rest = target[colon + 1..].strip_prefix(b"//")?;
    if scheme != b"http" && scheme != b"https" {
        return None;
    }
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    host_and_port(authority)?;
    match rest {
        [b'/', ..] => path_and_query(rest),
        [] => Some(b"/"),
        [b'?', query @ ..] => is(query, characters(query_extra)).then_some(b"/"),
        _ => None,
    }
}

/// `absolute-path [ "?" query ]`: its path.
fn path_and_query(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'?').unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(end);
    let query = query.get(1..).unwrap_or_default();
    (is(path, characters(path_extra)) && is(query, characters(query_extra))).then_some(path)
}

/// Policy: browsers send `|`, `[` and `]` in paths as they are (docs/strictness.md, Target).
fn path_extra(byte: u8) -> bool {
    b"/|[]".contains(&byte)
}

/// Policy: and more than these in queries, where `%` may also stand for itself.
fn query_extra(byte: u8) -> bool {
    b"/?|[]{}\\^`%".contains(&byte)
}

/// `*( pchar / extra )`, where `pchar = unreserved / pct-encoded / sub-delims / ":" / "@"` (RFC 3986, 3.3).
fn characters<'a>(extra: fn(u8) -> bool) -> impl FnOnce(&mut Cursor<'a>) -> Parse<()> {
    move |cursor| {
        while !cursor.is_at_end() {
            match cursor.peek()? {
                byte if extra(byte) => cursor.one(extra).map(drop)?,
                b'%' => percent_encoded(cursor)?,
                _ => cursor
                    .one(|byte| unreserved(byte) || sub_delimiter(byte) || byte == b':' || byte == b'@')
                    .map(drop)?,
            }
        }
        Ok(())
    }
}

/// `"%" HEXDIG HEXDIG`.
fn percent_encoded(cursor: &mut Cursor<'_>) -> Parse<()> {
    cursor.text(b"%")?;
    cursor.one(|byte| byte.is_ascii_hexdigit())?;
    cursor.one(|byte| byte.is_ascii_hexdigit()).map(drop)
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn sub_delimiter(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}

/// `host [ ":" port ]`, without user information (RFC 9110, 4.2.4), and with a host that is not empty (4.2.1). Gives
/// the port, if there is a colon.
fn host_and_port(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let end = match bytes {
        [b'[', ..] => bytes.iter().position(|&byte| byte == b']')? + 1,
        _ => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
    };
    let (host, port) = bytes.split_at(end);
    let is_host = match host {
        [b'[', address @ .., b']'] => is_ipv6(address) || is(address, ip_future),
        _ => !host.is_empty() && is(host, registered_name),
    };
    match port {
        _ if !is_host => None,
        [] => Some(None),
        [b':', digits @ ..] => is_port(digits).then_some(Some(digits)),
        _ => None,
    }
}

/// `*( unreserved / pct-encoded / sub-delims )`, which an IPv4 address is, too. Policy: no comma, by which two hosts
/// are joined to one (docs/strictness.md, Host).
fn registered_name(cursor: &mut Cursor<'_>) -> Parse<()> {
    while !cursor.is_at_end() {
        match cursor.peek()? {
            b'%' => percent_encoded(cursor)?,
            b',' => return Err(Stop::Wrong),
            _ => cursor.one(|byte| unreserved(byte) || sub_delimiter(byte)).map(drop)?,
        }
    }
    Ok(())
}

/// `IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )` (RFC 3986, 3.2.2).
fn ip_future(cursor: &mut Cursor<'_>) -> Parse<()> {
    cursor.one(|byte| byte.eq_ignore_ascii_case(&b'v'))?;
    cursor.some(|byte| byte.is_ascii_hexdigit())?;
    cursor.text(b".")?;
    cursor.some(|byte| unreserved(byte) || sub_delimiter(byte) || byte == b':').map(drop)
}

/// `*DIGIT`; policy: one that there can be (docs/strictness.md, Host).
fn is_port(digits: &[u8]) -> bool {
    let significant = &digits[digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len())..];
    digits.iter().all(u8::is_ascii_digit)
        && (significant.len() < 5 || significant.len() == 5 && significant <= &b"65535"[..])
}

/// `IPv6address` (RFC 3986, 3.2.2): eight groups, or fewer with one `::`; the last two may be an IPv4 address.
fn is_ipv6(address: &[u8]) -> bool {
    let gap = address.windows(2).position(|pair| pair == b"::");
    let count = match gap {
        None => groups(address, true).filter(|count| *count == 8),
        Some(at) => match (groups(&address[..at], false), groups(&address[at + 2..], true)) {
            (Some(before), Some(after)) if before + after <= 7 => Some(before + after),
            _ => None,
        },
    };
    count.is_some()
}

/// The number of groups in `[ h16 *( ":" h16 ) ]`.
fn groups(bytes: &[u8], may_end_in_ipv4: bool) -> Option<usize> {
    if bytes.is_empty() {
        return Some(0);
    }
    let groups: Vec<&[u8]> = bytes.split(|&byte| byte == b':').collect();
    let mut count = 0;
    for (number, group) in groups.iter().enumerate() {
        let is_last = number + 1 == groups.len();
        count += match group.len() {
            1..=4 if group.iter().all(u8::is_ascii_hexdigit) => 1,
            _ if is_last && may_end_in_ipv4 && is_ipv4(group) => 2,
            _ => return None,
        };
    }
    Some(count)
}

/// Four `dec-octet`s, none with a leading zero.
fn is_ipv4(bytes: &[u8]) -> bool {
    let octets: Vec<&[u8]> = bytes.split(|&byte| byte == b'.').collect();
    let is_octet = |octet: &&[u8]| match octet {
        [digit] => digit.is_ascii_digit(),
        [b'1'..=b'9', digit] => digit.is_ascii_digit(),
        [b'1', tens, ones] => tens.is_ascii_digit() && ones.is_ascii_digit(),
        [b'2', b'0'..=b'4', ones] => ones.is_ascii_digit(),
        [b'2', b'5', b'0'..=b'5'] => true,
        _ => false,
    };
    octets.len() == 4 && octets.iter().all(is_octet)
}
