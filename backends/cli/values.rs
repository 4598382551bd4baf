//! The values of flags: durations, sizes, numbers and keywords.

use std::time::Duration;

use gearshift_core::{Bind, ForwardedField, Limits, OnDisconnect, Overload};
use nix::unistd::{Group, User};

use super::process_flags::MAX_PROCESSES;

/// Reads the time of a flag: `5` or `5s`, `500ms`, `2m`, `1h`, or `never`, which is [`Duration::MAX`]. For the flags of a
/// program, so that all of its times have one format.
///
/// ```
/// use std::time::Duration;
///
/// #[derive(clap::Args)]
/// struct Flags {
///     /// How often prices are loaded
///     #[arg(long, value_name = "TIME", default_value = "1m", value_parser = gearshift::cli::duration)]
///     load_interval: Duration,
/// }
/// # let _: fn(Flags) -> Duration = |flags| flags.load_interval;
///
/// assert_eq!(gearshift::cli::duration("500ms"), Ok(Duration::from_millis(500)));
/// ```
///
/// # Errors
/// The text is no time, or longer than a year. The message says which.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "never" {
        return Ok(Duration::MAX);
    }
    let (number, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("'{unit}' is not a unit of time: ms, s, m or h")),
    };
    let number: u64 =
        number.parse().map_err(|_| "not a duration such as 5, 5s, 500ms, 2m or never".to_owned())?;
    // A longer time is more likely a mistake than a limit.
    match number.checked_mul(millis).filter(|millis| *millis <= 365 * 24 * 3_600_000) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err("longer than a year; write never for no limit".to_owned()),
    }
}

/// Reads a duration that is not zero.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("is 0; write never for no limit".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Reads a number of bytes that a `T` can hold: `4096`, `64k`, `64KiB`, `2g`, `2GiB`; units are powers of 1,024. For the
/// flags of a program, so that all of its sizes have one format.
///
/// ```
/// assert_eq!(gearshift::cli::size("64k"), Ok(65_536_usize));
/// ```
///
/// # Errors
/// The text is no size, or a `T` is too small for it. The message says which.
pub fn size<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("'{unit}' is not a unit of size: k, m or g")),
    };
    let number: u64 = number.parse().map_err(|_| "not a size such as 4096, 64k or 2GiB".to_owned())?;
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| T::try_from(bytes).ok());
    bytes.ok_or_else(|| "too large".to_owned())
}

/// Reads an address to listen on. Spaces before it, such as those after a comma, are ignored.
pub(crate) fn bind(text: &str) -> Result<Bind, String> {
    text.trim_start().parse().map_err(|error: std::io::Error| error.to_string())
}

/// Reads a number that is at least 1.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("not a number of 1 or more".to_owned()),
    }
}

/// Reads a number of processes: from 1 to [`MAX_PROCESSES`].
pub(crate) fn processes(text: &str) -> Result<usize, String> {
    bounded(text.parse().map_err(|_| "not a number".to_owned())?, MAX_PROCESSES)
}

/// Reads the permissions of a file, in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "not three octal digits such as 660".to_owned())
}

/// Reads the number of a user, or looks up the number of a name.
pub(crate) fn user(text: &str) -> Result<u32, String> {
    id(text, "user", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// Reads the number of a group, or looks up the number of a name.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    id(text, "group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn id(text: &str, kind: &str, look_up: impl Fn(&str) -> nix::Result<Option<u32>>) -> Result<u32, String> {
    match text.parse() {
        // The system takes this number for no user and no group.
        Ok(u32::MAX) => Err(format!("not the number of a {kind}")),
        Ok(number) => Ok(number),
        Err(_) => look_up(text).map_err(|error| error.to_string())?.ok_or(format!("there is no such {kind}")),
    }
}

/// Reads a log level.
pub(crate) fn level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "not off, error, warn, info, debug or trace".to_owned())
}

/// Reads the policy for connections or jobs beyond a limit.
pub(crate) fn overload(text: &str) -> Result<Overload, String> {
    match text {
        "wait" => Ok(Overload::Wait),
        "refuse" => Ok(Overload::Refuse),
        _ => Err("not wait or refuse".to_owned()),
    }
}

/// Reads the policy for a handler whose peer disconnects.
pub(crate) fn on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text {
        "cancel" => Ok(OnDisconnect::Cancel),
        "detach" => Ok(OnDisconnect::Detach),
        "ignore" => Ok(OnDisconnect::Ignore),
        _ => Err("not cancel, detach or ignore".to_owned()),
    }
}

