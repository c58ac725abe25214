//! A node with the images of the operator and of the simulator, and what users and administrators do with it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use ohallo_sim::Operation;
use reqwest::Method;
use serde_json::{Value, json};
use testbed::{ControlPlane, Memory, Node, User};

use crate::support::harness::{TENANT, WORKSPACE, kubectl_as};
use crate::support::helm::{self, OPERATOR_NAMESPACE, RELEASE, output_text};
use crate::support::{canary, leaks};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where the simulator's Service is.
pub const API_URL: &str = "http://10.0.0.80";
/// The cluster address of the simulator: a node has no DNS server.
pub const API_ADDRESS: &str = "10.0.0.80";
const SIMULATOR_IMAGE: &str = concat!("ghcr.io/ohallo/ohallo-sim:", env!("CARGO_PKG_VERSION"));
const KEY: &str = "sf_test_v1_canary_of_a_real_node";
/// The namespace of the users.
pub const TEAM: &str = "support";
/// A pod starts within 5 s on an idle machine.
pub const POD_TIMEOUT: Duration = Duration::from_secs(180);
/// What connects the operator to the simulator, as values of the chart.
pub const CONNECTION: &str = "ohallo.apiUrl=http://10.0.0.80,ohallo.allowInsecureApi=true";

pub struct Cluster {
    pub node: Node,
    http: reqwest::Client,
}

/// A file that `deploy/image/build` has left, or `.ci/debug-images` in the folder of `OHALLO_TEST_IMAGES`.
fn archive(program: &str) -> PathBuf {
    let folder = std::env::var_os("OHALLO_TEST_IMAGES").unwrap_or_else(|| "target/image".into());
    let version = env!("CARGO_PKG_VERSION");
    let path = Path::new(ROOT).join(folder).join(format!("{program}-{version}-amd64.tar"));
    assert!(path.is_file(), "build the image first: deploy/image/build amd64 {program}");
    path
}

/// The name that a container runtime gives to the image of a manifest.
fn full(image: &str) -> String {
    let hosted = image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
    if hosted { image.to_owned() } else { format!("docker.io/library/{image}") }
}

/// Polls until `probe` returns something.
pub async fn eventually<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(limit, found).await.unwrap_or_else(|_| panic!("never: {what}"))
}

// === impl Cluster ===

impl Cluster {
    /// Starts the node and the simulator.
    pub async fn start() -> Self {
        let cluster = Self::bare().await;
        cluster.restricted_namespace("ohallo-sim");
        cluster.apply(&simulator());
        cluster.kubectl("-n ohallo-sim rollout status deployment/ohallo-sim --timeout=180s");
        cluster
    }

    /// Starts the node, with both images and nothing else.
    pub async fn bare() -> Self {
        canary::register(KEY);
        let node = Node::start().await.unwrap();
        leaks::follow(node.control_plane());
        node.import(&archive("ohallo-operator"), &full(&shipped_image())).unwrap();
        node.import(&archive("ohallo-sim"), &full(SIMULATOR_IMAGE)).unwrap();
        Self { node, http: reqwest::Client::new() }
    }

    pub fn plane(&self) -> &ControlPlane {
        self.node.control_plane()
    }

    /// kubectl as an administrator, with arguments that contain no space; it must succeed.
    pub fn kubectl(&self, args: &str) -> String {
        let output = self.try_kubectl(args);
        assert!(output.status.success(), "kubectl {args}: {}\n{}", output_text(&output), self.describe());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn try_kubectl(&self, args: &str) -> Output {
        kubectl_as(self.plane(), User::Admin, &args.split(' ').collect::<Vec<_>>(), None)
    }

    pub fn get(&self, args: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get {args} -o json"))).unwrap()
    }

    /// Applies one or more objects as an administrator.
    pub fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let output = kubectl_as(self.plane(), User::Admin, &["apply", "-f", "-"], Some(&list));
        assert!(output.status.success(), "{}", output_text(&output));
    }

