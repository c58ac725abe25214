//! The operators that are installed in a cluster, by their Deployments.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use ohallo_core::rights::Served;
use serde::Serialize;

use crate::cluster::{Cluster, failed, list_if_allowed};
use crate::failure::Failure;

/// What the chart and the plain manifests label an operator with.
pub const LABEL: &str = "app.kubernetes.io/name=ohallo-operator";

/// The Deployment of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub replicas: i32,
    pub ready_replicas: i32,
    pub service_account: String,
    /// The name of its container, beside which others may run.
    #[serde(skip)]
    pub container: String,
    /// Where its metrics are.
    #[serde(skip)]
    pub http_port: u16,
    #[serde(skip)]
    pub served: Served,
}

/// The operators; `None` if the user may not list Deployments.
///
/// # Errors
/// The API server does not answer.
pub async fn operators(cluster: &Cluster) -> Result<Option<Vec<Operator>>, Failure> {
    let deployments: Api<Deployment> = Api::all(cluster.client.clone());
    let listed = list_if_allowed(&deployments, &ListParams::default().labels(LABEL)).await;
    let listed = listed.map_err(|error| failed("the Deployments can't be read", &error))?;
    Ok(listed.map(|list| list.iter().map(Operator::of).collect()))
}

// === impl Operator ===

impl Operator {
    pub fn of(deployment: &Deployment) -> Self {
        let namespace = deployment.namespace().unwrap_or_default();
        let spec = deployment.spec.as_ref();
        let pod = spec.and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        let container = container(&pod);
        let status = deployment.status.as_ref();
        Self {
            name: deployment.name_any(),
            version: version(deployment, &container),
            container: container.name.clone(),
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ready_replicas: status.and_then(|status| status.ready_replicas).unwrap_or_default(),
            service_account: service_account(&pod),
            http_port: setting(&container, &namespace, "http-addr")
                .and_then(|address| address.rsplit_once(':')?.1.parse().ok())
                .unwrap_or(8080),
            served: served(&container, &namespace),
            namespace,
        }
    }

