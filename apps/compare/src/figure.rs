//! Figures as people read them.

/// A time that is given in µs: "81 µs", "3.2 ms", "1.5 s".
pub fn time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", digits(us)),
        us if us < 999_500.0 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// Bytes: "850 B", "1.2 KiB".
pub fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{} B", digits(bytes)),
        bytes if bytes < 1024.0 * 1024.0 => format!("{} KiB", digits(bytes / 1024.0)),
        bytes => format!("{} MiB", digits(bytes / 1024.0 / 1024.0)),
    }
}

/// A number with two digits at least, and with its thousands apart.
pub fn digits(number: f64) -> String {
    match number.abs() {
        size if size < 0.05 => "0".into(),
        size if size < 9.95 => format!("{number:.1}"),
        _ => thousands(number),
    }
}

fn thousands(number: f64) -> String {
    let whole = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

/// "a, b and c".
pub fn list<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [firsts @ .., last] => {
            let firsts: Vec<&str> = firsts.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", firsts.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_fits() {
        assert_eq!(
            [time(81.4), time(3_240.0), time(50_400.0), time(1_500_000.0)],
            ["81 µs", "3.2 ms", "50 ms", "1.5 s"]
        );
        assert_eq!([bytes(850.0), bytes(1229.0), bytes(3e6)], ["850 B", "1.2 KiB", "2.9 MiB"]);
        assert_eq!(
            [digits(1_234_567.0), digits(-1234.0), digits(0.01), digits(999.7)],
            ["1,234,567", "-1,234", "0", "1,000"]
        );
    }

    #[test]
    fn a_list_is_a_part_of_a_sentence() {
        assert_eq!(
            [list::<&str>(&[]), list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])],
            ["", "a", "a and b", "a, b and c"]
        );
    }
}
