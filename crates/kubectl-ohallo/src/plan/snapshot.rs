//! What a cluster shows of the objects before the apply. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Error, ResourceExt};
use ohallo_core::api::ObjectKind;
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use serde_json::Value;

use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;
use crate::plan::apply::Before;
use crate::plan::protection;

/// Objects of one request.
const PAGE: u32 = 500;

/// See the module.
#[derive(Default)]
pub struct Snapshot {
    pub before: Before,
    /// The ClusterWorkspaces may not be read.
    pub unread_cluster_workspaces: bool,
    /// The labels of a namespace may not be read.
    pub unread_namespaces: bool,
    /// What the reader of the plan should know.
    pub notes: Vec<String>,
}

/// Reads the Channels and workspaces of these namespaces, and of all others that may be read.
///
/// # Errors
/// What these namespaces have can't be read.
pub async fn snapshot(cluster: &Cluster, namespaces: &BTreeSet<String>) -> Result<Snapshot, Failure> {
    let mut found = Snapshot::default();
    let channels = objects(cluster, ObjectKind::Channel, namespaces).await?;
    if channels.is_partial {
        found.notes.push(
            "Channels of other namespaces may not be read: whether they claim a channel is not known."
                .to_owned(),
        );
    }
    for object in channels.items {
        let name = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
        found.before.channels.insert(name, value(&object)?);
    }
    for object in objects(cluster, ObjectKind::Workspace, namespaces).await?.items {
        let key = WorkspaceKey { namespace: object.namespace(), name: object.name_any() };
        found.before.workspaces.insert(key, value(&object)?);
    }
    match list(&cluster.api_of_all_namespaces(ObjectKind::ClusterWorkspace)).await {
        Ok(items) => {
            for object in items {
                let key = WorkspaceKey { namespace: None, name: object.name_any() };
                found.before.workspaces.insert(key, value(&object)?);
            }
        }
        Err(error) if is_forbidden(&error) => {
            found.unread_cluster_workspaces = true;
            found
                .notes
                .push("ClusterWorkspaces may not be read, so they are assumed to be usable.".to_owned());
        }
        Err(error) => return Err(failed("the ClusterWorkspaces can't be read", &error)),
    }
    found.before.labels = labels(cluster, namespaces).await?;
    found.unread_namespaces = found.before.labels.len() < namespaces.len();
    found.before.protected = protection::namespaces(cluster, namespaces, &found.before.labels).await?;
    Ok(found)
}

struct Listed {
    items: Vec<DynamicObject>,
    /// Some namespaces were left out.
    is_partial: bool,
}

async fn objects(
    cluster: &Cluster,
    kind: ObjectKind,
    namespaces: &BTreeSet<String>,
) -> Result<Listed, Failure> {
    let what = |place: &str| format!("the {}s{place} can't be read", kind.name());
    match list(&cluster.api_of_all_namespaces(kind)).await {
        Ok(items) => return Ok(Listed { items, is_partial: false }),
        Err(error) if is_forbidden(&error) => {}
        Err(error) => return Err(failed(&what(""), &error)),
    }
    let mut items = Vec::new();
    for namespace in namespaces {
        let found = list(&cluster.api_in(kind, namespace)).await;
        items
            .extend(found.map_err(|error| failed(&what(&format!(" of the namespace {namespace}")), &error))?);
    }
    Ok(Listed { items, is_partial: true })
}

async fn list(api: &Api<DynamicObject>) -> kube::Result<Vec<DynamicObject>> {
    let mut items = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = read(async || api.list(&params).await).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}

/// Labels decide what a ClusterWorkspace allows. Without the right to read them, none are known.
async fn labels(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let mut found = BTreeMap::new();
    for namespace in namespaces {
        match read(async || api.get_opt(namespace).await).await {
            Ok(object) => {
                let labels = object.and_then(|object| object.metadata.labels).unwrap_or_default();
                found.insert(namespace.clone(), labels);
            }
            Err(error) if is_forbidden(&error) => {}
            Err(error) => {
                return Err(failed(&format!("the namespace {namespace} can't be read"), &error));
            }
        }
    }
    Ok(found)
}

fn value(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(Failure::undecided)
}

fn is_forbidden(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403)
}
