//! Placeholders in a cached object for content that was dropped before decoding.

/// Replaces dropped entries of a map of labels or a Secret's data, and ends a truncated text. The API server
/// accepts it neither in a finalizer nor as a key, so no tenant can write it there.
pub const CUT: &str = "…";

/// The list entry that replaces this number of foreign finalizers: all others keep their positions.
pub fn left_out(count: usize) -> String {
    format!("{CUT}{count}")
}

/// The number of finalizers that a list entry represents.
pub fn finalizers_in(entry: &str) -> usize {
    entry.strip_prefix(CUT).and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// The maximum size of a Secret's data, in bytes of JSON: four times the limit of a Channel's credentials.
pub const SECRET_DATA: usize = 256 * 1024;
