//! What a plain YAML scalar means to Kubernetes, which reads YAML 1.1 with Go's types: `on` is a boolean, `0123` is
//! octal, a date is text.

use serde_json::Number;

use crate::manifest::node::Content;

/// The tag that a scalar carries, where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// No tag, on a plain scalar.
    None,
    Text,
    Bool,
    Int,
    Float,
    Null,
}

/// A scalar that is not what its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value does not fit its tag: remove the tag")]
pub struct TagError;

/// # Errors
/// The value is not what its tag says.
pub fn resolve(text: &str, tag: Tag) -> Result<Content, TagError> {
    if tag == Tag::Text {
        return Ok(Content::Text(text.to_owned()));
    }
    let content = plain(text);
    match (tag, &content) {
        (Tag::None | Tag::Text, _)
        | (Tag::Bool, Content::Bool(_))
        | (Tag::Null, Content::Null)
        | (Tag::Float, Content::Number(_) | Content::NotFinite) => Ok(content),
        (Tag::Int, Content::Number(number)) if !number.is_f64() => Ok(content),
        _ => Err(TagError),
    }
}

fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Content::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Content::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Content::NotFinite,
        _ => {}
    }
    let text_of = || Content::Text(text.to_owned());
    let number = match text.as_bytes().first() {
        Some(b'.') => float(text),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| is_yaml_float(&digits).then(|| float(&digits)).flatten())
        }
        _ => None,
    };
    number.map_or_else(text_of, Content::Number)
}

/// An integer of any of Go's bases: `0x1f`, `0o17`, `017`, `0b11`. What fits no 64 bits is none.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let prefixed = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (radix, digits) = if let Some(rest) = prefixed(["0x", "0X"]) {
        (16, rest)
    } else if let Some(rest) = prefixed(["0b", "0B"]) {
        (2, rest)
    } else if let Some(rest) = prefixed(["0o", "0O"]) {
        (8, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, digits)
    } else {
        (10, digits)
    };
    // A second sign is not Go's.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = 0_i64.checked_sub_unsigned(size)?;
        return Some(Number::from(value));
    }
    // Go accepts a sign for signed integers only.
    (!text.starts_with('+') || i64::try_from(size).is_ok()).then(|| Number::from(size))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_yaml_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => {
            let (mantissa, rest) = text.split_at(at);
            (mantissa, Some(rest.trim_start_matches(['e', 'E'])))
        }
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    exponent_fits && mantissa_fits
}

/// A whole number becomes an integer on its way through JSON, as in Go. What is out of range is none.
fn float(text: &str) -> Option<Number> {
    const WRITTEN_IN_FULL: f64 = 1e21;
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
    let whole = (value.fract() == 0.0 && value.abs() < WRITTEN_IN_FULL).then(|| format!("{value:.0}"));
    let integer = whole.and_then(|whole| whole.parse::<i64>().ok());
    integer.map_or_else(|| Number::from_f64(value), |integer| Some(Number::from(integer)))
}
