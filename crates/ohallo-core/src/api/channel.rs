//! `Channel`: one oHallo channel. Fields decode leniently (a value is judged in `plan.rs`), the schema is strict.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::NAME_PATTERN;
use crate::secret_id::SecretId;
use crate::secret_version::Version;

const BOUND_ID: &str = "!has(oldSelf.status) || !has(oldSelf.status.channelId) || !has(self.spec.channelId) \
     || self.spec.channelId == oldSelf.status.channelId \
     || (has(oldSelf.spec.channelId) && self.spec.channelId == oldSelf.spec.channelId)";
const BOUND_ID_SAYS: &str = "channelId may only be set to the channel this object is bound to (status.channelId); to use another channel, \
     make another Channel";
const PINNED_ID: &str = "!has(oldSelf.spec.channelId) || (has(self.spec.channelId) && self.spec.channelId == oldSelf.spec.channelId) \
     || !has(oldSelf.status) || !has(oldSelf.status.channelId)";
const PINNED_ID_SAYS: &str = "channelId can't be changed or removed once the Channel is bound to it";

/// What a user declares about one oHallo channel.
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
    doc = "A Channel is one oHallo channel: an email address, a chat, a WhatsApp or a voice number. The operator creates it in oHallo, keeps it as declared here, and deletes it.",
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
    .message("connectivityTest OnChange is refused for email: each test sends a real mail; use OnRequest")
    .field_path(".connectivityTest"))]
#[serde(rename_all = "camelCase")]
pub struct ChannelSpec {
    /// The workspace the channel belongs to. Defaults to the Workspace named "default" in the same namespace. It can't be changed: a channel can't move.
    #[schemars(extend("default" = {"kind": "Workspace", "name": "default"}))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspaceRef can't be changed: a channel can't move to another workspace"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_ref: Option<WorkspaceRef>,

    /// What the channel is: email, chat, whatsapp or voice. It can't be changed.
    #[schemars(required, extend("enum" = ["email", "chat", "whatsapp", "voice"]))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("channelType can't be changed: delete this Channel and apply another"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_type: Option<String>,

    /// The human-readable name that oHallo shows: 1 to 256 characters, no white space at the ends.
    #[schemars(required, length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self == self.trim()").message("displayName can't begin or end with white space"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,

    /// The channel's settings in oHallo, by channel type: free-form, at most 64 keys, 64 KiB and 32 levels. Only the keys written here are managed; objects are compared
    /// key by key, arrays as a whole. A key removed from here stops being managed and is not deleted in oHallo.
    #[schemars(schema_with = "config_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,

    /// Whether the channel is active. Unset means not managed. oHallo can't be asked for it, so status.applied keeps the last value that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// Credentials for the external service, from Secrets of the same namespace; later items win. They are sent when the Secrets' content changes.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialSource>,

    /// Adopt this existing channel instead of creating one. May be corrected until the Channel is bound; then it may only be set to the bound id, and stays.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,

    /// Manage, or Observe: nothing is ever written to oHallo, no channel is claimed, deletion leaves the channel, and status.plannedChanges lists what Manage would do. Defaults to Manage.
    #[schemars(extend("enum" = ["Manage", "Observe"]), extend("default" = "Manage"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_policy: Option<String>,

    /// Correct puts back what was changed in oHallo. Report only shows it (condition Drifted); changes of the manifest are still applied. Defaults to Correct.
    #[schemars(extend("enum" = ["Correct", "Report"]), extend("default" = "Correct"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_policy: Option<String>,

    /// What happens to the channel in oHallo when this object is deleted: Delete or Retain. Unset means Delete for a channel that this operator created and
    /// Retain for an adopted one; status.deletionPolicy shows the value in force.
    #[schemars(extend("enum" = ["Delete", "Retain"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,

    /// While true nothing is called for this Channel. Defaults to false.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How often changes made in oHallo are looked for, in seconds: 60 to 86400, ±10 %; longer where many Channels share one key. Defaults to 600.
    #[schemars(range(min = 60, max = 86400), extend("default" = 600))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,

    /// When the channel's connection is tested: OnRequest (annotation ohallo.eu/test-requested-at) or OnChange, after credentials or config changed. OnChange is refused for email: a test sends a real mail. Defaults to OnRequest.
    #[schemars(extend("enum" = ["OnRequest", "OnChange"]), extend("default" = "OnRequest"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity_test: Option<String>,

    /// How a failed provisioning is retried.
    #[schemars(extend("default" = {"limit": 5, "backoffSeconds": 60}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_retry: Option<ProvisioningRetry>,

    /// What the reader or the cache left out of this object: it is unknown, not unset. No part of the API.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "is_internal")]
    pub left_out: Option<Box<LeftOut>>,
}

impl Channel {
    /// A copy without the config, which may be large: there it is unknown.
    pub fn without_config(&mut self) -> Self {
        let config = self.spec.config.take();
        let mut copy = self.clone();
        copy.spec.left_out.get_or_insert_default();
        self.spec.config = config;
        copy
    }
}

/// What is missing of a spec.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
pub struct LeftOut {
    /// Something other than the config was cut.
    pub cut: bool,
    /// The size of the config, where it was left out.
    pub config: Option<ConfigSize>,
    /// In the cache: what stands for the rest.
    #[serde(skip)]
    pub kept: Option<Remainder>,
}

/// How large a config is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigSize {
    /// Bytes of JSON.
    pub bytes: u64,
    /// Bytes of memory once it is decoded.
    pub decoded: u64,
}

