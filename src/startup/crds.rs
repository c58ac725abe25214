//! Waits until the API server serves the operator's kinds with every field of this version, and monitors that
//! it still does.

use std::time::Duration;

use futures::future::join_all;
use http::HeaderValue;
use http::header::{ETAG, IF_NONE_MATCH};
use http_body_util::BodyExt;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::client::Body;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use crate::context::Context;
use crate::settings::Settings;
use crate::startup::checks::{MAX_CHECK_TIME, Prerequisite, list_with_ellipsis};
use crate::telemetry::http_server::Readiness;
use ohallo_core::api::served::Served;
use ohallo_core::api::{GROUP, ObjectKind, VERSION};

const CRDS: Prerequisite = Prerequisite {
    part: "CustomResourceDefinitions",
    waiting: "waiting for the CustomResourceDefinitions",
    remedy: "apply crds/ of this version, or upgrade the chart",
};
/// The served schema, which every authenticated user may read.
const DOCUMENT: &str = "/openapi/v3/apis/ohallo.eu/v1alpha1";

/// How often the operator reads the served schema while it runs.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How often it reads the schema while that lacks fields, or after a write was not stored.
const FAST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How many times it reads the schema that often after a write that was not stored.
const FAST_POLLS: u32 = 5;

/// Waits for the CustomResourceDefinitions. Reports in the log and in `/readyz` while they are missing or too
/// old.
pub async fn wait_for_crds(client: &Client, settings: &Settings, readiness: &Readiness) {
    CRDS.met(readiness, || problem(client, settings)).await;
}

async fn problem(client: &Client, settings: &Settings) -> String {
    let missing = missing(client, settings).await;
    if missing.is_empty() { older(client, settings).await } else { missing }
}

async fn missing(client: &Client, settings: &Settings) -> String {
    let probes = settings.kinds().map(|kind| probe(client.clone(), settings.namespaces.first(), kind));
    join_all(probes).await.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn probe(client: Client, namespace: Option<&String>, kind: ObjectKind) -> Option<String> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    let api: Api<DynamicObject> = match namespace.filter(|_| kind.is_namespaced()) {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let name = format!("{}.{GROUP}", kind.plural());
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.code == 404 => Some(format!("{name} is not installed")),
        Err(kube::Error::Api(status)) => {
            Some(format!("{name} can't be listed ({} {})", status.code, status.message))
        }
        Err(_) => Some(format!("{name} can't be listed (the API server does not answer)")),
    }
}

/// What the served schema lacks: the API server drops such fields. Empty if the schema can't be read.
async fn older(client: &Client, settings: &Settings) -> String {
    match document(client, None).await {
        Some((served, _)) => lacks(&served, settings).0,
        None => String::new(),
    }
}

/// What the served schema lacks, as a text, and how many fields.
fn lacks(served: &Served, settings: &Settings) -> (String, usize) {
    let ours = ohallo_core::api::crds();
    let served_here = |name: &str| settings.kinds().any(|kind| kind.name() == name);
    let mut fields = 0;
    let old = ours.iter().filter(|crd| served_here(&crd.spec.names.kind)).filter_map(|crd| {
        let lacks = served.lacks(crd);
        fields += lacks.len();
        let named = list_with_ellipsis(&lacks);
        let name = format!("{}.{}", crd.spec.names.plural, crd.spec.group);
        (!lacks.is_empty()).then(|| format!("{name} is older than this operator and lacks {named}"))
    });
    (old.collect::<Vec<_>>().join(", "), fields)
}

/// The served schema and its version; `None` if it can't be read, or if it is unchanged since the `known`
/// version.
async fn document(client: &Client, known: Option<&HeaderValue>) -> Option<(Served, Option<HeaderValue>)> {
    let mut request = http::Request::get(DOCUMENT);
    if let Some(known) = known {
        request = request.header(IF_NONE_MATCH, known);
    }
    let request = request.body(Body::empty()).ok()?;
    let answer = async {
        let answer = client.send(request).await.ok()?;
        if !answer.status().is_success() {
            tracing::trace!(code = answer.status().as_u16(), "no schema of the CustomResourceDefinitions");
            return None;
        }
        let version = answer.headers().get(ETAG).cloned();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((serde_json::from_slice(&body).ok()?, version))
    };
    tokio::time::timeout(MAX_CHECK_TIME, answer).await.ok()?
}

/// Monitors the served schema while the operator runs: an older definition that is applied later also drops
/// fields.
///
/// The schema is polled, because the served schema decides which fields are pruned, and every authenticated
/// user may read it. A watch of the CustomResourceDefinitions needs a cluster-wide right, which an operator for
/// single namespaces lacks. The API server answers 304 without a body if the document is unchanged.
pub async fn follow(ctx: &Context, readiness: &Readiness) {
    let mut known = None;
    let mut fast_polls = 0_u32;
    loop {
        let lacking = ctx.schema.lacks();
        let wait = if fast_polls > 0 || lacking.is_some() { FAST_POLL_INTERVAL } else { POLL_INTERVAL };
        fast_polls = fast_polls.saturating_sub(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // The served document changes a moment after the definition.
            () = ctx.schema.asked() => {
                fast_polls = FAST_POLLS;
                // Limits the rate, however many writes are not stored.
                tokio::time::sleep(FAST_POLL_INTERVAL).await;
            }
        }
        let Some((served, version)) = document(&ctx.client, known.as_ref()).await else { continue };
        known = version;
        let (missing, fields) = lacks(&served, &ctx.settings);
        ctx.metrics.crd_fields_missing(fields);
        let missing = Some(missing).filter(|missing| !missing.is_empty());
        if missing == lacking {
            continue;
        }
        ctx.schema.set(missing.clone());
        if let Some(missing) = missing {
            tracing::error!(
                missing,
                "the CustomResourceDefinitions became older than this operator; it pauses every reconcile that could lose stored fields: {}",
                CRDS.remedy
            );
            readiness.set(CRDS.part, Err(format!("{missing}: {}", CRDS.remedy)));
        } else {
            tracing::info!("the CustomResourceDefinitions have every field again; reconciling continues");
            readiness.set(CRDS.part, Ok(()));
            ctx.schema_serves_again();
        }
    }
}
