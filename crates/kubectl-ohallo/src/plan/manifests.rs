//! The objects of manifests that matter to a plan, without the defaults of the API server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Secret;
use ohallo_core::api::{GROUP, ObjectKind};
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use ohallo_core::secret_content::Content;
use serde_json::Value;

use crate::failure::Failure;
use crate::judge::{Finding, Kind, Kinds, Recognized, judge};
use crate::manifest::{Base, Identity, Layout, read, visit};
use crate::plan::change::{Change, Effect};
use crate::plan::cluster_state::Secrets;

/// See the module. Secrets hold values: no Debug.
#[derive(Default)]
pub struct Manifests {
    pub channels: BTreeMap<NamespacedName, Value>,
    pub workspaces: BTreeMap<WorkspaceKey, Value>,
    pub secrets: BTreeMap<NamespacedName, Content>,
    /// Objects whose deletion deletes Channels that no manifest shows: see [`cascades`].
    pub cascading: BTreeMap<Identity, Value>,
    pub layout: Layout,
    /// A base without any object.
    pub is_empty: bool,
    /// Objects that the API server would refuse.
    pub refused: Vec<Change>,
}

// === impl Manifests ===

impl Manifests {
    /// Reads files, directories and stdin.
    ///
    /// # Errors
    /// One can't be read or parsed: a plan with holes would hide what an apply does.
    pub fn read(places: &[PathBuf], kinds: &Kinds, namespace: &str) -> Result<Self, Failure> {
        let mut found = Self::default();
        found.layout = visit(read(places), "", namespace, |identity, node| match kinds.recognize(node) {
            Recognized::Foreign => found.foreign(&identity, node.value()),
            Recognized::Unknown(path, message) => {
                found.refused.push(refused(&identity, &format!("{path}: {message}")));
            }
            Recognized::Ours(_) if identity.name.is_empty() => {
                found.refused.push(refused(&identity, "metadata.name: kubectl apply needs a name"));
            }
            Recognized::Ours(kind) => match judge(kind, node, None).as_slice() {
                [] => found.ours(kind, &identity, node.value()),
                findings => found.refused.push(refused(&identity, &sentence(findings))),
            },
        })?;
        Ok(found)
    }

    /// The objects of a base, which was valid when it was applied.
    pub fn of_base(base: Base, kinds: &Kinds) -> Self {
        let mut found = Self { is_empty: base.is_empty(), ..Self::default() };
        for (identity, object) in base.objects() {
            match kinds.get(&identity.kind).filter(|_| identity.group == GROUP) {
                Some(kind) => found.ours(kind, identity, object.clone()),
                None => found.foreign(identity, object.clone()),
            }
        }
        found.layout = base.into_layout();
        found
    }

    fn ours(&mut self, kind: &Kind, identity: &Identity, mut object: Value) {
        if let (true, Some(metadata)) =
            (kind.namespaced, object.pointer_mut("/metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("namespace".to_owned(), identity.namespace.clone().into());
        }
        let name = NamespacedName::new(&identity.namespace, &identity.name);
        if kind.name == ObjectKind::Channel.name() {
            self.channels.insert(name, object);
        } else {
            let namespace = kind.namespaced.then_some(name.namespace);
            self.workspaces.insert(WorkspaceKey { namespace, name: name.name }, object);
        }
    }

    /// Of the other kinds, Secrets matter, and what Channels are in.
    fn foreign(&mut self, identity: &Identity, mut object: Value) {
        if let Some(identity) = cascading(identity) {
            self.cascading.insert(identity, object.clone());
        }
        if identity.group.is_empty() && identity.kind == "Secret" {
            // The place of its manifest stands for its uid: no value is compared across Secrets.
            if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                metadata.insert("uid".to_owned(), "manifest".into());
            }
            // What can't be decoded is refused by the API server, which keeps the Secret as it is.
            if let Ok(mut secret) = serde_json::from_value::<Secret>(object) {
                let texts = secret.string_data.take().unwrap_or_default();
                let texts = texts.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into())));
                secret.data.get_or_insert_default().extend(texts);
                let name = NamespacedName::new(&identity.namespace, &identity.name);
                self.secrets.insert(name, Content::of(secret));
            }
        }
    }

    /// Every namespace that an object is in.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let channels = self.channels.keys().map(|name| name.namespace.as_str());
        let secrets = self.secrets.keys().map(|name| name.namespace.as_str());
        let workspaces = self.workspaces.keys().filter_map(|key| key.namespace.as_deref());
        channels.chain(secrets).chain(workspaces)
    }
}

/// The identity of an object whose deletion deletes Channels that its manifest does not show. Kubernetes deletes what is in a
/// namespace or of a kind; GitOps tools delete what they applied.
fn cascading(identity: &Identity) -> Option<Identity> {
    let in_namespaces = match (identity.group.as_str(), identity.kind.as_str()) {
        ("", "Namespace") => false,
        ("apiextensions.k8s.io", "CustomResourceDefinition")
            if identity.name.ends_with(&format!(".{GROUP}")) =>
        {
            false
        }
        ("kustomize.toolkit.fluxcd.io", "Kustomization")
        | ("helm.toolkit.fluxcd.io", "HelmRelease")
        | ("argoproj.io", "Application" | "ApplicationSet") => true,
        _ => return None,
    };
    let namespace = if in_namespaces { identity.namespace.clone() } else { String::new() };
    Some(Identity { namespace, ..identity.clone() })
}

/// The API server refuses this object.
pub fn refused(identity: &Identity, message: &str) -> Change {
    let namespaced = identity.kind != ObjectKind::ClusterWorkspace.name();
    Change {
        namespace: if namespaced { identity.namespace.clone() } else { String::new() },
        message: message.to_owned(),
        ..Change::of(Effect::Refused, &identity.kind, &identity.name)
    }
}

/// The first finding, and how many there are.
pub fn sentence(findings: &[Finding]) -> String {
    let Some(first) = findings.first() else { return String::new() };
    let path = first.path.to_string();
    let separator = if path.is_empty() { "" } else { ": " };
    let more = match findings.len() {
        1 => String::new(),
        count => format!(" (and {} more: run kubectl ohallo validate)", count - 1),
    };
    format!("{path}{separator}{}{more}", first.message)
}

/// Adds the Secrets of manifests to those that are known, as an apply does: the entries of a manifest win.
pub fn overlaid(known: &mut Secrets, manifests: &Manifests) {
    for (name, content) in &manifests.secrets {
        let merged = match (known.0.remove(name), content.only(|_| true)) {
            (
                Some(Content::Present { uid, resource_version, mut data }),
                Content::Present { data: declared, .. },
            ) => {
                data.extend(declared);
                Content::Present { uid, resource_version, data }
            }
            (_, content) => content,
        };
        known.0.insert(name.clone(), merged);
    }
}
