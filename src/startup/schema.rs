//! What the served schema lacks, as last read.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What the served schema lacks, as last read.
#[derive(Debug, Default)]
pub struct Schema {
    lacks: Mutex<Option<String>>,
    asked: Notify,
}

// === impl Schema ===

impl Schema {
    /// What the served schema lacks; `None` while it has every field of this version.
    pub fn lacks(&self) -> Option<String> {
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests a read of the schema now, because the API server did not store a write.
    pub fn check(&self) {
        self.asked.notify_one();
    }

    /// Waits until [`Self::check`] is called.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    pub fn set(&self, lacks: Option<String>) {
        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = lacks;
    }
}
