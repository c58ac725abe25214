//! Argo CD itself: its controller, repo-server and API server, with a Redis, a Git repository and the operator.

mod deletion;
mod sync;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ohallo_client::clock;
use ohallo_sim::Config;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{ControlPlane, Options, Process, User};

use crate::support::clusters;
use crate::support::git_server::Git;
use crate::support::harness::{Harness, WAIT_TIMEOUT, WORKSPACE, established, install, kubectl_as};
use crate::support::helm::{documents, output_text};
use crate::support::{leaks, ports};

const NAMESPACE: &str = "argocd";
const NAME: &str = "ohallo-channels";
const APPLICATION: &str = "application.argoproj.io";
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// Argo CD in a cluster of its own: it serves all namespaces.
struct ArgoCd {
    harness: Harness,
    git: Git,
    /// Of its API server.
    url: String,
    processes: [Process; 4],
    /// Of its files.
    folder: TempDir,
}

/// An Application whose first comparison fails is not compared again for minutes.
async fn listening(plane: &ControlPlane, port: u16) {
    let deadline = clock::instant() + WAIT_TIMEOUT;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(
            clock::instant() < deadline,
            "nothing listens: see the logs in {}",
            plane.logs_dir().display()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let applied = kubectl_as(plane, User::Admin, &["apply", "-f", "-"], Some(&list));
    assert!(applied.status.success(), "{}", output_text(&applied));
}

/// What its installation has besides Deployments and rights, with the health and the actions that are shipped.
fn configuration() -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/part-of": "argocd"});
    let named = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})];
    objects.extend(documents(include_str!("../../../deploy/argocd/argocd-cm.yaml")));
    for name in ["argocd-rbac-cm", "argocd-ssh-known-hosts-cm", "argocd-tls-certs-cm", "argocd-gpg-keys-cm"] {
        objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named(name)}));
    }
    // It signs sessions, of which there are none.
    let key = json!({"server.secretkey": "not a secret"});
    objects.push(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": named("argocd-secret"), "stringData": key}),
    );
    let anywhere = json!([{"namespace": "*", "server": "*"}]);
    objects.push(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": named("default"),
        "spec": {"sourceRepos": ["*"], "destinations": anywhere},
    }));
    objects
}

/// Starts one of its programs, which keeps its files in a folder.
fn process(plane: &ControlPlane, folder: &Path, name: &'static str, args: &[String]) -> Process {
    let program = testbed::tool("argocd").unwrap();
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    // Its image has this script, also where it verifies no signatures.
    let script = folder.join("git-verify-wrapper.sh");
    fs::copy(testbed::tool_source("argocd").unwrap().join("hack/git-verify-wrapper.sh"), &script).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = folder.display();
    let mut all = vec![
        format!("KUBECONFIG={}", plane.kubeconfig(User::Admin).display()),
        format!("ARGOCD_BINARY_NAME={name}"),
        // What it calls the cluster that it runs in is the one of the kubeconfig.
        "ARGOCD_FAKE_IN_CLUSTER=true".to_owned(),
        "ARGOCD_GPG_ENABLED=false".to_owned(),
        format!("ARGOCD_TLS_DATA_PATH={folder}"),
        format!("ARGOCD_SSH_DATA_PATH={folder}"),
        format!("ARGOCD_PLUGINSOCKFILEPATH={folder}"),
        format!("TMPDIR={folder}"),
        format!("HOME={folder}"),
        format!("PATH={folder}:{}", std::env::var("PATH").unwrap()),
        program.display().to_string(),
    ];
    all.extend_from_slice(args);
    plane.spawn(name, Path::new("/usr/bin/env"), &all).unwrap()
}

// === impl ArgoCd ===

impl ArgoCd {
    async fn start() -> Self {
        let plane = Box::leak(Box::new(ControlPlane::start(Options::default()).await.unwrap()));
        leaks::follow(plane);
        install(plane).await;
        let crds = testbed::tool_source("argocd").unwrap().join("manifests/crds");
        clusters::kubectl(plane, &["apply", "--server-side", "-k", crds.to_str().unwrap()]);
        established(plane, &["applications.argoproj.io", "appprojects.argoproj.io"]);
        apply(plane, &configuration());

        let [redis, repo, server, repo_metrics, controller_metrics, server_metrics] = ports::free();
        let folder = tempfile::tempdir().unwrap();
        let of_redis = ["--bind", "127.0.0.1", "--save", "", "--port", &redis.to_string(), "--dir"];
        let mut of_redis: Vec<_> = of_redis.map(str::to_owned).into();
        of_redis.push(folder.path().display().to_string());
        let start = |name, args: &[String]| process(plane, folder.path(), name, args);
        let to_redis = format!("--redis=127.0.0.1:{redis}");
        let to_repo = [
            format!("--repo-server=127.0.0.1:{repo}"),
            "--repo-server-plaintext".to_owned(),
            to_redis.clone(),
        ];
        let of_repo = [
            to_redis,
            "--address=127.0.0.1".to_owned(),
            format!("--port={repo}"),
            format!("--metrics-port={repo_metrics}"),
            "--disable-tls".to_owned(),
            "--client-ca-path=".to_owned(),
        ];
        let namespace = format!("--namespace={NAMESPACE}");
        let of_controller = [
            namespace.clone(),
            format!("--metrics-port={controller_metrics}"),
            "--self-heal-timeout-seconds=1".to_owned(),
        ];
        let of_server = [
            namespace,
            "--insecure".to_owned(),
            "--disable-auth".to_owned(),
            "--address=127.0.0.1".to_owned(),
            format!("--port={server}"),
            format!("--metrics-port={server_metrics}"),
        ];
        let processes = [
            plane.spawn("redis", Path::new("redis-server"), &of_redis).expect("redis-server is needed"),
            start("argocd-repo-server", &of_repo),
            start("argocd-application-controller", &[&of_controller[..], &to_repo[..]].concat()),
            start("argocd-server", &[&of_server[..], &to_repo[..]].concat()),
        ];
        for port in [redis, repo, server] {
            listening(plane, port).await;
        }
        let mut harness = Harness::on(plane, Config::default(), &[]).await;
        harness.start_operator().await;
        let git = Git::serve().await;
        Self { harness, git, url: format!("http://127.0.0.1:{server}"), processes, folder }
    }