/// What the cache knows of an object without having it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// [`crate::channel::triggers::Triggers::own`] of the whole object.
    pub own: u64,
    /// [`crate::channel::spec::config_fits`] of the whole object.
    pub config_fits: bool,
    /// The Secrets that it names.
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

/// What a Channel that is not bound says of the creates that were sent for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateRecord {
    pub(crate) intent: Option<String>,
    pub(crate) create_again: Option<String>,
    /// `status.create`: attempt and outcome.
    pub(crate) recorded: Option<(i64, String)>,
    /// `status.channelId` is set, and was not bound to this object.
    pub(crate) foreign: bool,
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

/// Where credentials come from: every key of a Secret (secretRef), or one (name and secretKeyRef).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = Rule::new("has(self.secretRef) ? !has(self.name) && !has(self.secretKeyRef) : has(self.name) && has(self.secretKeyRef)")
    .message("write either secretRef (every key of that Secret), or name and secretKeyRef (one key)"))]
#[serde(rename_all = "camelCase")]
pub struct CredentialSource {
    /// Every key of this Secret becomes a credential of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// The credential's name in oHallo, together with secretKeyRef.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The Secret and its key that hold the value of this credential.
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

    /// When true, a Secret that is missing is passed over. Unset is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Names one key of a Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// The key inside the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// When true, a Secret or key that is missing is passed over. Unset is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// How a failed provisioning is retried.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProvisioningRetry {
    /// How many retries before the Channel stalls: 0 to 20. Defaults to 5.
    #[schemars(range(min = 0, max = 20), extend("default" = 5))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,

    /// Seconds before the first retry, doubled for each further one up to 30 minutes: 10 to 3600. Defaults to 60.
    #[schemars(range(min = 10, max = 3600), extend("default" = 60))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_seconds: Option<i64>,
}

/// What is true about a channel, as far as it is known.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The id of the oHallo channel that this object is bound to.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,

    /// The uid this object had when it was bound. A status that was copied or restored into another object is not believed.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_uid: Option<String>,

    /// The id of the oHallo workspace that the channel was bound in.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,

    /// Created (by this operator) or Adopted; written with each binding.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,

    /// oHallo's own word for the provisioning status, as last read.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,

    /// What would happen to the channel in oHallo if this object were deleted now: Delete or Retain.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,

    /// When the channel was created, in oHallo's words.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,

    /// Which API key last read this channel, as a keyed hash: 16 hex digits.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_with: Option<String>,

    /// The last attempt to create the channel; only while there is no channelId.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateStatus>,

    /// What was last sent to oHallo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedStatus>,

    /// Which credentials were last sent to oHallo; never their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,

    /// Retries of a failed provisioning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<ProvisioningStatus>,

    /// The last connectivity test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestStatus>,

    /// Where oHallo differs from what is declared; at most 16 entries, values cut.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Difference>,

    /// What managementPolicy Manage would do; only while it is Observe.
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned_changes: Vec<String>,

    /// The last value of the annotation ohallo.eu/reconcile-requested-at that was handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Ready always; CredentialsApplied and Connected where they apply; Reconciling, Stalled, Drifted, Suspended and DeletionBlocked only while True.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::readable")]
    pub conditions: Vec<Condition>,

    /// Something of it was left out. No part of the API.
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

    /// Rejected (oHallo refused it), NotSent, or Unknown: it was sent and its answer was lost.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub outcome: String,

    /// When it was sent.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
}

/// What was last sent to oHallo.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedStatus {
    /// The last value of enabled that was sent; oHallo can't be asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// SHA-256 of the declared displayName, config and enabled.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Which credentials were last sent to oHallo.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// The names of the credentials that were sent; at most 64 are listed.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,

    /// When they were sent.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<String>,

    /// The Secrets they came from, as they then were.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SecretVersion>,
}

/// A Secret at one moment.
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
    /// How many retries were sent since the provisioning failed.
    #[serde(default)]
    pub attempts: i64,
    /// When the last retry was sent.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<String>,
    /// When the next retry is due.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// The last value of the annotation ohallo.eu/retry-requested-at that was handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
}

/// The last connectivity test.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// What asked for it: the value of ohallo.eu/test-requested-at, or change:<generation>.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// When it finished.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Passed, Failed, or Unknown: it was sent and its answer was lost.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The last value of the annotation ohallo.eu/test-requested-at that was handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
}

/// A declared value that oHallo does not have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// displayName, or the path of a config key such as config.fromName.
    #[schemars(length(max = 256))]
    #[serde(default)]
    pub path: String,
    /// What the manifest says; cut at 128 characters.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// What oHallo has; cut at 128 characters.
    #[schemars(length(max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// What is never written to the API server. Not `skip_serializing`: kube's copy of the struct would not read the field.
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
        "Workspace".into()
    }
}

impl Default for WorkspaceRef {
    fn default() -> Self {
        Self { kind: Self::default_kind(), name: "default".into() }
    }
}

// === impl ChannelStatus ===

impl ChannelStatus {
    /// The id that the object with this uid is bound to. A status of another object binds nothing.
    pub fn bound_to(&self, uid: &str) -> Option<&str> {
        self.channel_id.as_deref().filter(|_| !uid.is_empty() && self.bound_uid.as_deref() == Some(uid))
    }
}

/// The object's version as a number: they can be compared since Kubernetes 1.35, and always could in etcd.
pub fn version(channel: &Channel) -> Option<u64> {
    channel.metadata.resource_version.as_deref()?.parse().ok()
}
