//! Times as Go's `time.Parse(time.RFC3339, …)` reads them, which is not quite RFC 3339: an hour may have one digit, a
//! fraction may follow a comma, and an offset may be 24:60.

use jiff::civil::Date;

/// Whether the API server reads it as a time.
pub fn is_time(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<()> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.digits(4, 4)?;
    rest.byte(b"-")?;
    let month = rest.digits(2, 2)?;
    rest.byte(b"-")?;
    let day = rest.digits(2, 2)?;
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    rest.byte(b"T")?;
    let hour = rest.digits(1, 2)?;
    rest.byte(b":")?;
    let minute = rest.digits(2, 2)?;
    rest.byte(b":")?;
    let second = rest.digits(2, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if matches!(rest.0, [b'.' | b',', digit, ..] if digit.is_ascii_digit()) {
        rest.byte(b".,")?;
        rest.digits(1, usize::MAX)?;
    }
    if rest.byte(b"Z+-")? != b'Z' {
        let hours = rest.digits(2, 2)?;
        rest.byte(b":")?;
        let minutes = rest.digits(2, 2)?;
        if hours > 24 || minutes > 60 {
            return None;
        }
    }
    rest.0.is_empty().then_some(())
}

/// What is left of a text.
struct Rest<'t>(&'t [u8]);

// === impl Rest ===

impl Rest<'_> {
    /// Takes one of these bytes.
    fn byte(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| allowed.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    /// Takes as many digits as there are, up to `max`; their value, or the largest there is.
    fn digits(&mut self, min: usize, max: usize) -> Option<u32> {
        let count = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count >= min)?;
        self.0 = rest;
        let add = |value: u32, digit: &u8| value.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        Some(digits.iter().fold(0, add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_go_reads() {
        for text in [
            "2026-01-10T08:00:00Z",
            "2026-01-10T08:00:00+01:00",
            "2026-01-10T08:00:00.123456789012Z",
            "2026-01-10T08:00:00,5-24:60",
            "2026-01-10T8:00:00Z",
            "2024-02-29T23:59:59Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert!(is_time(text), "{text}");
        }
        for text in [
            "",
            "2026-01-10",
            "2026-01-10 08:00:00Z",
            "2026-01-10t08:00:00z",
            "2026-01-10T08:00Z",
            "20260110T080000Z",
            "2026-01-10T08:00:00",
            "2026-01-10T08:00:00+0000",
            "2026-01-10T08:00:00+00:00[UTC]",
            "2026-01-10T08:00:00.Z",
            "2026-01-10T23:59:60Z",
            "2026-01-10T24:00:00Z",
            "2026-01-10T08:00:00+25:00",
            "2026-01-10T08:00:00+00:61",
            "2026-01-10T08:0:00Z",
            "2025-02-29T08:00:00Z",
            "2026-00-10T08:00:00Z",
            "-000001-01-10T08:00:00Z",
            "+002026-01-10T08:00:00Z",
            "2026-01-10T08:00:00Z ",
            "２026-01-10T08:00:00Z",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }
}
