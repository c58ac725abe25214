//! What the cache keeps of a Channel, to find orphans when it disappears.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::channel::{Channel, CreateRecord};
use crate::api::{annotation, canonical_id};

/// What a Channel last recorded of its oHallo channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    pub uid: String,
    /// The id that it was bound to.
    pub bound: Option<String>,
    pub create: Option<Arc<CreateRecord>>,
    /// [`finalizer_removed`] of the object.
    pub finalizer_removed: bool,
}

/// Whether the operator removed its finalizer from this object, which other finalizers keep. Also valid for a cached object.
pub fn finalizer_removed(channel: &Channel) -> bool {
    if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
        return kept.finalizer_removed;
    }
    let of = channel.annotations().get(annotation::FINALIZER_REMOVED);
    of.is_some() && of == channel.metadata.uid.as_ref()
}

/// Whether other finalizers alone keep the object.
pub fn is_unprotected(channel: &Channel) -> bool {
    channel.metadata.deletion_timestamp.is_some() && !channel.has_finalizer()
}

// === impl LastSeen ===

impl LastSeen {
    pub fn of(channel: &Channel) -> Self {
        let uid = channel.uid().unwrap_or_default();
        let bound = channel.status.as_ref().and_then(|status| status.bound_to(&uid));
        let bound = bound.map(|id| canonical_id(id).into_owned());
        let finalizer_removed = finalizer_removed(channel);
        Self { create: CreateRecord::of(channel), bound, uid, finalizer_removed }
    }
}

// === impl CreateRecord ===

impl CreateRecord {
    /// `None` for a bound object, and where no create was sent. Also valid for a cached object.
    pub fn of(channel: &Channel) -> Option<Arc<Self>> {
        if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
            return kept.create.clone();
        }
        let status = channel.status.as_ref();
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        if status.is_some_and(|status| status.bound_to(uid).is_some()) {
            return None;
        }
        let annotation = |name: &str| channel.annotations().get(name).cloned();
        let recorded = status.and_then(|status| status.create.as_ref());
        let record = Self {
            intent: annotation(annotation::CREATE_INTENT),
            create_again: annotation(annotation::CREATE_AGAIN),
            recorded: recorded.map(|create| (create.attempt, create.outcome())),
            foreign: status.is_some_and(|status| status.channel_id.is_some()),
        };
        (record.intent.is_some() || record.recorded.is_some()).then(|| Arc::new(record))
    }
}
