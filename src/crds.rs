// I/O
//! Waits until the API server knows our kinds, with every field of this version.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::api::channel::Channel;
use crate::api::served::Served;
use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::prerequisites::{LONGEST, Prerequisite, some_of};
use crate::serve::Readiness;
use crate::settings::Settings;

const CRDS: Prerequisite = Prerequisite {
    part: "CustomResourceDefinitions",
    waiting: "waiting for the CustomResourceDefinitions",
    remedy: "apply crds/ of this version, or upgrade the chart",
};
/// What every authenticated user may read.
const DOCUMENT: &str = "/openapi/v3/apis/ohallo.eu/v1alpha1";

/// Says so in the log and in `/readyz` while they are missing or too old.
pub async fn there(client: &Client, settings: &Settings, readiness: &Readiness) {
    CRDS.met(readiness, || wrong(client, settings)).await;
}

async fn wrong(client: &Client, settings: &Settings) -> String {
    let missing = missing(client, settings).await;
    if missing.is_empty() { older(client, settings).await } else { missing }
}

async fn missing(client: &Client, settings: &Settings) -> String {
    let namespace = settings.namespaces.first();
    let channels = namespace
        .map_or_else(|| Api::<Channel>::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
    let workspaces = namespace
        .map_or_else(|| Api::<Workspace>::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
    let clusters = async {
        if !settings.serves_cluster_workspaces() {
            return None;
        }
        look(Api::<ClusterWorkspace>::all(client.clone()), "clusterworkspaces.ohallo.eu").await
    };
    let (channels, workspaces, clusters) = tokio::join!(
        look(channels, "channels.ohallo.eu"),
        look(workspaces, "workspaces.ohallo.eu"),
        clusters
    );
    [channels, workspaces, clusters].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn look<K: Resource + Clone + Debug + DeserializeOwned>(api: Api<K>, name: &str) -> Option<String> {
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.code == 404 => Some(format!("{name} is not installed")),
        Err(kube::Error::Api(status)) => {
            Some(format!("{name} can't be listed ({} {})", status.code, status.message))
        }
        Err(_) => Some(format!("{name} can't be listed (the API server does not answer)")),
    }
}

/// The API server drops fields that its schema lacks. Where it does not tell its schema nothing can be said.
async fn older(client: &Client, settings: &Settings) -> String {
    let Ok(request) = http::Request::get(DOCUMENT).body(Vec::new()) else { return String::new() };
    let served = match tokio::time::timeout(LONGEST, client.request::<Served>(request)).await {
        Ok(Ok(served)) => served,
        Ok(Err(kube::Error::Api(status))) => {
            tracing::debug!(code = status.code, "the schema of the CustomResourceDefinitions can't be read");
            return String::new();
        }
        Ok(Err(_)) | Err(_) => return String::new(),
    };
    let ours = crate::api::crds();
    let served_here = |kind: &str| kind != "ClusterWorkspace" || settings.serves_cluster_workspaces();
    let old = ours.iter().filter(|crd| served_here(&crd.spec.names.kind)).filter_map(|crd| {
        let lacks = served.lacks(crd);
        let named = some_of(&lacks);
        let name = format!("{}.{}", crd.spec.names.plural, crd.spec.group);
        (!lacks.is_empty()).then(|| format!("{name} is older than this operator and lacks {named}"))
    });
    old.collect::<Vec<_>>().join(", ")
}
