//! `Channel`: one oHallo channel. Fields decode leniently (`plan.rs` validates the values); the schema is strict.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::api::bounds::{INTERVAL_SECONDS, RETRY_BACKOFF_SECONDS, RETRY_LIMIT};
use crate::api::{ID_PATTERN, NAME_PATTERN, ObjectKind, finalizer};
use crate::secret_id::SecretId;
use crate::secret_version::Version;

const BOUND_ID: &str = "!has(oldSelf.status) || !has(oldSelf.status.channelId) || !has(self.spec.channelId) \
     || self.spec.channelId == oldSelf.status.channelId \
     || (has(oldSelf.spec.channelId) && self.spec.channelId == oldSelf.spec.channelId)";
const BOUND_ID_SAYS: &str = "this Channel is bound to status.channelId: set channelId to that id, or create another Channel for another channel";
const PINNED_ID: &str = "!has(oldSelf.spec.channelId) || (has(self.spec.channelId) && self.spec.channelId == oldSelf.spec.channelId) \
     || !has(oldSelf.status) || !has(oldSelf.status.channelId)";
const PINNED_ID_SAYS: &str = "channelId can't be changed or removed once the Channel is bound to it";

/// The desired state of one oHallo channel.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "ohallo.eu",
    version = "v1alpha1",
    kind = "Channel",
    namespaced,
    status = "ChannelStatus",
    shortname = "chan",
    category = "ohallo",
    derive = "Default",
    derive = "PartialEq",
    doc = "A Channel is one oHallo channel: an email address, a chat, a WhatsApp or a voice number. The operator creates it in oHallo, keeps it as declared here, and deletes it with this object, unless deletionPolicy is Retain or the channel was adopted.",
    selectable = ".spec.channelType",
    selectable = ".spec.channelId",
    validation = Rule::new(BOUND_ID).message(BOUND_ID_SAYS).field_path(".spec.channelId"),
    validation = Rule::new(PINNED_ID).message(PINNED_ID_SAYS).field_path(".spec.channelId"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.channelType"}"#,
    printcolumn = r#"{"name":"Display-Name","type":"string","jsonPath":".spec.displayName"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Channel-ID","type":"string","jsonPath":".status.channelId","priority":1}"#,
    printcolumn = r#"{"name":"Workspace","type":"string","jsonPath":".spec.workspaceRef.name","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[x_kube(validation = Rule::new("self.channelType != 'email' || !has(self.connectivityTest) || self.connectivityTest != 'OnChange'")
    .message("connectivityTest OnChange is not allowed for email, because each test sends a real email: use OnRequest")
    .field_path(".connectivityTest"))]
#[serde(rename_all = "camelCase")]
pub struct ChannelSpec {
    /// The workspace the channel belongs to. Defaults to the Workspace named "default" in the same namespace. Immutable: a channel can't move to another workspace.
    #[schemars(extend("default" = {"kind": "Workspace", "name": "default"}))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspaceRef is immutable: a channel can't move to another workspace"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_ref: Option<WorkspaceRef>,

    /// The type of the channel: email, chat, whatsapp or voice. Immutable.
    // Lowercase, unlike the enumerations of this API: these are oHallo's own words, which its API, dashboard and documents use.
    #[schemars(required, extend("enum" = ["email", "chat", "whatsapp", "voice"]))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("channelType is immutable: create another Channel (deleting this one may delete its channel in oHallo)"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_type: Option<String>,

    /// The human-readable name that oHallo shows: 1 to 256 characters, without leading or trailing white space.
    #[schemars(required, length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self == self.trim()").message("displayName can't begin or end with white space"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,

    /// The channel's settings in oHallo, by channel type: free-form, at most 64 fields, 64 KiB and 32 levels. The operator manages only the fields written here. It compares
    /// objects field by field, and arrays as a whole. A field that is removed from here is no longer managed, and is not deleted in oHallo.
    #[schemars(schema_with = "config_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,

