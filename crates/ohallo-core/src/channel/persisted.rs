//! The fields that later decisions of the operator depend on, and the binding of an object to its oHallo channel.

use strum::{IntoStaticStr, VariantArray};

use crate::api::channel::{Channel, ChannelStatus, CredentialsStatus};
use crate::api::same_id;
use crate::conditions::facts;

/// A field that a later decision of the operator depends on; not what it can read from oHallo again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum PersistedField {
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

// === impl PersistedField ===

impl PersistedField {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the field is part of the binding to the oHallo channel.
    pub fn binds(self) -> bool {
        matches!(self, Self::ChannelId | Self::BoundUid | Self::WorkspaceId | Self::Origin)
    }

    pub fn is_kept(self, sent: &ChannelStatus, kept: &ChannelStatus) -> bool {
        match self {
            // Part of the metadata, not of the status.
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
pub struct RecordedBinding {
    pub channel_id: String,
    pub workspace_id: Option<String>,
    pub origin: Option<String>,
}

// === impl RecordedBinding ===

impl RecordedBinding {
    /// The binding of the object with this uid.
    pub fn of(status: &ChannelStatus, uid: &str) -> Option<Self> {
        Some(Self {
            channel_id: status.bound_to(uid)?.to_owned(),
            workspace_id: status.workspace_id.clone(),
            origin: status.origin.clone(),
        })
    }

    /// Restores the binding in a status that lost its id, unless the manifest names another one.
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

/// What decides whether credentials are sent again.
fn pushed(
    credentials: Option<&CredentialsStatus>,
) -> Option<(&[String], &[crate::api::channel::SecretVersion])> {
    credentials.map(|credentials| (credentials.keys.as_slice(), credentials.sources.as_slice()))
}
