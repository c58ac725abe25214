//! The kinds, as users write and read them: types and names.

pub mod bounds;
pub mod channel;
pub mod conditions;
pub mod served;
pub mod values;
pub mod workspace;

use std::borrow::Cow;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use strum::IntoStaticStr;

use crate::api::channel::Channel;
use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::text;

/// The field manager and reporting component of the operator.
pub const MANAGER: &str = "ohallo-operator";

/// The API group of every kind and the prefix of every annotation and finalizer.
pub const GROUP: &str = "ohallo.eu";

/// The version of every kind.
pub const VERSION: &str = "v1alpha1";

/// The kinds that the operator reconciles, in the order of their definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
pub enum ObjectKind {
    Channel,
    Workspace,
    ClusterWorkspace,
}

/// The pattern of every oHallo id that a user may write: one URL path segment, never `.` or `..`.
pub const ID_PATTERN: &str = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$";

/// The form in which two spellings of one id are equal: a UUID in lower case, anything else unchanged.
pub fn canonical_id(id: &str) -> Cow<'_, str> {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid { Cow::Owned(id.to_ascii_lowercase()) } else { Cow::Borrowed(id) }
}

/// Whether two texts name the same oHallo channel.
pub fn same_id(one: &str, other: &str) -> bool {
    canonical_id(one) == canonical_id(other)
}

/// The pattern of the names of Secrets and Workspaces. The operator never requests an object of another name.
pub const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";

/// Whether a Secret or a Workspace can have this name.
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 253
        && name.bytes().all(inner)
        && outer(name.bytes().next())
        && outer(name.bytes().next_back())
}

/// Annotations; the code that reads one documents its meaning.
pub mod annotation {
    /// Reconcile now, whatever the backoff. Set by a user.
    pub const RECONCILE_REQUESTED: &str = "ohallo.eu/reconcile-requested-at";
    /// One connectivity test per new value. Set by a user.
    pub const TEST_REQUESTED: &str = "ohallo.eu/test-requested-at";
    /// One provisioning retry per new value. Set by a user.
    pub const RETRY_REQUESTED: &str = "ohallo.eu/retry-requested-at";
    /// Confirms that this create left no channel in oHallo: `<uid>/<attempt>`. Set by a user.
    pub const CREATE_AGAIN: &str = "ohallo.eu/create-again";
    /// Releases a blocked deletion: the finalizer is removed, and what the value names remains in oHallo. Set by a user.
    pub const RELEASE: &str = "ohallo.eu/release";
    /// `<channelId>`: the deletion protection allows the deletion. `<channelId>/<own uid>`: also deletes the channel despite claims
    /// of other namespaces. Set by a user.
    pub const CONFIRM_DELETION: &str = "ohallo.eu/confirm-deletion";
    /// `<uid>/<attempt>/<RFC 3339>`, written before a create is sent. Set by the operator, and never removed.
    pub const CREATE_INTENT: &str = "ohallo.eu/create-intent";
    /// The object's uid. The operator sets it with the removal of its finalizer, where other finalizers keep the object.
    pub const FINALIZER_REMOVED: &str = "ohallo.eu/finalizer-removed";
    /// The prefix of every annotation of the operator: a change of any triggers a reconcile.
    pub const PREFIX: &str = "ohallo.eu/";
    /// The annotations that the operator reads; it drops all others from the API server's responses.
    pub const ALL: [&str; 8] = [
        RECONCILE_REQUESTED,
        TEST_REQUESTED,
        RETRY_REQUESTED,
        CREATE_AGAIN,
        RELEASE,
        CONFIRM_DELETION,
        CREATE_INTENT,
        FINALIZER_REMOVED,
    ];
}

/// Finalizers.
pub mod finalizer {
    /// On a Channel from before the first write to oHallo until its channel is deleted, retained or released.
    pub const CHANNEL: &str = "ohallo.eu/channel";
    /// On a Workspace or ClusterWorkspace while a Channel depends on it.
    pub const IN_USE: &str = "ohallo.eu/in-use";
}

/// The conditions that can be decoded. The schema accepts times that jiff does not, such as the last day of 9999. One
/// object that can't be decoded would fail the list, and so block every other object.
fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Condition>, D::Error> {
    let all = Option::<Vec<Value>>::deserialize(from)?.unwrap_or_default();
    Ok(all.into_iter().filter_map(|condition| serde_json::from_value(condition).ok()).collect())
}

/// A time in the form that the operator writes. The schema has the format `date-time`, so a status with any other text would be
/// rejected as a whole, and an id in it lost: what older definitions stored is read as that form, or not at all.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.as_deref().and_then(text::time))
}

/// The CRDs as they are installed, in the order of the output.
pub fn crds() -> Vec<CustomResourceDefinition> {
    ObjectKind::ALL.into_iter().map(|kind| tidied(kind.crd())).collect()
}

// === impl ObjectKind ===

