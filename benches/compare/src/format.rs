//! Formats numbers: three significant digits, thousands separators, and a unit that keeps the number short. A value
//! that is not finite or was not measured is a dash.

/// The text of a missing value.
pub(crate) const MISSING: &str = "–";

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// A time in µs.
    Time,
    /// A rate per second.
    Rate,
    /// A size in bytes.
    Bytes,
    /// A number without a unit.
    Count,
}

impl Unit {
    /// The value with its unit: `1.2 ms`, `48,300/s`, `34 MiB`.
    pub(crate) fn write(self, value: f64) -> String {
        if !value.is_finite() {
            return MISSING.into();
        }
        let (scale, suffix) = self.scale(value);
        format!("{}{suffix}", number(value / scale))
    }

    /// A range, with the unit once if both ends share it: `1.1–1.4 ms`. A single value if both ends read the same.
    pub(crate) fn range(self, least: f64, most: f64) -> String {
        let (low, high) = (self.write(least), self.write(most));
        if low == high || !least.is_finite() || !most.is_finite() {
            return high;
        }
        let ((low_scale, suffix), (high_scale, _)) = (self.scale(least), self.scale(most));
        let low = if low_scale == high_scale { low.trim_end_matches(suffix) } else { &low };
        format!("{low}–{high}")
    }

    /// The value at a tick of an axis, in short form: `48k`.
    pub(crate) fn tick(self, value: f64) -> String {
        match self {
            Unit::Rate | Unit::Count if value.abs() >= 1e9 => format!("{}G", number(value / 1e9)),
            Unit::Rate | Unit::Count if value.abs() >= 1e6 => format!("{}M", number(value / 1e6)),
            Unit::Rate | Unit::Count if value.abs() >= 1e4 => format!("{}k", number(value / 1e3)),
            Unit::Rate | Unit::Count => number(value),
            Unit::Time | Unit::Bytes => self.write(value),
        }
    }

    /// The divisor and the suffix. They are chosen after rounding, so that 999.7 µs is 1 ms.
    fn scale(self, value: f64) -> (f64, &'static str) {
        const KIB: f64 = 1024.0;
        let steps: &[(f64, &str)] = match self {
            Unit::Time => &[(1.0, " µs"), (1e3, " ms"), (1e6, " s")],
            Unit::Rate => &[(1.0, "/s")],
            Unit::Bytes => &[(1.0, " B"), (KIB, " KiB"), (KIB * KIB, " MiB"), (KIB * KIB * KIB, " GiB")],
            Unit::Count => &[(1.0, "")],
        };
        let rounded = round(value.abs());
        *steps.iter().rev().find(|(scale, _)| rounded >= *scale).unwrap_or(&steps[0])
    }
}

/// A time given in µs.
pub(crate) fn time(us: f64) -> String {
    Unit::Time.write(us)
}

/// A size given in bytes.
pub(crate) fn bytes(bytes: f64) -> String {
    Unit::Bytes.write(bytes)
}

/// Joins names as "a, b and c".
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [firsts @ .., last] => {
            let firsts: Vec<&str> = firsts.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", firsts.join(", "), last.as_ref())
        }
    }
}

/// An integer with all its digits: `1,024`.
pub(crate) fn count(things: u64) -> String {
    grouped(&things.to_string())
}

/// A number of things: `1 core`, `1,024 connections`.
pub(crate) fn several(things: usize, name: &str) -> String {
    format!("{} {name}{}", count(things as u64), if things == 1 { "" } else { "s" })
}

/// A share in percent: `6%`.
pub(crate) fn percent(part: f64) -> String {
    if part.is_finite() { format!("{:.0}%", part * 100.0) } else { MISSING.into() }
}

/// A ratio: `×1.7`.
pub(crate) fn ratio(value: f64) -> String {
    if value.is_finite() { format!("×{}", number(value)) } else { MISSING.into() }
}

