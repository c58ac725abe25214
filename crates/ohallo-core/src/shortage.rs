//! What a reconcile lacked that started and ended without a call.

use strum::IntoStaticStr;

/// The work queue starts a reconcile when it can run. What still ends early is counted by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Shortage {
    /// Another reconcile does what only one may do at a time: heavy work, or a create after one whose outcome is unknown.
    Slot,
    /// The rate limit had no token for a further call.
    Token,
    /// The API key is not checked yet.
    Key,
}

// === impl Shortage ===

impl Shortage {
    pub const ALL: [Self; 3] = [Self::Slot, Self::Token, Self::Key];

    /// The value of the metric label `why`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
