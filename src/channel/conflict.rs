// pure
//! What it means that the API server refused a guarded write, once the object was read again.

use super::inputs::Inputs;
use crate::api::channel::{Channel, ChannelStatus};

/// What becomes of a status that met a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another object has the name now.
    Gone,
    /// What the pass found may be old.
    Stale,
    /// Only what the status does not rest on has changed: it may be laid over the newer version.
    LayOver,
}

/// Judges a status that was decided on `known`, when the object's status was `base`.
pub fn of_status(known: &Channel, base: Option<&ChannelStatus>, fresh: &Channel) -> Refused {
    if fresh.metadata.uid != known.metadata.uid {
        return Refused::Gone;
    }
    // An id is not bound to a manifest that has come to name one meanwhile.
    if fresh.status.as_ref() != base || fresh.spec.channel_id != known.spec.channel_id {
        return Refused::Stale;
    }
    Refused::LayOver
}

/// Whether the finalizer may still go: where a changed manifest would change the decision it is decided again.
pub fn of_parting(known: &Channel, revocable: bool, fresh: &Channel) -> bool {
    !revocable || Inputs::own(fresh) == Inputs::own(known)
}
