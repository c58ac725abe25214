//! Prerequisites of the operator: it polls until they are met, and reports what is missing in the log and in
//! `/readyz`.

use std::time::Duration;

use crate::telemetry::http_server::Readiness;

const POLL: Duration = Duration::from_secs(2);

/// The longest duration of one request to the API server.
pub const MAX_CHECK_TIME: Duration = Duration::from_secs(10);

/// How many missing items are named: the first ones show what kind they are.
const MAX_LISTED: usize = 4;

/// One prerequisite.
pub struct Prerequisite {
    /// Its name in `/readyz`.
    pub part: &'static str,
    /// The log message while it is missing.
    pub waiting: &'static str,
    /// The remedy, after what is missing.
    pub remedy: &'static str,
}

// === impl Prerequisite ===

impl Prerequisite {
    /// Waits until nothing is missing: `probe` returns what is missing, or an empty text.
    pub async fn met<F: Future<Output = String>>(&self, readiness: &Readiness, probe: impl Fn() -> F) {
        let mut reported = String::new();
        loop {
            let missing = probe().await;
            if missing.is_empty() {
                readiness.set(self.part, Ok(()));
                return;
            }
            if missing != reported {
                tracing::warn!(missing, "{}: {}", self.waiting, self.remedy);
                readiness.set(self.part, Err(format!("{missing}: {}", self.remedy)));
                reported = missing;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The first items, and how many more there are.
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
    fn the_first_four_are_named_and_the_others_are_counted() {
        let all = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
        for (count, text) in [(1, "a"), (4, "a, b, c, d"), (6, "a, b, c, d and 2 more")] {
            assert_eq!(list_with_ellipsis(&all[..count]), text);
        }
    }
}
