//! The words of a plan: what happens to one Channel, and what that does in oHallo.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray;

/// How much a plan knows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, clap::ValueEnum, strum::Display,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Depth {
    /// The manifests alone, compared with --base. No credentials are used
    Files,
    /// Also the objects of the cluster: ids, origins and what was applied last
    Cluster,
    /// Also the channels as oHallo returns them
    #[value(name = "ohallo")]
    #[serde(rename = "oHallo")]
    #[strum(serialize = "oHallo")]
    Ohallo,
}

/// What an apply does, in the order in which a plan lists it: what can't be undone comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, VariantArray)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The operator deletes the channel in oHallo.
    Destroyed,
    /// Another program may delete the object, and then the operator its channel: the message says which, and why.
    MayBeDestroyed,
    /// The object is deleted, and its channel stays in oHallo.
    Retained,
    /// Another object takes the channel over.
    HandedOver,
    /// The object is deleted, and its channel is deleted or stays: the manifests don't show which.
    DependsOnOrigin,
    /// The object is deleted, and its deletion waits.
    Waits,
    /// The operator creates a channel in oHallo.
    Created,
    /// The object binds a channel that exists.
    Adopted,
    /// The operator changes fields of the channel.
    Updated,
    /// The operator sends credentials.
    CredentialsPushed,
    /// The operator tests the connection. For email, that sends a real email.
    Tested,
    /// The operator asks oHallo to provision the channel again.
    ProvisioningRetried,
    /// What was managed is no longer managed, and stays in oHallo as it is.
    NoLongerManaged,
    /// The operator only reads the channel: managementPolicy is Observe.
    Observed,
    /// The object or its Workspace is suspended.
    Suspended,
    /// No operator serves the object.
    Unserved,
    /// The operator waits for an input or for oHallo.
    Waiting,
    /// A user has to change something first.
    Blocked,
    /// The API server refuses the object.
    Refused,
}

/// One effect on one object.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub effect: Effect,
    pub kind: String,
    /// Left out for a kind without namespaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// `spec.channelType`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub channel_type: String,
    /// `spec.displayName`, or the name that oHallo returned for a channel that is deleted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// The id of the channel in oHallo; left out where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// The reason that the operator would report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence: why, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The fields that change, for an update and an adoption.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// The names of the credentials, never their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// Nothing is deleted in oHallo yet, but a channel is as soon as what the deletion waits for has ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletes_later: bool,
}

/// One field of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// `displayName`, `enabled`, or the path of a config field such as `config.fromName`.
    pub path: String,
    /// The value before; left out where oHallo has none, or where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Whether the value before is known. If not, the field may have the new value already.
    pub old_known: bool,
    /// The value after.
    pub new: Value,
}

// === impl Effect ===

impl Effect {
    /// The heading of its section.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Destroyed => "Destroyed in oHallo",
            Self::MayBeDestroyed => "May be destroyed in oHallo",
            Self::Retained => "Retained in oHallo",
            Self::HandedOver => "Handed over",
            Self::DependsOnOrigin => "Depends on its origin",
            Self::Waits => "Deletion waits",
            Self::Created => "Created",
            Self::Adopted => "Adopted",
            Self::Updated => "Updated",
            Self::CredentialsPushed => "Credentials pushed",
            Self::Tested => "Connectivity tests",
            Self::ProvisioningRetried => "Provisioning retried",
            Self::NoLongerManaged => "No longer managed",
            Self::Observed => "Observed only",
            Self::Suspended => "Suspended",
            Self::Unserved => "Not served",
            Self::Waiting => "Waiting",
            Self::Blocked => "Blocked",
            Self::Refused => "Refused by the API server",
        }
    }

    /// Its word in the count line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::MayBeDestroyed => "may be destroyed",
            Self::Retained => "retained",
            Self::HandedOver => "handed over",
            Self::DependsOnOrigin => "depends on its origin",
            Self::Waits => "deletion waits",
            Self::Created => "created",
            Self::Adopted => "adopted",
            Self::Updated => "updated",
            Self::CredentialsPushed => "credentials pushed",
            Self::Tested => "tested",
            Self::ProvisioningRetried => "provisioning retried",
            Self::NoLongerManaged => "no longer managed",
            Self::Observed => "observed",
            Self::Suspended => "suspended",
            Self::Unserved => "not served",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
        }
    }

    /// Whether a channel in oHallo is deleted by the apply, or may be.
    pub fn destroys(self) -> bool {
        matches!(self, Self::Destroyed | Self::MayBeDestroyed | Self::DependsOnOrigin)
    }

    /// Whether anything changes in oHallo or in who manages a channel there.
    pub fn is_change(self) -> bool {
        match self {
            Self::Destroyed
            | Self::MayBeDestroyed
            | Self::Retained
            | Self::HandedOver
            | Self::DependsOnOrigin
            | Self::Waits
            | Self::Created
            | Self::Adopted
            | Self::Updated
            | Self::CredentialsPushed
            | Self::Tested
            | Self::ProvisioningRetried
            | Self::NoLongerManaged => true,
            Self::Observed
            | Self::Suspended
            | Self::Unserved
            | Self::Waiting
            | Self::Blocked
            | Self::Refused => false,
        }
    }
}

// === impl Change ===

impl Change {
    pub fn of(effect: Effect, kind: &str, name: &str) -> Self {
        Self {
            effect,
            kind: kind.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            channel_type: String::new(),
            display_name: String::new(),
            channel_id: None,
            reason: None,
            message: String::new(),
            fields: Vec::new(),
            credentials: Vec::new(),
            deletes_later: false,
        }
    }

    /// `Channel support/hotline`.
    pub fn object(&self) -> String {
        let separator = if self.namespace.is_empty() { "" } else { "/" };
        format!("{} {}{separator}{}", self.kind, self.namespace, self.name)
    }
}

impl FieldChange {
    /// `"old" → "new"`, each at most so long.
    pub fn arrow(&self, max: usize) -> String {
        let shown = |value: &Value| ohallo_core::text::sanitize(&value.to_string(), max);
        let old = match &self.old {
            Some(old) => shown(old),
            None if self.old_known => "(unset)".to_owned(),
            None => "(unknown)".to_owned(),
        };
        format!("{old} → {}", shown(&self.new))
    }
}
