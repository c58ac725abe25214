//! The priority of a reconcile, and of its calls.

use strum::IntoStaticStr;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Priority {
    /// A user waits for it: a changed object, a new one, a deletion, a changed input.
    Interactive,
    /// A resync, an object of a list, drift detection. Its calls get what users leave, and at least a tenth.
    Background,
}

// === impl Priority ===

impl Priority {
    /// In the order in which they are served.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Background];

    /// The value of the metric label `priority`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The value of the metric label `lane`.
    pub fn lane(self) -> &'static str {
        match self {
            Self::Interactive => "user",
            Self::Background => "background",
        }
    }
}