/// Reads the kind of fields in which proxies tell the client.
pub(crate) fn forwarded_field(text: &str) -> Result<ForwardedField, String> {
    match text {
        "x-forwarded" => Ok(ForwardedField::XForwarded),
        "forwarded" => Ok(ForwardedField::Forwarded),
        _ => Err("not x-forwarded or forwarded".to_owned()),
    }
}

/// Reads the size of a buffer: from 1 byte to 1 GiB.
pub(crate) fn buffer(text: &str) -> Result<usize, String> {
    bounded(size(text)?, 1 << 30)
}

/// Reads the size of a head or of a part of it: from 1 byte to [`Limits::MAX_HEAD`].
pub(crate) fn head(text: &str) -> Result<usize, String> {
    bounded(size(text)?, Limits::MAX_HEAD)
}

/// Reads a number of header fields: from 1 to [`Limits::MAX_FIELDS`].
pub(crate) fn fields(text: &str) -> Result<usize, String> {
    bounded(text.parse().map_err(|_| "not a number".to_owned())?, Limits::MAX_FIELDS)
}

fn bounded(number: usize, max: usize) -> Result<usize, String> {
    if (1..=max).contains(&number) { Ok(number) } else { Err(format!("not between 1 and {max}")) }
}

/// Splits `64k` into `64` and `k`.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: Debug + PartialEq>(
        read: fn(&str) -> Result<T, String>,
        valid: impl IntoIterator<Item = (&'static str, T)>,
        invalid: &[&str],
    ) {
        for (text, value) in valid {
            assert_eq!(read(text), Ok(value), "{text}");
        }
        for text in invalid {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_or_refused() {
        let millis =
            [("5", 5_000), ("0", 0), ("5s", 5_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)];
        let valid = millis.map(|(text, millis)| (text, Duration::from_millis(millis)));
        check(duration, [("never", Duration::MAX)], &["Never"]);
        check(timeout, [("1ms", Duration::from_millis(1)), ("never", Duration::MAX)], &["0", "0ms", ""]);
        let too_long = ["99999999999999999999", "18446744073709551615h", "9999h9"];
        check(duration, valid, &["", "s", "-1", "1.5", "5 s", "5S", "5d"]);
        check(duration, [], &too_long);
    }

    #[test]
    fn sizes_are_read_or_refused() {
        let valid = [("0", 0), ("4096", 4096), ("64k", 65_536), ("64K", 65_536), ("1m", 1 << 20), ("7b", 7)];
        check(size::<u64>, valid, &["", "k", "-1", "1.5m", "2 g", "2t", "2kb", "18446744073709551615k"]);
        check(size::<u64>, [("2GiB", 2 << 30)], &[]);
        check(size::<u32>, [], &["4g"]);
        check(buffer, [], &["0", "2g"]);
        check(head, [("65535", 65_535)], &["64k", "0"]);
    }

    #[test]
    fn addresses_are_read_or_refused() {
        let tcp = |address: &str| Bind::Tcp(address.to_owned());
        check(
            bind,
            [("127.0.0.1:80", tcp("127.0.0.1:80")), (" [::1]:0", tcp("[::1]:0"))],
            &["", "80", ":80"],
        );
        check(
            bind,
            [
                ("unix:/a b", Bind::Unix("/a b".into())),
                ("fd://3", Bind::Fd(3)),
                ("systemd", Bind::Systemd(None)),
                ("systemd:web", Bind::Systemd(Some("web".into()))),
            ],
            &["unix:", "fd://x", "systemd:"],
        );
        for (text, why) in [
            ("127.0.0.1:70000", "the port 70000 is larger than 65535"),
            ("fd:3", "'fd:3' is written fd://3"),
            ("unix:", "there is no path after unix:"),
            ("nonsense", "'nonsense' is not HOST:PORT, unix:PATH, fd://N or systemd"),
        ] {
            assert_eq!(bind(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn numbers_and_keywords_are_read_or_refused() {
        check(fields, [("256", 256)], &["257"]);
        check(processes, [("1", 1), ("256", 256)], &["", "0", "257", "-1", "two"]);
        check(mode, [("660", 0o660), ("0", 0)], &["", "668", "1000", "0o660", "-1"]);
        check(user, [("root", 0), ("0", 0), ("1234", 1234)], &["", "no such user", "-1"]);
        check(group, [("root", 0), ("4294967294", u32::MAX - 1)], &["no such group", "4294967295"]);
        check(overload, [("refuse", Overload::Refuse)], &["Wait", ""]);
        check(forwarded_field, [("forwarded", ForwardedField::Forwarded)], &["Forwarded", "both", ""]);
        check(on_disconnect, [("ignore", OnDisconnect::Ignore)], &["abort"]);
    }
}