    pub fn restricted_namespace(&self, name: &str) {
        self.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })]);
    }

    /// `helm install` of the chart with these values, and the rollout's end.
    pub fn install(&self, values: &[&str]) {
        self.restricted_namespace(OPERATOR_NAMESPACE);
        self.helm("install", helm::CHART, values);
    }

    /// The same with values in JSON.
    pub fn install_json(&self, values: &[&str]) {
        self.restricted_namespace(OPERATOR_NAMESPACE);
        let mut args = vec!["install", RELEASE, helm::CHART, "-n", OPERATOR_NAMESPACE, "--set", CONNECTION];
        values.iter().for_each(|value| args.extend(["--set-json", value]));
        helm::on(self.plane(), &args);
        self.rolled_out();
    }

    /// `helm install` or `helm upgrade` with these values, and the rollout's end.
    pub fn helm(&self, verb: &str, chart: &str, values: &[&str]) {
        let mut args = vec![verb, RELEASE, chart, "-n", OPERATOR_NAMESPACE, "--set", CONNECTION];
        values.iter().for_each(|value| args.extend(["--set", value]));
        helm::on(self.plane(), &args);
        self.rolled_out();
    }

    /// Makes another image available.
    pub fn import(&self, archive: &Path, image: &str) {
        self.node.import(archive, &full(image)).unwrap();
    }

    /// The documents' command.
    pub fn rolled_out(&self) {
        self.kubectl("-n ohallo-system rollout status deployment/ohallo-operator --timeout=180s");
    }

    /// A team's namespace with an API key, and a Workspace that is Ready.
    pub fn workspace(&self) {
        self.restricted_namespace(TEAM);
        let workspace = json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace",
            "metadata": {"name": "default", "namespace": TEAM},
            "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}},
        });
        self.apply(&[key_in(TEAM), workspace]);
        self.kubectl("-n support wait --for=condition=Ready workspace/default --timeout=120s");
    }

    /// Creates Channels.
    pub fn channels(&self, names: &[String]) {
        let objects: Vec<_> = names.iter().map(|name| channel(name, &format!("Channel {name}"))).collect();
        self.apply(&objects);
    }

    pub fn channel(&self, name: &str) {
        self.channels(&[name.to_owned()]);
    }

    /// Waits until the Channel is Ready for its present spec; its id.
    pub fn ready(&self, name: &str) -> String {
        self.kubectl(&format!(
            "-n support wait --for=condition=Ready channels.ohallo.eu/{name} --timeout=120s"
        ));
        let channel = self.get(&format!("channels.ohallo.eu {name} -n support"));
        channel["status"]["channelId"].as_str().unwrap().to_owned()
    }

    /// Changes a Channel and waits until oHallo has the change: the operator works.
    pub async fn renames(&self, name: &str, display_name: &str) {
        self.apply(&[channel(name, display_name)]);
        let what = format!("{name} is called {display_name}");
        eventually(&what, POD_TIMEOUT, async || {
            let all = self.simulated().await;
            all.iter().any(|channel| channel["displayName"] == display_name).then_some(())
        })
        .await;
    }

    /// The operator's pods that are not being deleted.
    pub fn pods(&self) -> Vec<Value> {
        let list = self.get("pods -n ohallo-system -l app.kubernetes.io/name=ohallo-operator");
        let mut pods = list["items"].as_array().unwrap().clone();
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    /// The only one.
    pub fn pod(&self) -> Value {
        let mut pods = self.pods();
        assert_eq!(pods.len(), 1, "{pods:#?}");
        pods.remove(0)
    }

    /// What the operator's container uses of its limit.
    pub fn memory(&self) -> Memory {
        self.node.memory(&container(&self.pod())).unwrap()
    }

    /// The value of a metric of the only pod, summed over its series.
    pub async fn metric(&self, metric: &str) -> f64 {
        self.series(metric, "").await
    }

    /// How many Channels the operator counts with this label.
    pub async fn channels_with(&self, label: &str, value: &str) -> f64 {
        self.series("ohallo_channels", &format!("{label}=\"{value}\"")).await
    }

    async fn series(&self, metric: &str, part: &str) -> f64 {
        let pod = self.pod();
        let url = format!("http://{}:8080/metrics", pod["status"]["podIP"].as_str().unwrap());
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let of_metric = |line: &&str| line.split(['{', ' ']).next() == Some(metric) && line.contains(part);
        let series = text.lines().filter(of_metric);
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Sends a signal to the operator's process, as the kernel or an administrator of the node would.
    pub fn signal(&self, pod: &Value, signal: &str) {
        self.node.ctr(&["tasks", "kill", "--signal", signal, &container(pod)]).unwrap();
    }

    /// Waits until the kubelet has restarted the container of the only pod, once.
    pub async fn until_restarted(&self) {
        eventually("the container is restarted", POD_TIMEOUT, async || {
            let pod = self.pod();
            (restarts(&pod) == 1 && is_ready(&pod)).then_some(())
        })
        .await;
    }

    /// The pod whose process holds the Lease, if one does.
    pub fn leader(&self) -> Option<String> {
        let lease = self.get("lease ohallo-operator -n ohallo-system");
        let (pod, _process) = lease["spec"]["holderIdentity"].as_str()?.split_once('_')?;
        Some(pod.to_owned())
    }

    pub async fn until_led(&self) -> String {
        eventually("there is a leader", POD_TIMEOUT, async || self.leader()).await
    }

    /// The simulator's controls.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{API_URL}/_admin/{path}"));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// The channels that oHallo has.
    pub async fn simulated(&self) -> Vec<Value> {
        let state = self.admin(Method::GET, "state", None).await;
        state["channels"].as_array().unwrap().clone()
    }

    /// The calls of an operation, in order.
    pub async fn calls(&self, operation: Operation) -> Vec<Value> {
        let ledger = self.admin(Method::GET, "ledger", None).await;
        let mut calls = ledger.as_array().unwrap().clone();
        calls.retain(|call| call["operation"] == json!(operation));
        calls
    }

    pub async fn creates(&self) -> usize {
        self.calls(Operation::CreateChannel).await.iter().filter(|call| call["committed"] == true).count()
    }

    /// What explains a pod that does not start.
    pub fn describe(&self) -> String {
        let asked = [
            "describe pods -A",
            "-n ohallo-system logs deployment/ohallo-operator --tail=30",
            "get channels.ohallo.eu,workspaces -A",
        ];
        asked.iter().map(|args| output_text(&self.try_kubectl(args))).collect()
    }

    /// Scans what the operator has logged and stored, and checks that each create made a channel that an object records.
    pub async fn finish(self) {
        canary::scan("a pod's log", self.logs());
        leaks::up_to_now(self.plane()).await;
        canary::nothing_leaked();
    }

    /// Of all replicas.
    pub fn logs(&self) -> String {
        output_text(
            &self.try_kubectl("-n ohallo-system logs -l app.kubernetes.io/name=ohallo-operator --tail=-1"),
        )
    }
}

/// containerd's id of the operator's container.
fn container(pod: &Value) -> String {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    id.trim_start_matches("containerd://").to_owned()
}

pub fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default()
}

pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["ready"] == true
}

pub fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

pub fn channel(name: &str, display_name: &str) -> Value {
    json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"channelType": "chat", "displayName": display_name},
    })
}

/// The Secret with the API key.
fn key_in(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key", "namespace": namespace},
        "stringData": {"apiKey": KEY},
    })
}

/// The image that the chart uses without values.
fn shipped_image() -> String {
    let rendered = helm::render(&[]).unwrap();
    let deployment = helm::of_kind(&rendered, "Deployment")[0];
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

fn simulator() -> [Value; 3] {
    let labels = json!({"app": "ohallo-sim"});
    let metadata = json!({"name": "ohallo-sim", "namespace": "ohallo-sim"});
    let container = json!({
        "name": "ohallo-sim",
        "image": SIMULATOR_IMAGE,
        "args": ["--address=0.0.0.0", format!("--workspace={WORKSPACE}"), format!("--tenant={TENANT}")],
        "env": [{"name": "OHALLO_SIM_KEY", "valueFrom": {"secretKeyRef": {"name": "ohallo-api-key", "key": "apiKey"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
    });
    let pod = json!({
        "metadata": {"labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    });
    let ports = json!([{"port": 80, "targetPort": "http"}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": labels, "clusterIP": API_ADDRESS, "ports": ports},
    });
    [key_in("ohallo-sim"), deployment, service]
}