/// A duration given in seconds: `1 h 12 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return MISSING.into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{} s", number(seconds)),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// An RFC 3339 date in UTC as `24 November 2026, 00:08 UTC`. Any other text is returned unchanged.
pub(crate) fn date(rfc3339: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let read = || {
        let (day, time) = rfc3339.is_ascii().then_some(rfc3339)?.strip_suffix('Z')?.split_once('T')?;
        let mut parts = day.split('-').map(|part| part.parse::<usize>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        Some(format!("{day} {} {year}, {} UTC", MONTHS.get(month.checked_sub(1)?)?, time.get(..5)?))
    };
    read().unwrap_or_else(|| rfc3339.into())
}

/// Shortens a text to `most` characters, the last of which is then an ellipsis.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Breaks a text into lines between words.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

/// A number with three significant digits and thousands separators.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return MISSING.into();
    }
    let rounded = round(value);
    let decimals = match rounded.abs() {
        // Smaller values are not meaningful here.
        size if size < 0.001 => return "0".into(),
        size => (2 - size.log10().floor() as i32).max(0) as usize,
    };
    let text = format!("{rounded:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", grouped(digits))
}

/// Inserts a comma before each group of three digits.
fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Rounds to three significant digits.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 10f64.powi(value.abs().log10().floor() as i32 - 2);
    let rounded = (value / unit).round() * unit;
    if rounded.is_finite() { rounded } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        for (unit, value, text) in [
            (Unit::Time, 0.0, "0 µs"),
            (Unit::Time, 0.4567, "0.457 µs"),
            (Unit::Time, 850.0, "850 µs"),
            (Unit::Time, 999.7, "1 ms"),
            (Unit::Time, 1234.5, "1.23 ms"),
            (Unit::Time, 2_500_000.0, "2.5 s"),
            (Unit::Time, 90e6, "90 s"),
            (Unit::Rate, 48_312.0, "48,300/s"),
            (Unit::Rate, 19.98, "20/s"),
            (Unit::Rate, 1_234_567.0, "1,230,000/s"),
            (Unit::Bytes, 512.0, "512 B"),
            (Unit::Bytes, 34.0 * 1024.0 * 1024.0, "34 MiB"),
            (Unit::Count, 12_345.0, "12,300"),
            (Unit::Count, -1234.0, "-1,230"),
            (Unit::Count, 1e-7, "0"),
            (Unit::Count, f64::NAN, "–"),
            (Unit::Time, f64::INFINITY, "–"),
        ] {
            assert_eq!(unit.write(value), text, "{value} as {unit:?}");
        }
        assert!(Unit::Rate.write(f64::MAX).ends_with("/s"));
        assert!(Unit::Rate.write(f64::MIN_POSITIVE / 8.0).ends_with("/s"));
    }

    #[test]
    fn a_range_names_its_unit_once_if_it_has_one() {
        assert_eq!(Unit::Time.range(1100.0, 1400.0), "1.1–1.4 ms");
        assert_eq!(Unit::Time.range(900.0, 1400.0), "900 µs–1.4 ms");
        assert_eq!(Unit::Rate.range(47_000.0, 49_100.0), "47,000–49,100/s");
        assert_eq!(Unit::Rate.range(47_000.0, 47_010.0), "47,000/s");
        assert_eq!(Unit::Count.range(1.0, 2.0), "1–2");
        assert_eq!(Unit::Time.range(f64::NAN, 2.0), "2 µs");
    }

    #[test]
    fn a_list_is_a_part_of_a_sentence() {
        assert_eq!(
            [list::<&str>(&[]), list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])],
            ["", "a", "a and b", "a, b and c"]
        );
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(Unit::Rate.tick(20_000.0), "20k");
        assert_eq!(several(1_024, "connection"), "1,024 connections");
        assert_eq!(several(1, "core"), "1 core");
        assert_eq!(Unit::Count.tick(4096.0), "4,100");
        assert_eq!(Unit::Time.tick(100.0), "100 µs");
    }

    #[test]
    fn dates_and_durations_are_words() {
        assert_eq!(date("2026-11-24T00:08:01Z"), "24 November 2026, 00:08 UTC");
        for odd in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-11-24T0éé:Z"] {
            assert_eq!(date(odd), odd);
        }
        assert_eq!(duration(4321.0), "1 h 12 min");
        assert_eq!(duration(61.0), "1 min 1 s");
        assert_eq!(duration(2.5), "2.5 s");
        assert_eq!(duration(f64::NAN), "–");
    }

    #[test]
    fn long_names_end_in_an_ellipsis() {
        assert_eq!(shorten("tokio", 5), "tokio");
        assert_eq!(shorten("übermäßig", 5), "über…");
        assert_eq!(shorten("abc", 0), "…");
    }
}