    /// Whether the channel is active. Unset means not managed. oHallo does not return it, so status.applied keeps the last value that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// Credentials for the external service, from Secrets of the same namespace. A later item overrides earlier ones with the same name. The operator sends them when the content of the Secrets changes.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialSource>,

    /// The id of an existing channel to adopt, instead of creating one. It can be changed until the Channel is bound. After that, only the bound id can be set here, and it can't be changed or removed.
    #[schemars(length(min = 1, max = 128), regex(pattern = ID_PATTERN))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,

    /// Manage or Observe. With Observe the operator never writes to oHallo, claims no channel, and retains the channel at deletion; status.plannedChanges lists what Manage would do. Defaults to Manage.
    #[schemars(extend("enum" = ["Manage", "Observe"]), extend("default" = "Manage"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_policy: Option<String>,

    /// Correct reverts changes made in oHallo. Report only shows them (condition Drifted); the operator still applies changes of the manifest. Defaults to Correct.
    #[schemars(extend("enum" = ["Correct", "Report"]), extend("default" = "Correct"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_policy: Option<String>,

    /// What happens to the channel in oHallo when this object is deleted: Delete or Retain. Unset means Delete for a channel that this operator created and
    /// Retain for an adopted one; status.deletionPolicy shows the value in force.
    #[schemars(extend("enum" = ["Delete", "Retain"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,

    /// Suspends reconciliation: the operator makes no calls for this Channel. Defaults to false.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How often the operator checks for drift, in seconds: 60 to 86400, ±10 %; less often where many Channels share one API key. Defaults to 600.
    #[schemars(range(min = INTERVAL_SECONDS.min, max = INTERVAL_SECONDS.max), extend("default" = INTERVAL_SECONDS.default))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,

    /// When the operator tests the channel's connection: OnRequest (annotation ohallo.eu/test-requested-at), or OnChange, after a change of the credentials or the config. OnChange is not allowed for email: a test sends a real email. Defaults to OnRequest.
    #[schemars(extend("enum" = ["OnRequest", "OnChange"]), extend("default" = "OnRequest"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity_test: Option<String>,

    /// How the operator retries a failed provisioning.
    #[schemars(extend("default" = {"limit": 5, "backoffSeconds": 60}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_retry: Option<ProvisioningRetry>,

    /// What the reader or the cache omitted from this object: it is unknown, not unset. Not part of the API.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "is_internal")]
    pub left_out: Option<Box<LeftOut>>,
}

impl Channel {
    /// Whether the operator's finalizer is present.
    pub fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|name| name == finalizer::CHANNEL)
    }

    /// A copy without the config, which may be large: in the copy it is unknown.
    pub fn without_config(&mut self) -> Self {
        let config = self.spec.config.take();
        let mut copy = self.clone();
        copy.spec.left_out.get_or_insert_default();
        self.spec.config = config;
        copy
    }
}

/// What was omitted from a spec.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
pub struct LeftOut {
    /// Something other than the config was truncated.
    pub cut: bool,
    /// The size of the config, where it was omitted.
    pub config: Option<ConfigSize>,
    /// In the cache: facts about what was omitted.
    #[serde(skip)]
    pub kept: Option<Remainder>,
}

/// How large a config is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigSize {
    /// Bytes of JSON.
    pub bytes: u64,
    /// Bytes of memory after decoding.
    pub decoded: u64,
}

/// What the cache keeps of an object that it does not hold whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// [`crate::channel::triggers::Triggers::own`] of the whole object.
    pub own: u64,
    /// [`crate::channel::spec::config_fits`] of the whole object.
    pub config_fits: bool,
    /// The Secrets that the object names.
    pub secrets: Arc<[SecretId]>,
    /// [`crate::channel::settled::settled`] of the whole object.
    pub settled: bool,
    /// [`crate::channel::settled::pushed_at_rest`] of the whole object.
    pub pushed_at_rest: Option<Vec<(SecretId, Version)>>,
    /// [`CreateRecord::of`] the whole object.
    pub create: Option<Arc<CreateRecord>>,
    /// [`crate::channel::last_seen::finalizer_removed`] of the whole object.
    pub finalizer_removed: bool,
}

