//! Compares a write with what the API server stored. A 2xx is not enough: an admission policy or a webhook may remove
//! fields, and an older CustomResourceDefinition prunes them. The returned object shows what is stored.

use kube::ResourceExt;
use strum::VariantArray;

use crate::api::channel::{Channel, ChannelStatus};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer, same_id};
use crate::channel::model::Outcome;
use crate::channel::persisted::PersistedField;
use crate::failure::Failure;

/// Which of the sent finalizer and intent the returned object lacks.
pub fn lost_metadata(intent: Option<&str>, returned: &Channel) -> Vec<PersistedField> {
    let finalizer = returned.has_finalizer();
    let stored = returned.annotations().get(annotation::CREATE_INTENT).map(String::as_str);
    let lost = [
        (!finalizer).then_some(PersistedField::Finalizer),
        intent.filter(|intent| stored != Some(intent)).map(|_| PersistedField::Intent),
    ];
    lost.into_iter().flatten().collect()
}

/// The fields of the sent status that the returned one lacks.
pub fn lost_status(sent: &ChannelStatus, returned: Option<&ChannelStatus>) -> Vec<PersistedField> {
    let none = ChannelStatus::default();
    let kept = returned.unwrap_or(&none);
    PersistedField::VARIANTS.iter().copied().filter(|field| !field.is_kept(sent, kept)).collect()
}

/// The status to send again: the last one, while the object lacks the same fields and the manifest names no other channel.
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

/// The failure for lost fields, with what a user has to change.
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
    let effect = if in_status { "" } else { " and makes no calls that change oHallo" };
    Failure::cluster_action(
        Reason::StatusNotStored,
        format!(
            "The API server accepted the write but did not store {names}, so the operator retries with backoff{effect}: {remedy}."
        ),
    )
}

/// Whether a reconcile ended because of such a loss.
pub fn is_loss(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.reason == Reason::StatusNotStored)
}

/// The response to the patch that removes the finalizer still has it.
pub fn finalizer_returned() -> Failure {
    Failure::cluster_action(
        Reason::StatusNotStored,
        format!(
            "The API server accepted the removal of the finalizer {} but did not store it: exempt the operator's patches of channels.ohallo.eu from the \
             admission policy or mutating webhook that adds it.",
            finalizer::CHANNEL
        ),
    )
}

/// While the served CustomResourceDefinitions lack fields of this version, the operator creates and adopts nothing.
pub fn outdated(lacks: &str) -> Failure {
    Failure::cluster_action(
        Reason::StatusNotStored,
        format!(
            "The API server would drop fields that the operator must store ({lacks}), so the operator creates and adopts nothing: apply crds/ of this operator version, or upgrade the chart."
        ),
    )
}

#[cfg(test)]
mod tests;
