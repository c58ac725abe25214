//! When the API server takes a number for an integer.

use serde_json::Number;

/// The largest integer of JSON that a float holds exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;
/// The relative error up to which the API server takes a float for the integer beside it.
const TOLERANCE: f64 = 1e-9;

/// How an integer field sees a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Integer {
    /// It is one.
    Whole(i64),
    /// Close enough to one for the type, but it is none.
    Almost,
    /// Of another type.
    No,
}

pub fn integer(number: &Number) -> Integer {
    if let Some(value) = number.as_i64() {
        return Integer::Whole(value);
    }
    let Some(value) = number.as_f64().filter(|value| value.abs() <= MAX_EXACT) else { return Integer::No };
    if value.fract() == 0.0 {
        return format!("{value:.0}").parse().map_or(Integer::No, Integer::Whole);
    }
    let whole = value.trunc();
    let close = (value - whole).abs() / (value.abs() + whole.abs()) < TOLERANCE;
    if close { Integer::Almost } else { Integer::No }
}

/// How the API server names the type of a number that is no integer.
pub const NUMBER: &str = "number";