/// What a Channel that is not bound records about the creates that were sent for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateRecord {
    pub(crate) intent: Option<String>,
    pub(crate) create_again: Option<String>,
    /// `status.create`: attempt and outcome.
    pub(crate) recorded: Option<(i64, Option<RecordedOutcome>)>,
    /// `status.channelId` is set, and was not bound to this object.
    pub(crate) foreign: bool,
}

/// `status.create.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum RecordedOutcome {
    /// The response was lost: a channel may exist.
    Unknown,
    /// oHallo rejected the create.
    Rejected,
    /// The create was not sent.
    NotSent,
}

/// Names a Workspace or a ClusterWorkspace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRef {
    /// Workspace (same namespace) or ClusterWorkspace. Defaults to Workspace.
    #[schemars(extend("enum" = ["Workspace", "ClusterWorkspace"]), extend("default" = "Workspace"))]
    #[serde(default = "WorkspaceRef::default_kind")]
    pub kind: String,

    /// The name of the Workspace or ClusterWorkspace.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// The source of credentials: every entry of a Secret (secretRef), or one entry (name and secretKeyRef).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = Rule::new("has(self.secretRef) ? !has(self.name) && !has(self.secretKeyRef) : has(self.name) && has(self.secretKeyRef)")
    .message("set either secretRef (every entry of that Secret), or name and secretKeyRef (one entry)"))]
#[serde(rename_all = "camelCase")]
pub struct CredentialSource {
    /// Every entry of this Secret becomes a credential of the same name.
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// The credential's name in oHallo. Set it together with secretKeyRef.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The Secret and the entry that hold the value of this credential.
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Names a Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// If true, a missing Secret is ignored. Unset means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Names one entry of a Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// The name of the entry in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// If true, a missing Secret or entry is ignored. Unset means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// How the operator retries a failed provisioning.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProvisioningRetry {
    /// The number of retries before the Channel stalls: 0 to 20. Defaults to 5.
    #[schemars(range(min = RETRY_LIMIT.min, max = RETRY_LIMIT.max), extend("default" = RETRY_LIMIT.default))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,

    /// Seconds before the first retry: 10 to 3600. The delay doubles with each retry, up to 30 minutes. Defaults to 60.
    #[schemars(range(min = RETRY_BACKOFF_SECONDS.min, max = RETRY_BACKOFF_SECONDS.max), extend("default" = RETRY_BACKOFF_SECONDS.default))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_seconds: Option<i64>,
}

/// The observed state of a channel.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The id of the oHallo channel that this object is bound to.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,

    /// The uid this object had when it was bound. A status that was copied or restored into another object has no effect.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_uid: Option<String>,

    /// The id of the oHallo workspace that the channel was bound in.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,

    /// Created (by this operator) or Adopted. It is set when the Channel is bound.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,

    /// The provisioning status as oHallo reported it in the last read.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,

    /// The deletion policy in force, Delete or Retain: what happens to the channel in oHallo if this object is deleted now.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,

    /// When the channel was created, as oHallo reports it.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,

    /// The API key that last read this channel, as a keyed hash: 16 hex digits.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_with: Option<String>,

    /// The last attempt to create the channel; only while there is no channelId.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateStatus>,

    /// What was last sent to oHallo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedStatus>,

    /// The credentials that were last sent to oHallo: names and sources, never values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,

    /// Retries of a failed provisioning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<ProvisioningStatus>,

    /// The last connectivity test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestStatus>,

    /// Where oHallo differs from the manifest; at most 16 entries, with truncated values.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Difference>,

    /// What managementPolicy Manage would do; set only while the policy is Observe.
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned_changes: Vec<String>,

    /// The last value of the annotation ohallo.eu/reconcile-requested-at that the operator handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Ready is always present, CredentialsApplied and Connected where they apply. Reconciling, Stalled, Drifted, Suspended and DeletionBlocked are present only while True.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::readable")]
    pub conditions: Vec<Condition>,

    /// Part of the status was omitted. Not part of the API.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "is_internal")]
    pub left_out: bool,
}

