//! The declared spec: what of it may be sent to oHallo.

use crate::api::channel::{ChannelSpec, LeftOut};
use crate::api::conditions::Reason;
use crate::channel::config;
use crate::channel::model::{Conclusion, ConclusionKind};
use crate::failure::Retry;

/// A spec that the schema can't refuse but oHallo must not see.
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
            "spec.config is nested too deep; at most {} levels are sent: make it flatter.",
            config::MAX_LEVELS
        )
    } else {
        return None;
    };
    Some(Conclusion::user(Reason::ValidationFailed, message))
}

/// Whether the declared config may be sent to oHallo. Of an object that the cache has not in full it tells what was
/// known of the whole one; of one that never came in full, what its size tells.
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
    format!("spec.config has {bytes} bytes of JSON; at most {} are sent: make it smaller.", config::MAX_BYTES)
}

/// What is missing of a spec is unknown: nothing is sent, and nothing is judged, but a config by its size.
fn partially_read(left_out: &LeftOut) -> Option<Conclusion> {
    let message = match left_out.config {
        Some(size) if size.bytes > config::MAX_BYTES as u64 => size_exceeded(size.bytes),
        Some(size) if size.decoded > config::MAX_DECODED => format!(
            "spec.config takes {} KiB of memory once it is decoded; at most {} KiB are accepted: declare fewer values.",
            size.decoded / 1024,
            config::MAX_DECODED / 1024
        ),
        _ => {
            let message = "The manifest was not read in full; the operator reads it again.";
            return Some(Conclusion::of(
                ConclusionKind::Failed(Retry::Backoff),
                Reason::Progressing,
                message,
            ));
        }
    };
    Some(Conclusion::user(Reason::ValidationFailed, message))
}
