//! `Workspace` and `ClusterWorkspace`: a handle on one existing oHallo workspace and the Secret with its API key.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::{ID_PATTERN, NAME_PATTERN};

/// A handle on one existing oHallo workspace for the Channels of its namespace: the workspace's id and the Secret with the API key.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "ohallo.eu",
    version = "v1alpha1",
    kind = "Workspace",
    namespaced,
    status = "WorkspaceStatus",
    category = "ohallo",
    derive = "Default",
    derive = "PartialEq",
    doc = "A Workspace is a handle on one existing oHallo workspace: its id and the Secret with the API key. Channels of the same namespace use the Workspace named \"default\" unless they name another.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Workspace-ID","type":"string","jsonPath":".spec.workspaceId"}"#,
    printcolumn = r#"{"name":"Environment","type":"string","jsonPath":".status.environment"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// The id of the workspace in oHallo, from the URL of its dashboard page. Immutable: create another Workspace instead.
    #[schemars(required, length(min = 1, max = 128), regex(pattern = ID_PATTERN))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspaceId is immutable: create another Workspace, and new Channels that name it. A channel can't move between oHallo workspaces"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,

    /// The Secret that holds the API key, in the namespace of the Workspace.
    #[schemars(required)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<ApiKeyRef>,

    /// Suspends all calls with this API key, and all Channels of this Workspace. Defaults to false.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// A handle on one existing oHallo workspace, shared with the namespaces it allows.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "ohallo.eu",
    version = "v1alpha1",
    kind = "ClusterWorkspace",
    status = "WorkspaceStatus",
    category = "ohallo",
    derive = "Default",
    derive = "PartialEq",
    doc = "A ClusterWorkspace is a Workspace that is shared with the namespaces it allows. Its Secret is in the operator's namespace. Every allowed namespace can adopt each channel of the workspace that no Channel is bound to.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Workspace-ID","type":"string","jsonPath":".spec.workspaceId"}"#,
    printcolumn = r#"{"name":"Environment","type":"string","jsonPath":".status.environment"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterWorkspaceSpec {
    /// The id of the workspace in oHallo, from the URL of its dashboard page. Immutable: create another ClusterWorkspace instead.
    #[schemars(required, length(min = 1, max = 128), regex(pattern = ID_PATTERN))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspaceId is immutable: create another ClusterWorkspace, and new Channels that name it. A channel can't move between oHallo workspaces"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,

    /// The Secret that holds the API key, in the operator's namespace.
    #[schemars(required)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<ApiKeyRef>,

    /// Suspends all calls with this API key, and all Channels of this ClusterWorkspace. Defaults to false.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The namespaces whose Channels may use this ClusterWorkspace: those named and those selected. If unset, no namespace is allowed.
    /// When a namespace is removed from this list, the operator no longer creates or updates its Channels; it still deletes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// Which namespaces may use a ClusterWorkspace: the union of both fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Names of namespaces.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,

    /// Selects namespaces by their labels; `{}` selects all.
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Names the Secret entry that holds an API key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// The name of the entry in the Secret's data that holds the API key. Defaults to apiKey.
    #[schemars(length(min = 1, max = 253), extend("default" = ApiKeyRef::DEFAULT_KEY))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The observed state of a workspace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The workspace's name as oHallo reports it.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// Live or Test, from the prefix of the API key.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,

    /// The last value of the annotation ohallo.eu/reconcile-requested-at that the operator handled.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Ready is always present; Reconciling, Stalled and Suspended only while True.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::api::readable")]
    pub conditions: Vec<Condition>,
}

// === impl ApiKeyRef ===

impl ApiKeyRef {
    const DEFAULT_KEY: &'static str = "apiKey";

    /// The name of the entry, declared or by default.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(Self::DEFAULT_KEY)
    }
}
