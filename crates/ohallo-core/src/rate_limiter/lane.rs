//! The two lanes of an API key.

/// The priority of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A user waits for the call.
    User,
    /// Drift detection: it gets what users leave, and at least a tenth.
    Background,
}

// === impl Lane ===

impl Lane {
    /// The value of the metric label `lane`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Background => "background",
        }
    }
}
