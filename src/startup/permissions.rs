//! Checks whether the service account has the permissions that the operator needs. The check comes first: an
//! operator that can create a channel but can't record its id does harm.

use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, Error};

use crate::settings::Settings;
use crate::startup::checks::{MAX_CHECK_TIME, Prerequisite, list_with_ellipsis};
use crate::telemetry::http_server::Readiness;
use ohallo_core::rights::Right;

const PERMISSIONS: Prerequisite = Prerequisite {
    part: "permissions",
    waiting: "waiting for permissions of the service account",
    remedy: "grant what the chart's or the base's roles grant",
};
const AT_ONCE: usize = 8;

/// Waits for all permissions; reports in the log and in `/readyz` which are missing.
pub async fn wait_for_permissions(client: &Client, settings: &Settings, readiness: &Readiness) {
    let served = settings.served();
    let (rights, optional) = (served.rights(), served.optional_rights());
    PERMISSIONS.met(readiness, || missing(client, &rights)).await;
    let without = missing(client, &optional).await;
    if !without.is_empty() {
        tracing::warn!(missing = without, "continuing without events: {}", PERMISSIONS.remedy);
    }
}

/// The denied permissions as a text; empty if none is denied.
async fn missing(client: &Client, rights: &[Right]) -> String {
    let asked: Vec<_> = rights.iter().map(|right| denied(client.clone(), right.clone())).collect();
    let denied: Vec<Option<Right>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let described: Vec<_> = denied.iter().flatten().map(Right::description).collect();
    if described.is_empty() {
        String::new()
    } else {
        format!("the service account is not allowed to {}", list_with_ellipsis(&described))
    }
}

/// Returns the permission if it is denied. Without an answer the operator assumes that it is granted: the work
/// itself would fail.
async fn denied(client: Client, right: Right) -> Option<Right> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client);
    let params = PostParams::default();
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(right.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    match tokio::time::timeout(MAX_CHECK_TIME, api.create(&params, &review)).await {
        Ok(Ok(review)) => review.status.filter(|status| !status.allowed).map(|_| right),
        Ok(Err(Error::Api(status))) => {
            tracing::debug!(code = status.code, "permissions can't be asked for");
            None
        }
        Ok(Err(_)) | Err(_) => None,
    }
}