impl ObjectKind {
    pub const ALL: [Self; 3] = [Self::Channel, Self::Workspace, Self::ClusterWorkspace];

    /// The kind's name, also the value of the metric label `kind`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The name of its objects in URLs and in rules of a role.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Channel => "channels",
            Self::Workspace => "workspaces",
            Self::ClusterWorkspace => "clusterworkspaces",
        }
    }

    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Channel | Self::Workspace => true,
            Self::ClusterWorkspace => false,
        }
    }

    /// What the operator does with its objects; it also updates their status.
    pub const fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &["get", "list", "watch", "patch"],
            Self::Workspace | Self::ClusterWorkspace => &["list", "watch", "patch"],
        }
    }

    fn crd(self) -> CustomResourceDefinition {
        match self {
            Self::Channel => Channel::crd(),
            Self::Workspace => Workspace::crd(),
            Self::ClusterWorkspace => ClusterWorkspace::crd(),
        }
    }
}

/// The status of an object that no operator has reconciled yet. kstatus reports an object without a status as current,
/// so GitOps tools would continue.
pub fn unseen() -> Value {
    json!({"observedGeneration": -1})
}

/// With `nullable`, an explicit null would override a default; without it the API server drops the null first. Defaults
/// that only describe how Rust decodes a missing field would appear in users' objects.
fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.take();
        version.schema = schema.and_then(|schema| {
            let mut value = serde_json::to_value(schema).ok()?;
            strip(&mut value);
            value.pointer_mut("/openAPIV3Schema/properties/status")?["default"] = unseen();
            serde_json::from_value(value).ok()
        });
    }
    crd
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            if map
                .get("default")
                .is_some_and(|value| *value == json!([]) || *value == json!("") || *value == json!(0))
            {
                map.remove("default");
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_neither_nullable_nor_a_default_that_only_describes_the_decoding() {
        let mut schema = json!({
            "nullable": true,
            "properties": {
                "nullable": {"type": "boolean", "nullable": false},
                "list": {"default": []},
                "text": {"default": ""},
                "number": {"default": 0, "minimum": 0},
                "word": {"default": "Delete"},
                "switch": {"default": false},
            },
            "items": [{"nullable": true, "default": [1]}],
        });
        strip(&mut schema);
        let expected = json!({
            "properties": {
                "nullable": {"type": "boolean"},
                "list": {},
                "text": {},
                "number": {"minimum": 0},
                "word": {"default": "Delete"},
                "switch": {"default": false},
            },
            "items": [{"default": [1]}],
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn the_operator_reads_every_annotation_that_has_a_constant() {
        let written =
            include_str!("mod.rs").lines().filter_map(|line| line.trim().strip_prefix("pub const "));
        let values =
            written.filter_map(|line| line.split_once(": &str = \"ohallo.eu/")?.1.strip_suffix("\";"));
        let names: Vec<_> =
            values.filter(|name| !name.is_empty() && !["channel", "in-use"].contains(name)).collect();
        let read: Vec<_> =
            annotation::ALL.iter().filter_map(|name| name.strip_prefix(annotation::PREFIX)).collect();
        assert_eq!(names, read);
    }

    #[test]
    fn a_kind_has_the_names_and_the_scope_of_its_definition() {
        for kind in ObjectKind::ALL {
            let crd = kind.crd().spec;
            assert_eq!((kind.name(), kind.plural()), (&*crd.names.kind, &*crd.names.plural));
            assert_eq!(if kind.is_namespaced() { "Namespaced" } else { "Cluster" }, crd.scope);
            assert_eq!((GROUP, VERSION), (&*crd.group, &*crd.versions[0].name));
        }
    }

    #[test]
    fn two_spellings_of_a_uuid_are_one_id_and_of_anything_else_two() {
        let (lower, upper) = ("d4e5f6a7-b8c9-0123-def0-456789abcdef", "D4E5F6A7-B8C9-0123-DEF0-456789ABCDEF");
        assert!(same_id(lower, upper) && same_id("c1", "c1"));
        for (one, other) in
            [("c1", "C1"), (lower, &upper[1..]), (&lower.replace('-', "_"), &upper.replace('-', "_"))]
        {
            assert!(!same_id(one, other), "{one} {other}");
        }
        assert_eq!(
            canonical_id("G4E5F6A7-B8C9-0123-DEF0-456789ABCDEF"),
            "G4E5F6A7-B8C9-0123-DEF0-456789ABCDEF"
        );
    }

    #[test]
    fn an_object_that_was_never_reconciled_is_in_progress_for_kstatus() {
        for crd in crds() {
            let crd = serde_json::to_value(&crd).unwrap();
            for version in crd["spec"]["versions"].as_array().unwrap() {
                let default = &version["schema"]["openAPIV3Schema"]["properties"]["status"]["default"];
                assert_eq!(*default, json!({"observedGeneration": -1}), "{}", crd["spec"]["names"]["kind"]);
            }
        }
    }
}
