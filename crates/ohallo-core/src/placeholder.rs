//! What stands in a cached object for what was cut from it before it was decoded.

/// Stands for what was cut from a map of labels or a Secret's data, and ends a text that was cut. The API server
/// accepts it in no finalizer and as no key, so no tenant can write it there.
pub const CUT: &str = "…";

/// The entry that stands for this many finalizers of others in a list: all others keep their positions.
pub fn left_out(count: usize) -> String {
    format!("{CUT}{count}")
}

/// How many finalizers an entry of a list stands for.
pub fn finalizers_in(entry: &str) -> usize {
    entry.strip_prefix(CUT).and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// The most bytes of JSON in the data of a Secret that is read: four times what all credentials of a Channel may have.
pub const SECRET_DATA: usize = 256 * 1024;
