//! What the API server kept of a write. A 2xx alone says nothing: an admission policy or a webhook may strip what was
//! sent, and an older CustomResourceDefinition prunes it. The returned object shows what is stored.

use kube::ResourceExt;
use strum::VariantArray;

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer, same_id};
use crate::channel::model::Outcome;
use crate::channel::persisted::PersistedField;
use crate::failure::{Failure, Retry};

/// What of the sent finalizer, and of the sent intent, the returned object does not show.
pub fn lost_metadata(intent: Option<&str>, returned: &Channel) -> Vec<PersistedField> {
    let finalizer = returned.finalizers().iter().any(|name| name == finalizer::CHANNEL);
    let stored = returned.annotations().get(annotation::CREATE_INTENT).map(String::as_str);
    let lost = [
        (!finalizer).then_some(PersistedField::Finalizer),
        intent.filter(|intent| stored != Some(intent)).map(|_| PersistedField::Intent),
    ];
    lost.into_iter().flatten().collect()
}

/// What of the sent status the returned one does not show.
pub fn lost_status(sent: &ChannelStatus, returned: Option<&ChannelStatus>) -> Vec<PersistedField> {
    let none = ChannelStatus::default();
    let kept = returned.unwrap_or(&none);
    PersistedField::VARIANTS.iter().copied().filter(|field| !field.is_kept(sent, kept)).collect()
}

/// The status to send again: what was sent, while the object shows the same loss and the manifest names no other channel.
pub fn resent(
    channel: &Channel,
    unstored: Option<&ChannelStatus>,
    lost: &[PersistedField],
) -> Option<ChannelStatus> {
    let sent = unstored.filter(|_| channel.metadata.deletion_timestamp.is_none())?;
    let named = channel.spec.channel_id.as_deref();
    let other = named.is_some_and(|named| sent.channel_id.as_deref().is_none_or(|id| !same_id(named, id)));
    let same = lost_status(sent, channel.status.as_ref()) == lost;
    (same && !other).then(|| sent.clone())
}

/// Why nothing more is done for the object, and what somebody has to change.
pub fn failure(lost: &[PersistedField]) -> Failure {
    let names: Vec<_> = lost.iter().map(|field| field.name()).collect();
    let names = names.join(", ");
    let in_status =
        !lost.iter().any(|field| matches!(field, PersistedField::Finalizer | PersistedField::Intent));
    let remedy = if in_status {
        "apply the CustomResourceDefinitions of this operator version, and exempt channels.ohallo.eu/status from the admission policy or webhook that removes it"
    } else {
        "exempt the operator's patches of channels.ohallo.eu from the admission policy or mutating webhook that removes it"
    };
    let effect = if in_status { "" } else { " and calls nothing that changes oHallo" };
    Failure {
        retry: Retry::ClusterAction,
        reason: Reason::StatusNotStored,
        message: format!(
            "The API server accepted the write but did not keep {names}, so the operator retries it with backoff{effect}: {remedy}."
        ),
        class: None,
    }
}

/// Whether a pass ended because of such a loss.
pub fn is_loss(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.reason == Reason::StatusNotStored)
}

/// The finalizer came back in the answer to the patch that removes it.
pub fn finalizer_returned() -> Failure {
    Failure {
        retry: Retry::ClusterAction,
        reason: Reason::StatusNotStored,
        message: format!(
            "The API server accepted the removal of the finalizer {} but did not keep it: exempt the operator's patches of channels.ohallo.eu from the \
             admission policy or mutating webhook that adds it.",
            finalizer::CHANNEL
        ),
        class: None,
    }
}

/// While the served CustomResourceDefinitions lack fields of this version, nothing new is begun.
pub fn outdated(lacks: &str) -> Failure {
    Failure {
        retry: Retry::ClusterAction,
        reason: Reason::StatusNotStored,
        message: format!(
            "The API server would drop fields that the operator must remember ({lacks}), so it creates and adopts nothing: apply crds/ of this operator version, or upgrade the chart."
        ),
        class: None,
    }
}

#[cfg(test)]
mod tests;
