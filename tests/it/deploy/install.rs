//! Install, upgrade, rollback and uninstall on a real API server, with the operator's process beside it: under the
//! chart's service account, with the arguments of its Deployment.

use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::deploy::switches::{NO_CONTEXT, NO_POD_CONTEXT, Switch, all, each, separate};
use crate::support::clusters::{empty, end, established, kubectl};
use crate::support::harness::{Harness, id_of, kubectl_as};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, copy, on, output_text, stored_arguments};
use crate::support::program::Program;

/// The chart of a release before this one: its CRDs lack what has come since.
fn previous() -> tempfile::TempDir {
    let chart = copy();
    let edit = |file: &str, edit: &dyn Fn(String) -> String| {
        let path = chart.path().join(file);
        std::fs::write(&path, edit(std::fs::read_to_string(&path).unwrap())).unwrap();
    };
    edit("Chart.yaml", &|text| text.replace("ersion: 0.2.0", "ersion: 0.1.9"));
    edit("files/crds/channels.ohallo.eu.yaml", &|text| {
        let mut crd: Value = serde_saphyr::from_str(&text).unwrap();
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for (part, field) in [("spec", "provisioningRetry"), ("status", "drift")] {
            let properties = schema["properties"][part]["properties"].as_object_mut().unwrap();
            assert!(properties.remove(field).is_some(), "{field}");
        }
        ohallo_operator::manifest::yaml(&crd).unwrap()
    });
    chart
}

/// Starts what the Deployment in the cluster describes.
fn program(plane: &ControlPlane) -> Program {
    Program::named(plane, User::Operator, "pod", &stored_arguments(plane))
}

/// The release, and Channels beside it.
struct Released {
    harness: Harness,
    /// Where its oHallo is.
    values: String,
}

