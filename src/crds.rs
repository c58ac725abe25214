// I/O
//! Waits until the API server knows our kinds, with every field of this version.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::api::channel::Channel;
use crate::api::served::Served;
use crate::api::workspace::{ClusterWorkspace, Workspace};
use crate::serve::Readiness;
use crate::settings::Settings;

const PART: &str = "CustomResourceDefinitions";
const POLL: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(10);
/// What every authenticated user may read.
const DOCUMENT: &str = "/openapi/v3/apis/ohallo.eu/v1alpha1";
/// How many fields are named; the first ones tell which version is missing.
const NAMED: usize = 4;

/// Says so in the log and in `/readyz` while they are missing or too old.
pub async fn there(client: &Client, settings: &Settings, readiness: &Readiness) {
    let mut told = String::new();
    loop {
        let mut wrong = missing(client, settings).await;
        if wrong.is_empty() {
            wrong = older(client, settings).await;
        }
        if wrong.is_empty() {
            readiness.set(PART, Ok(()));
            return;
        }
        if wrong != told {
            tracing::warn!(
                missing = wrong,
                "waiting for the CustomResourceDefinitions: apply crds/ of this version, or upgrade the chart"
            );
            readiness.set(PART, Err(format!("{wrong}: apply crds/ of this version, or upgrade the chart")));
            told = wrong;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn missing(client: &Client, settings: &Settings) -> String {
    let namespace = settings.namespaces.first();
    let channels = namespace
        .map_or_else(|| Api::<Channel>::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
    let workspaces = namespace
        .map_or_else(|| Api::<Workspace>::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
    let mut found =
        vec![look(channels, "channels.ohallo.eu").await, look(workspaces, "workspaces.ohallo.eu").await];
    if settings.serves_cluster_workspaces() {
        found.push(look(Api::<ClusterWorkspace>::all(client.clone()), "clusterworkspaces.ohallo.eu").await);
    }
    found.into_iter().flatten().collect::<Vec<_>>().join(", ")
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
        let named = lacks.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = lacks.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let name = format!("{}.{}", crd.spec.names.plural, crd.spec.group);
        (!lacks.is_empty()).then(|| format!("{name} is older than this operator and lacks {named}{more}"))
    });
    old.collect::<Vec<_>>().join(", ")
}