    /// The Secret and the Workspace, in the wave before that of the Channels.
    fn inputs(&self) -> [Value; 2] {
        let metadata = |name: &str| {
            let wave = json!({WAVE: "-1"});
            json!({"name": name, "namespace": self.harness.namespace, "annotations": wave})
        };
        let key = json!({"apiKey": self.harness.key});
        let spec = json!({"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}});
        [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("ohallo-api-key"), "stringData": key}),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": metadata("default"), "spec": spec}),
        ]
    }

    /// Creates the Application, which follows Git automatically.
    fn create_application(&self, finalizers: &[&str]) {
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "finalizers": finalizers},
            "spec": {
                "project": "default",
                "source": {"repoURL": self.git.url, "targetRevision": "main", "path": "."},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.harness.namespace},
                "syncPolicy": {"automated": {"prune": true, "selfHeal": true}},
            },
        });
        apply(self.harness.plane, &[application]);
    }

    fn kubectl(&self, args: &[&str]) -> std::process::Output {
        kubectl_as(self.harness.plane, User::Admin, &[&["-n", NAMESPACE], args].concat(), None)
    }

    /// Null where there is none.
    fn application(&self) -> Value {
        let got = self.kubectl(&["get", APPLICATION, NAME, "-o", "json", "--ignore-not-found"]);
        assert!(got.status.success(), "{}", output_text(&got));
        serde_json::from_slice(&got.stdout).unwrap_or_default()
    }

    /// Has it read Git and compare now, which it otherwise does at its interval. Waits until it has.
    async fn refresh(&self) {
        let annotation = "argocd.argoproj.io/refresh";
        let asked =
            self.kubectl(&["annotate", "--overwrite", APPLICATION, NAME, &format!("{annotation}=normal")]);
        assert!(asked.status.success(), "{}", output_text(&asked));
        self.harness
            .eventually("it has compared", || async {
                self.application()["metadata"]["annotations"][annotation].is_null().then_some(())
            })
            .await;
    }

    /// Waits until the Application has this state at this commit.
    async fn until(&self, commit: &str, sync: &str, health: &str) {
        let what = format!("{sync} and {health} at {commit}");
        self.harness
            .eventually(&what, || async {
                let status = &self.application()["status"];
                let found =
                    (&status["sync"]["status"], &status["health"]["status"], &status["sync"]["revision"]);
                (found == (&json!(sync), &json!(health), &json!(commit))).then_some(())
            })
            .await;
    }

    /// The health that it derives for a Channel, and its message.
    async fn health(&self, name: &str) -> Option<(String, String)> {
        let query = format!("{}/api/v1/applications/{NAME}/resource-tree?appNamespace={NAMESPACE}", self.url);
        let tree: Value = serde_json::from_str(&reqwest::get(&query).await.ok()?.text().await.ok()?).ok()?;
        let node = tree["nodes"]
            .as_array()?
            .iter()
            .find(|node| node["kind"] == "Channel" && node["name"] == name)?;
        let text = |key: &str| node["health"][key].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("message")))
    }

    /// What its page does when a user chooses an action of a Channel.
    async fn act(&self, channel: &str, action: &str) {
        let body = json!({
            "name": NAME, "appNamespace": NAMESPACE, "namespace": self.harness.namespace, "resourceName": channel,
            "group": "ohallo.eu", "version": "v1alpha1", "kind": "Channel", "action": action,
        });
        let url = format!("{}/api/v1/applications/{NAME}/resource/actions/v2", self.url);
        let answer = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    async fn finish(self) {
        let Self { harness, processes, folder, .. } = self;
        let plane = harness.plane;
        harness.finish().await;
        drop((processes, folder));
        plane.kill().unwrap();
    }
}