impl Released {
    /// The release before, with a Channel that nobody works at yet.
    async fn before() -> Self {
        let plane = empty().await;
        let old = previous();
        let path = old.path().to_str().unwrap();
        on(plane, &["install", RELEASE, path, "-n", OPERATOR_NAMESPACE, "--create-namespace"]);
        established(plane);
        let harness = Harness::on(plane, Config::default(), &[]).await;
        let values = format!("ohallo.apiUrl={}", harness.sim.url());
        on(plane, &["upgrade", RELEASE, path, "-n", OPERATOR_NAMESPACE, "--set", &values]);
        harness
            .put_secret(
                json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}),
            )
            .await;
        harness.workspace("default", "ohallo-api-key").await;
        harness.create("a", json!({})).await;
        Self { harness, values }
    }

    /// `helm <verb>` with the chart as it is.
    fn helm(&self, verb: &str) {
        on(self.harness.plane, &[verb, RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--set", &self.values]);
    }

    fn kubectl(&self, args: &str) -> String {
        kubectl(self.harness.plane, &args.split(' ').collect::<Vec<_>>())
    }

    /// The operator of this version waits for its CRDs, and creates nothing whose id could be dropped.
    async fn upgraded(&self) {
        let mut operator = program(self.harness.plane);
        let old_crd = "channels.ohallo.eu is older than this operator and lacks spec.provisioningRetry, \
                       status.drift: apply crds/ of this version, or upgrade the chart";
        operator.until("/readyz", 503, old_crd).await;
        operator.until("/livez", 200, "ok").await;
        assert!(operator.log().contains("lacks spec.provisioningRetry"), "{}", operator.log());
        assert_eq!(self.harness.count(Operation::CreateChannel), 0);
        self.helm("upgrade");
        operator.until("/readyz", 200, "this replica: leader").await;
        self.harness.reason("a", "Available").await;
        let kept = self.harness.create("b", json!({"provisioningRetry": {"limit": 3}})).await;
        assert!(kept.spec.provisioning_retry.is_some(), "the new schema is in force");
        self.harness.reason("b", "Available").await;
        ended(&mut operator).await;
    }

    fn back_and_forth(&self) {
        on(self.harness.plane, &["rollback", RELEASE, "2", "-n", OPERATOR_NAMESPACE]);
        let schema = self.kubectl("get crd channels.ohallo.eu -o json");
        assert!(!schema.contains("provisioningRetry"), "the CRDs were not rolled back");
        self.helm("upgrade");
    }

    fn uninstalled(&self) {
        let removed = on(self.harness.plane, &["uninstall", RELEASE, "-n", OPERATOR_NAMESPACE]);
        assert!(removed.contains("[CustomResourceDefinition] channels.ohallo.eu"), "{removed}");
        let left = self.kubectl("get clusterrole,clusterrolebinding,role,deployment,service,sa -A -o name");
        assert!(!left.contains("ohallo"), "{left}");
        established(self.harness.plane);
    }
}

async fn ended(operator: &mut Program) {
    operator.terminate();
    assert_eq!(operator.ended().await.0, Some(0), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_no_channel_is_lost() {
    let release = Released::before().await;
    let harness = &release.harness;
    release.upgraded().await;
    let ids = async || (id_of(&harness.get("a").await), id_of(&harness.get("b").await));
    let before = ids().await;
    release.back_and_forth();
    assert_eq!(ids().await, before);
    release.uninstalled();
    assert_eq!(ids().await, before);
    // Again over what was kept.
    release.helm("install");
    let mut operator = program(harness.plane);
    operator.until("/readyz", 200, "this replica: leader").await;
    harness.edit("a", json!({"spec": {"displayName": "Renamed"}})).await;
    harness.reason("a", "Available").await;
    assert_eq!(ids().await, before);
    assert_eq!(
        harness.count(Operation::CreateChannel),
        2,
        "one for each Channel, whatever became of the release"
    );
    harness.delete_and_wait("a").await;
    harness.delete_and_wait("b").await;
    assert_eq!(harness.sim.channel_count(), 0);
    ended(&mut operator).await;
    let plane = harness.plane;
    release.harness.finish().await;
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_passes_the_restricted_standard_with_every_switch() {
    let plane = crate::support::harness::plane().await;
    let open = [NO_POD_CONTEXT, NO_CONTEXT];
    let mut variants: Vec<_> = each().iter().map(Switch::with_required).collect();
    variants.retain(|values| !values.iter().any(|value| open.contains(value)));
    variants.push(all());
    let mut pods = Vec::new();
    let opened = open.map(|value| vec![value]);
    for (n, switches) in variants.iter().chain(&opened).enumerate() {
        let rendered = crate::support::helm::render(switches).unwrap();
        let template = &crate::support::helm::of_kind(&rendered, "Deployment")[0]["spec"]["template"];
        let mut pod = template.clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = format!("probe-{n}").into();
        pod["metadata"]["namespace"] = OPERATOR_NAMESPACE.into();
        // The priority class is looked up, and is there in this namespace for no one.
        pod["spec"].as_object_mut().unwrap().remove("priorityClassName");
        pods.push(pod);
    }
    let opened = pods.split_off(variants.len());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
    let passed = kubectl_as(plane, User::Admin, &["create", "--dry-run=server", "-f", "-"], Some(&list));
    assert!(passed.status.success() && passed.stderr.is_empty(), "{}", output_text(&passed));
    assert_eq!(String::from_utf8_lossy(&passed.stdout).lines().count(), variants.len());
    // It is the standard that checks them, and the chart's own values that let them pass.
    for pod in opened {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let refused = output_text(&kubectl_as(plane, User::Admin, &create, Some(&pod.to_string())));
        assert!(refused.contains(r#"violates PodSecurity "restricted"#), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_all_that_the_switches_render() {
    let plane = crate::support::harness::plane().await;
    let apply = |args: &[&str], object: &Value| {
        let args: Vec<_> = ["apply"].iter().chain(args).chain(&["-f", "-"]).copied().collect();
        let output = kubectl_as(plane, User::Admin, &args, Some(&object.to_string()));
        assert!(output.status.success(), "{}", output_text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    apply(&[], &super::kustomize::monitoring_crds());
    for name in ["team-a", "team-b"] {
        apply(&[], &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    kubectl(plane, &["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
    // Another release than the one that is there.
    let rendered = |values: &[&str]| {
        let own: Vec<_> = values.iter().copied().chain([r#"crds={"install":false}"#]).collect();
        crate::support::helm::render_as("probe", "team-a", &own).unwrap()
    };
    for values in separate().iter().map(Switch::with_required).chain([all()]) {
        let objects = rendered(&values);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let printed = apply(&["--dry-run=server"], &list);
        assert_eq!(printed.lines().count(), objects.len(), "{printed}");
    }
}
