//! The API server: its version, and the CustomResourceDefinitions that it serves.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::Api;
use ohallo_client::clock;
use ohallo_core::api::served::Served;
use ohallo_core::api::{GROUP, VERSION, crds};
use ohallo_core::text::seconds;

use crate::check::Finding;
use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;

/// The oldest minor version of Kubernetes 1 that the operator is tested with.
const OLDEST_MINOR: u32 = 30;

/// # Errors
/// The API server does not answer.
pub async fn version(cluster: &Cluster) -> Result<Finding, Failure> {
    let info = read(async || cluster.client.apiserver_version().await).await;
    let info = info.map_err(|error| failed("the version of the API server can't be read", &error))?;
    Ok(judge(&info.minor, &info.git_version))
}

/// Cloud providers write `33+`.
fn judge(minor: &str, version: &str) -> Finding {
    let number: Option<u32> = minor.trim_end_matches('+').parse().ok();
    let message = format!("Kubernetes {version}");
    match number {
        Some(number) if number < OLDEST_MINOR => Finding::problem(
            "API server",
            format!("{message} is older than 1.{OLDEST_MINOR}, the oldest that the operator is tested with"),
            "upgrade the cluster",
        ),
        Some(_) => Finding::ok("API server", message),
        None => {
            Finding::unknown("API server", format!("{message}: its minor version {minor:?} is no number"))
        }
    }
}

/// # Errors
/// The API server does not answer.
pub async fn definitions(cluster: &Cluster) -> Result<Vec<Finding>, Failure> {
    let version = format!("{GROUP}/{VERSION}");
    let what = "the served CustomResourceDefinitions can't be read";
    let listed = match read(async || cluster.client.list_api_group_resources(&version).await).await {
        Ok(listed) => listed.resources,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(failed(what, &error)),
    };
    let document = format!("/openapi/v3/apis/{version}");
    let document = read(async || {
        let request = http::Request::get(&document).body(Vec::new()).map_err(kube::Error::HttpError)?;
        cluster.client.request::<Served>(request).await
    })
    .await;
    let served = match document {
        Ok(served) => served,
        // Nothing of the group is served.
        Err(kube::Error::Api(status)) if status.code == 404 => Served::default(),
        Err(error) => return Err(failed(what, &error)),
    };
    let mut findings = Vec::new();
    for own in crds() {
        let installed = listed.iter().any(|resource| resource.kind == own.spec.names.kind);
        findings.push(definition(&own, installed, &served, age(cluster, &own.name_any()).await));
    }
    Ok(findings)
}

fn definition(
    own: &CustomResourceDefinition,
    installed: bool,
    served: &Served,
    created: Option<String>,
) -> Finding {
    let check = format!("CustomResourceDefinition {}", own.name_any());
    if !installed {
        return Finding::problem(
            check,
            "is not installed",
            "install the operator: its chart and manifests bring it",
        );
    }
    let lacks = served.lacks(own);
    if !lacks.is_empty() {
        let message = format!("is older than this program and lacks {}", lacks.join(", "));
        return Finding::problem(
            check,
            message,
            "apply crds/ of the operator's version, or upgrade the chart",
        );
    }
    let created = created.map(|at| format!(", created {at}")).unwrap_or_default();
    Finding::ok(check, format!("has every field of this version{created}"))
}

/// When it was created, and how many days ago that is, if the user may read it.
async fn age(cluster: &Cluster, name: &str) -> Option<String> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let created = api.get_metadata(name).await.ok()?.metadata.creation_timestamp?.0;
    let days = clock::now().duration_since(created).as_hours() / 24;
    Some(format!("{} ({days} days ago)", seconds(created)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::State;

    #[test]
    fn a_server_that_is_too_old_is_a_problem_and_one_of_a_cloud_is_not() {
        let state = |minor| judge(minor, "v1.x").state;
        assert_eq!(["29", "30", "33+", "37"].map(state), [State::Problem, State::Ok, State::Ok, State::Ok]);
        assert_eq!(state("x"), State::Unknown);
    }

    #[test]
    fn the_oldest_version_is_that_of_the_chart() {
        let chart = include_str!("../../../../deploy/helm/ohallo-operator/Chart.yaml");
        assert!(chart.contains(&format!("kubeVersion: \">=1.{OLDEST_MINOR}.0-0\"")));
    }

    #[test]
    fn a_definition_that_is_missing_or_older_is_a_problem() {
        let own = &crds()[0];
        let served: Served = serde_json::from_value(serde_json::json!({"components": {"schemas": {"a": {
            "properties": {"spec": {"properties": {}}},
            "x-kubernetes-group-version-kind": [{"kind": own.spec.names.kind}],
        }}}}))
        .unwrap();
        assert_eq!(definition(own, false, &Served::default(), None).message, "is not installed");
        let older = definition(own, true, &served, None);
        assert!(older.state == State::Problem && older.message.contains("lacks spec."), "{older:?}");
        let ours = definition(own, true, &Served::default(), Some("then (3 days ago)".into()));
        assert!(ours.state == State::Ok && ours.message.ends_with(", created then (3 days ago)"));
    }
}
