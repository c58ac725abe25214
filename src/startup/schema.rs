//! What the served schema lacks, as it was last read.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What the served schema lacks, as it was last read.
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

    /// Makes [`follow`] read the schema now: a write was not kept.
    pub fn check(&self) {
        self.asked.notify_one();
    }

    /// Returns when [`Self::check_key`] was called.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    pub fn set(&self, lacks: Option<String>) {
        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = lacks;
    }
}
