//! Makes text safe to publish: bounded, on one line, without characters that hide or reorder it.
//!
//! Text that a tenant wrote is never compared with a secret: a filter with a visible effect would confirm a
//! guess. Only text from oHallo passes a [`crate::secret::Redactor`] first.

use jiff::Timestamp;

use crate::surrogates;

/// Escapes control and invisible formatting characters and truncates to `max` characters, including an ellipsis. The
/// cost is linear in `max`, whatever the length of `text`. Idempotent.
pub fn sanitize(text: &str, max: usize) -> String {
    // No escape is shorter than its character, so everything after the first `max` + 1 characters is never shown.
    let shown = text.char_indices().nth(max.saturating_add(1)).map_or(text, |(end, _)| text.split_at(end).0);
    cut(escape(shown), max)
}

/// Escapes control and invisible formatting characters.
pub fn escape(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let text = surrogates::shown(text);
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Truncates to `max` characters, including an ellipsis.
pub fn cut(mut text: String, max: usize) -> String {
    if text.chars().nth(max).is_some() {
        let end = text.char_indices().nth(max.saturating_sub(1)).map_or(0, |(end, _)| end);
        text.truncate(end);
        if max > 0 {
            text.push('…');
        }
    }
    text
}

/// Truncates to `max` bytes at a character boundary, including an ellipsis where it fits.
pub fn cut_bytes(mut text: String, max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > max {
        let room = max.checked_sub(ELLIPSIS.len());
        text.truncate(text.floor_char_boundary(room.unwrap_or(max)));
        text.push_str(if room.is_some() { ELLIPSIS } else { "" });
    }
    text
}

/// Names in a sentence, at most `max` of them: `a, b, … (7 in all)`.
pub fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>, max: usize) -> String {
    let count = names.len();
    let shown: Vec<_> = names.take(max).map(|name| sanitize(name, NAME)).collect();
    let shown = shown.join(", ");
    if count > max { format!("{shown}, … ({count} in all)") } else { shown }
}

/// The longest name in a [`list`], in characters.
const NAME: usize = 64;

/// Unicode's format characters (Cf) and line separators: they reorder, hide or split what a user sees.
pub fn is_invisible(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f
        | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f
        | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe007f)
}

/// A request annotation's value, truncated for the status.
pub fn cut_request(value: &str) -> String {
    value.chars().take(256).collect()
}

/// A time in the format of the status.
pub fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// The time that a text names, in the format of the status; `None` where RFC 3339 has no form for it, such as a year before 0.
pub fn time(text: &str) -> Option<String> {
    let text = seconds(text.parse().ok()?);
    text.starts_with(|first: char| first.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_kept_in_the_form_that_the_schema_accepts_or_not_at_all() {
        for (text, kept) in [
            ("2026-01-10T07:00:00Z", Some("2026-01-10T07:00:00Z")),
            ("2026-01-10T07:00:00.999999Z", Some("2026-01-10T07:00:00Z")),
            ("2026-01-10 09:00:00+02", Some("2026-01-10T07:00:00Z")),
            ("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00Z")),
            ("-009999-01-10T07:00:00Z", None),
            ("+010000-01-10T07:00:00Z", None),
            ("2026-01-10", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time(text).as_deref(), kept, "{text}");
        }
    }

    #[test]
    fn characters_that_forge_or_hide_text_are_escaped() {
        for (text, sanitized) in [
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("\0\u{7f}\u{9b}", r"\u{0}\u{7f}\u{9b}"),
            ("\u{202e}evil\u{2066}", r"\u{202e}evil\u{2066}"),
            ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
            ("line\u{2028}end", r"line\u{2028}end"),
            ("Grüße, 世界 🎈 \"quoted\" \\ back", "Grüße, 世界 🎈 \"quoted\" \\ back"),
        ] {
            assert_eq!(sanitize(text, 100), sanitized);
        }
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        for (text, max, sanitized) in [
            ("éééé", 4, "éééé"),
            ("ééééé", 4, "ééé…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("", 0, ""),
            ("\n\n", 3, r"\n…"),
        ] {
            assert_eq!(sanitize(text, max), sanitized, "{text:?} {max}");
        }
        assert_eq!(sanitize(&"x".repeat(10_000_000), 10), "xxxxxxxxx…");
    }

    #[test]
    fn a_text_is_cut_to_a_number_of_bytes() {
        for (text, max, cut) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "…"),
            ("ααα", 6, "ααα"),
            ("ααα", 5, "α…"),
            ("ααα", 4, "…"),
            ("ab", 1, "a"),
            ("α", 1, ""),
        ] {
            assert_eq!(cut_bytes(text.to_owned(), max), cut, "{text} {max}");
        }
    }

    #[test]
    fn a_list_of_names_is_bounded_in_number_and_length() {
        let names = ["a", "b\n", "c"];
        assert_eq!(list(names.into_iter(), 3), r"a, b\n, c");
        assert_eq!(list(names.into_iter(), 2), r"a, b\n, … (3 in all)");
        assert_eq!(list(["x".repeat(300).as_str()].into_iter(), 2).chars().count(), NAME);
    }

    proptest! {
        #[test]
        fn a_sanitized_text_keeps_its_bound_and_stays_as_it_is(text in ".{0,200}", max in 0_usize..100) {
            let sanitized = sanitize(&text, max);
            prop_assert!(sanitized.chars().count() <= max);
            prop_assert!(!sanitized.chars().any(|character| character.is_control() || is_invisible(character)));
            prop_assert_eq!(sanitize(&sanitized, max), sanitized);
        }
    }
}
