//! The two lanes of a key.

/// Who a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Somebody waits for it.
    User,
    /// Reads for drift: they get what users leave, and at least a tenth.
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