    /// As a user of the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

/// Whether a container runs the operator: by the name that the chart and the plain manifests give it, or by its image.
pub fn is_operator(name: &str, image: &str) -> bool {
    let last = image.split('@').next().and_then(|image| image.rsplit('/').next()).unwrap_or_default();
    name == "operator" || last.split(':').next() == Some("ohallo-operator")
}

/// The operator's container. A service mesh or a vault may put others before it.
fn container(pod: &PodSpec) -> Container {
    let is_own =
        |container: &&Container| is_operator(&container.name, container.image.as_deref().unwrap_or_default());
    pod.containers.iter().find(is_own).or(pod.containers.first()).cloned().unwrap_or_default()
}

fn version(deployment: &Deployment, container: &Container) -> String {
    let label = deployment.labels().get("app.kubernetes.io/version").cloned();
    let image = container.image.as_deref().unwrap_or_default();
    let tag = image.split('@').next().and_then(|image| Some(image.rsplit_once(':')?.1.to_owned()));
    label.or(tag).unwrap_or_else(|| "unknown".to_owned())
}

fn service_account(pod: &PodSpec) -> String {
    pod.service_account_name.clone().unwrap_or_else(|| "default".to_owned())
}

/// What the operator's own flags say, with its defaults.
fn served(container: &Container, namespace: &str) -> Served {
    let is = |flag: &str| setting(container, namespace, flag).map(|value| value == "true");
    let text =
        |flag: &str, default: &str| setting(container, namespace, flag).unwrap_or_else(|| default.to_owned());
    let namespaces: Vec<String> = text("namespace", "")
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    Served {
        cluster_workspaces: is("cluster-workspaces").unwrap_or(namespaces.is_empty()),
        operator_namespace: text("operator-namespace", namespace),
        lease: is("leader-elect").unwrap_or_default().then(|| text("lease-name", "ohallo-operator")),
        namespaces,
    }
}

/// The value of a flag, from the arguments or the environment of the container; several are joined by commas.
fn setting(container: &Container, namespace: &str, flag: &str) -> Option<String> {
    let mut args = container.args.iter().flatten().peekable();
    let mut found = Vec::new();
    while let Some(arg) = args.next() {
        let Some(rest) = arg.strip_prefix("--").and_then(|arg| arg.strip_prefix(flag)) else { continue };
        match (rest.strip_prefix('='), args.peek()) {
            (Some(value), _) => found.push(value.to_owned()),
            (None, Some(next)) if rest.is_empty() && !next.starts_with("--") => found.push((*next).clone()),
            (None, _) if rest.is_empty() => found.push("true".to_owned()),
            (None, _) => {}
        }
    }
    let variable = format!("OHALLO_{}", flag.replace('-', "_").to_uppercase());
    let of_environment = || {
        let set = container.env.iter().flatten().find(|entry| entry.name == variable);
        set.and_then(|entry| entry.value.clone())
    };
    let value = if found.is_empty() { of_environment()? } else { found.join(",") };
    Some(value.replace("$(POD_NAMESPACE)", namespace))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn operator(args: &[&str], env: &[(&str, &str)]) -> Operator {
        let env: Vec<_> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let container =
            json!({"name": "operator", "image": "host:5000/a/b:0.2.0@sha256:1", "args": args, "env": env});
        let deployment = json!({
            "metadata": {"name": "op", "namespace": "home"},
            "spec": {"selector": {}, "template": {"spec": {"serviceAccountName": "sa", "containers": [container]}}},
            "status": {"readyReplicas": 1},
        });
        Operator::of(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn an_operator_is_known_by_the_flags_of_its_deployment() {
        let shipped = operator(&["run", "--leader-elect"], &[]);
        assert_eq!((shipped.version.as_str(), shipped.replicas, shipped.ready_replicas), ("0.2.0", 1, 1));
        assert_eq!(shipped.user(), "system:serviceaccount:home:sa");
        let served = Served {
            namespaces: vec![],
            operator_namespace: "home".into(),
            cluster_workspaces: true,
            lease: Some("ohallo-operator".into()),
        };
        assert_eq!((shipped.served, shipped.http_port), (served, 8080));
    }

    #[test]
    fn the_container_of_the_operator_is_found_beside_others() {
        let named = |containers: Value| {
            container(&serde_json::from_value(json!({"containers": containers})).unwrap()).name
        };
        let sidecar = json!({"name": "proxy", "image": "vendor/ohallo-operator-proxy:1"});
        for own in [
            json!({"name": "operator", "image": "host/mirror:1"}),
            json!({"name": "app", "image": "host:5000/team/ohallo-operator:0.2.0@sha256:1"}),
        ] {
            let name = own["name"].as_str().unwrap().to_owned();
            assert_eq!(named(json!([sidecar, own])), name);
            assert_eq!(named(json!([own, sidecar])), name);
        }
        assert_eq!(named(json!([sidecar])), "proxy");
    }

    #[test]
    fn flags_with_and_without_an_equals_sign_and_variables_are_read() {
        let args = [
            "run",
            "--namespace=$(POD_NAMESPACE)",
            "--namespace",
            "b,c",
            "--namespaces-of-others=d",
            "--leader-elect=false",
        ];
        let one = operator(&args, &[("OHALLO_HTTP_ADDR", "[::]:9090"), ("OHALLO_LEASE_NAME", "l")]);
        assert_eq!(one.served.namespaces, ["home", "b", "c"]);
        assert_eq!((one.served.cluster_workspaces, &one.served.lease, one.http_port), (false, &None, 9090));
        let two = operator(&["--namespace=a", "--cluster-workspaces"], &[("OHALLO_LEADER_ELECT", "true")]);
        assert!(two.served.cluster_workspaces && two.served.lease.is_some());
    }
}
