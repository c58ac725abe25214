// pure
//! What the API server kept of a write. A 2xx alone says nothing: an admission policy or a webhook may strip what was
//! sent, and an older CustomResourceDefinition prunes it. The returned object shows what is stored.

use kube::ResourceExt;
use strum::{IntoStaticStr, VariantArray};

use super::status::Outcome;
use crate::api::channel::{Channel, ChannelStatus, CredentialsStatus};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer, same_id};
use crate::conditions::facts;
use crate::error::{Failure, Need};

/// A field that a later decision of the operator rests on. What it can read again from oHallo is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum Field {
    #[strum(serialize = "finalizer ohallo.eu/channel")]
    Finalizer,
    #[strum(serialize = "annotation ohallo.eu/create-intent")]
    Intent,
    #[strum(serialize = "status.channelId")]
    ChannelId,
    #[strum(serialize = "status.boundUid")]
    BoundUid,
    #[strum(serialize = "status.workspaceId")]
    WorkspaceId,
    #[strum(serialize = "status.origin")]
    Origin,
    #[strum(serialize = "status.create")]
    Create,
    #[strum(serialize = "status.provisioning")]
    Provisioning,
    #[strum(serialize = "status.test")]
    Test,
    #[strum(serialize = "status.applied")]
    Applied,
    #[strum(serialize = "status.credentials")]
    Credentials,
    #[strum(serialize = "status.readWith")]
    ReadWith,
    #[strum(serialize = "status.observedGeneration")]
    ObservedGeneration,
    #[strum(serialize = "status.conditions")]
    Conditions,
}

// === impl Field ===

impl Field {
    /// As a message names it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the binding to the oHallo channel is part of it.
    pub fn binds(self) -> bool {
        matches!(self, Self::ChannelId | Self::BoundUid | Self::WorkspaceId | Self::Origin)
    }

    fn is_kept(self, sent: &ChannelStatus, kept: &ChannelStatus) -> bool {
        match self {
            // Of metadata, not of the status.
            Self::Finalizer | Self::Intent => true,
            Self::ChannelId => sent.channel_id == kept.channel_id,
            Self::BoundUid => sent.bound_uid == kept.bound_uid,
            Self::WorkspaceId => sent.workspace_id == kept.workspace_id,
            Self::Origin => sent.origin == kept.origin,
            Self::Create => sent.create == kept.create,
            Self::Provisioning => sent.provisioning == kept.provisioning,
            Self::Test => sent.test == kept.test,
            Self::Applied => sent.applied == kept.applied,
            Self::Credentials => {
                kept.left_out || pushed(sent.credentials.as_ref()) == pushed(kept.credentials.as_ref())
            }
            Self::ReadWith => sent.read_with == kept.read_with,
            Self::ObservedGeneration => sent.observed_generation == kept.observed_generation,
            Self::Conditions => kept.left_out || facts(&sent.conditions) == facts(&kept.conditions),
        }
    }
}

/// What binds an object to its oHallo channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub channel_id: String,
    pub workspace_id: Option<String>,
    pub origin: Option<String>,
}

// === impl Binding ===

impl Binding {
    /// The binding of the object with this uid.
    pub fn of(status: &ChannelStatus, uid: &str) -> Option<Self> {
        Some(Self {
            channel_id: status.bound_to(uid)?.to_owned(),
            workspace_id: status.workspace_id.clone(),
            origin: status.origin.clone(),
        })
    }

    /// Puts the binding back into a status that holds no id any more, unless the manifest names another one.
    pub fn restore(&self, channel: &Channel, status: &mut ChannelStatus) -> bool {
        let named = channel.spec.channel_id.as_deref();
        if status.channel_id.is_some() || named.is_some_and(|named| !same_id(named, &self.channel_id)) {
            return false;
        }
        status.channel_id = Some(self.channel_id.clone());
        status.bound_uid.clone_from(&channel.metadata.uid);
        status.workspace_id.clone_from(&self.workspace_id);
        status.origin.clone_from(&self.origin);
        status.create = None;
        true
    }
}

/// What of the sent finalizer, and of the sent intent, the returned object does not show.
pub fn lost_metadata(intent: Option<&str>, returned: &Channel) -> Vec<Field> {
    let finalizer = returned.finalizers().iter().any(|name| name == finalizer::CHANNEL);
    let stored = returned.annotations().get(annotation::CREATE_INTENT).map(String::as_str);
    let lost = [
        (!finalizer).then_some(Field::Finalizer),
        intent.filter(|intent| stored != Some(intent)).map(|_| Field::Intent),
    ];
    lost.into_iter().flatten().collect()
}

/// What of the sent status the returned one does not show.
pub fn lost_status(sent: &ChannelStatus, returned: Option<&ChannelStatus>) -> Vec<Field> {
    let none = ChannelStatus::default();
    let kept = returned.unwrap_or(&none);
    Field::VARIANTS.iter().copied().filter(|field| !field.is_kept(sent, kept)).collect()
}

/// The status to send again: what was sent, while the object shows the same loss and the manifest names no other channel.
pub fn resent(channel: &Channel, unstored: Option<&ChannelStatus>, lost: &[Field]) -> Option<ChannelStatus> {
    let sent = unstored.filter(|_| channel.metadata.deletion_timestamp.is_none())?;
    let named = channel.spec.channel_id.as_deref();
    let other = named.is_some_and(|named| sent.channel_id.as_deref().is_none_or(|id| !same_id(named, id)));
    let same = lost_status(sent, channel.status.as_ref()) == lost;
    (same && !other).then(|| sent.clone())
}

/// Why nothing more is done for the object, and what somebody has to change.
pub fn failure(lost: &[Field]) -> Failure {
    let names: Vec<_> = lost.iter().map(|field| field.name()).collect();
    let names = names.join(", ");
    let in_status = !lost.iter().any(|field| matches!(field, Field::Finalizer | Field::Intent));
    let remedy = if in_status {
        "apply the CustomResourceDefinitions of this operator version, and exempt channels.ohallo.eu/status from the admission policy or webhook that removes it"
    } else {
        "exempt the operator's patches of channels.ohallo.eu from the admission policy or mutating webhook that removes it"
    };
    let effect = if in_status { "" } else { " and calls nothing that changes oHallo" };
    Failure {
        need: Need::Cluster,
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
        need: Need::Cluster,
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
        need: Need::Cluster,
        reason: Reason::StatusNotStored,
        message: format!(
            "The API server would drop fields that the operator must remember ({lacks}), so it creates and adopts nothing: apply crds/ of this operator version, or upgrade the chart."
        ),
        class: None,
    }
}

/// What decides whether credentials are sent again.
fn pushed(
    credentials: Option<&CredentialsStatus>,
) -> Option<(&[String], &[crate::api::channel::SecretVersion])> {
    credentials.map(|credentials| (credentials.keys.as_slice(), credentials.sources.as_slice()))
}

#[cfg(test)]
mod tests;
