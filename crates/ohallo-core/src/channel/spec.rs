//! The effective spec: its defaults and bounds, and its validation beyond the schema.

use std::time::Duration;

use crate::api::bounds::{INTERVAL_SECONDS, RETRY_BACKOFF_SECONDS, RETRY_LIMIT};
use crate::api::channel::{ChannelSpec, LeftOut, ProvisioningRetry};
use crate::api::conditions::Reason;
use crate::channel::config;
use crate::channel::model::{Conclusion, ConclusionKind};
use crate::failure::Retry;

/// Why a spec that the schema accepts must not be sent to oHallo.
pub fn invalid_spec(spec: &ChannelSpec) -> Option<Conclusion> {
    if let Some(left_out) = &spec.left_out {
        return partially_read(left_out);
    }
    let config = spec.config.as_ref()?;
    let size = serde_json::to_vec(config).map_or(0, |bytes| bytes.len());
    let message = if size > config::MAX_BYTES {
        size_exceeded(size as u64)
    } else if config::too_deep(config) {
        format!(
            "spec.config has too many levels; at most {} are allowed: make it flatter.",
            config::MAX_LEVELS
        )
    } else {
        return None;
    };
    Some(Conclusion::user(Reason::ValidationFailed, message))
}

/// Whether the declared config is small enough for oHallo. For a partly cached object the result was computed from the
/// whole object; for an object that was never read whole, it follows from the config's size.
pub fn config_fits(spec: &ChannelSpec) -> bool {
    match &spec.left_out {
        None => invalid_spec(spec).is_none(),
        Some(left_out) => match &left_out.kept {
            Some(kept) => kept.config_fits,
            None => left_out.config.is_none_or(config::fits),
        },
    }
}

fn size_exceeded(bytes: u64) -> String {
    format!(
        "spec.config has {bytes} bytes of JSON; at most {} are allowed: make it smaller.",
        config::MAX_BYTES
    )
}

/// The omitted part of a spec is unknown: nothing is sent, and only the size of the config is validated.
fn partially_read(left_out: &LeftOut) -> Option<Conclusion> {
    let message = match left_out.config {
        Some(size) if size.bytes > config::MAX_BYTES as u64 => size_exceeded(size.bytes),
        Some(size) if size.decoded > config::MAX_DECODED => format!(
            "spec.config takes {} KiB of memory after decoding; at most {} KiB are allowed: declare fewer values.",
            size.decoded / 1024,
            config::MAX_DECODED / 1024
        ),
        _ => {
            let message = "The manifest was not read completely; the operator reads it again.";
            return Some(Conclusion::of(
                ConclusionKind::Failed(Retry::Backoff),
                Reason::Progressing,
                message,
            ));
        }
    };
    Some(Conclusion::user(Reason::ValidationFailed, message))
}

// === impl ChannelSpec ===

impl ChannelSpec {
    /// `spec.intervalSeconds`, within its bounds.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(INTERVAL_SECONDS.of(self.interval_seconds).unsigned_abs())
    }
}

// === impl ProvisioningRetry ===

impl ProvisioningRetry {
    /// `spec.provisioningRetry.limit`: how many retries are sent.
    pub fn limit(&self) -> i64 {
        RETRY_LIMIT.of(self.limit)
    }

    /// `spec.provisioningRetry.backoffSeconds`: the wait before the first retry.
    pub fn backoff(&self) -> Duration {
        Duration::from_secs(RETRY_BACKOFF_SECONDS.of(self.backoff_seconds).unsigned_abs())
    }
}