/// An attempt to create a channel.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CreateStatus {
    /// The number of the attempt, from 1.
    #[serde(default)]
    pub attempt: i64,

    /// Rejected (oHallo rejected it), NotSent, or Unknown: it was sent and its response was lost.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub outcome: String,

    /// When the create was sent.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::api::time")]
    pub sent_at: Option<String>,
}

/// What was last sent to oHallo.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedStatus {
    /// The last value of enabled that was sent; oHallo does not return it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// SHA-256 of the declared displayName, config and enabled.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The credentials that were last sent to oHallo.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// The names of the credentials that were sent; at most 64 are listed.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,

    /// When the credentials were sent.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::api::time")]
    pub pushed_at: Option<String>,

    /// The Secrets that the credentials came from, with the versions that were sent.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SecretVersion>,
}

/// One version of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[serde(default)]
    pub name: String,
    /// The Secret's uid.
    #[schemars(length(max = 64))]
    #[serde(default)]
    pub uid: String,
    /// The Secret's resourceVersion.
    #[schemars(length(max = 64))]
    #[serde(default)]
    pub resource_version: String,
}

/// Retries of a failed provisioning.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProvisioningStatus {
    /// The number of retries since the provisioning failed.
    #[serde(default)]
    pub attempts: i64,
    /// When the last retry was sent.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::api::time")]
    pub last_attempt_at: Option<String>,
    /// When the next retry is due.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::api::time")]
    pub next_attempt_at: Option<String>,
    /// The last value of the annotation ohallo.eu/retry-requested-at that the operator handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
}

/// The last connectivity test.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// What requested the test: the value of ohallo.eu/test-requested-at, or change:<generation>.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// When the test finished.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::api::time")]
    pub finished_at: Option<String>,
    /// Passed, Failed, or Unknown: the test was sent and its response was lost.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The last value of the annotation ohallo.eu/test-requested-at that the operator handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
}

/// A declared value that differs from the value in oHallo.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// displayName, or the path of a config field such as config.fromName.
    #[schemars(length(max = 256))]
    #[serde(default)]
    pub path: String,
    /// The value in the manifest, truncated to 128 characters.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// The value in oHallo, truncated to 128 characters.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// The field is never written to the API server. Not `skip_serializing`: kube's copy of the struct would not read the field.
fn is_internal<T>(_: &T) -> bool {
    true
}

fn config_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

// === impl WorkspaceRef ===

impl WorkspaceRef {
    fn default_kind() -> String {
        ObjectKind::Workspace.name().into()
    }

    /// The kind of the object that it names.
    pub fn object_kind(&self) -> ObjectKind {
        if self.kind == ObjectKind::ClusterWorkspace.name() {
            ObjectKind::ClusterWorkspace
        } else {
            ObjectKind::Workspace
        }
    }
}

impl Default for WorkspaceRef {
    fn default() -> Self {
        Self { kind: Self::default_kind(), name: "default".into() }
    }
}

// === impl ChannelStatus ===

impl ChannelStatus {
    /// The id that the object with this uid is bound to. A status that was copied from another object binds nothing.
    pub fn bound_to(&self, uid: &str) -> Option<&str> {
        self.channel_id.as_deref().filter(|_| !uid.is_empty() && self.bound_uid.as_deref() == Some(uid))
    }
}

/// The resourceVersion as a number. Kubernetes documents the order since 1.35; with etcd it always held.
pub fn version(channel: &Channel) -> Option<u64> {
    channel.metadata.resource_version.as_deref()?.parse().ok()
}
