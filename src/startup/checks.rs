//! What must be there before the work begins: looked for until it is, and told of in the log and in `/readyz` meanwhile.

use std::time::Duration;

use crate::telemetry::http_server::Readiness;

const POLL: Duration = Duration::from_secs(2);

/// The longest that one question to the API server may take.
pub const MAX_CHECK_TIME: Duration = Duration::from_secs(10);

/// How many of what is missing are named; the first ones tell what sort it is.
const MAX_LISTED: usize = 4;

/// One of them.
pub struct Prerequisite {
    /// Its line in `/readyz`.
    pub part: &'static str,
    /// What the log says while it is missing.
    pub waiting: &'static str,
    /// What to do, behind what is missing.
    pub remedy: &'static str,
}

// === impl Prerequisite ===

impl Prerequisite {
    /// Waits until nothing is missing: `probe` says what is, or nothing.
    pub async fn met<F: Future<Output = String>>(&self, readiness: &Readiness, look: impl Fn() -> F) {
        let mut told = String::new();
        loop {
            let missing = look().await;
            if missing.is_empty() {
                readiness.set(self.part, Ok(()));
                return;
            }
            if missing != told {
                tracing::warn!(missing, "{}: {}", self.waiting, self.remedy);
                readiness.set(self.part, Err(format!("{missing}: {}", self.remedy)));
                told = missing;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The first ones, and how many there are more.
pub fn list_with_ellipsis(all: &[String]) -> String {
    let named: Vec<_> = all.iter().take(MAX_LISTED).map(String::as_str).collect();
    let more = all.len().saturating_sub(MAX_LISTED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_four_are_named_and_the_others_counted() {
        let all = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
        for (count, text) in [(1, "a"), (4, "a, b, c, d"), (6, "a, b, c, d and 2 more")] {
            assert_eq!(list_with_ellipsis(&all[..count]), text);
        }
    }
}
