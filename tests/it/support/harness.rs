//! What every test uses: a namespace, an oHallo simulator, an operator under the shipped RBAC, and kubectl.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use ohallo_client::clock;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::workspace::Workspace;
use ohallo_operator::settings::Settings;
use ohallo_sim::{Config, Key, Operation, Sim};
use serde_json::{Value, json};
use testbed::{AuditEvent, ControlPlane, Options, Proxy, User};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;

use crate::support::canary;
use crate::support::history::History;
use crate::support::invariants::Evidence;
use crate::support::leaks;

mod objects;
mod observations;

pub use observations::{bound, condition, id_of, kind, message};

/// The oHallo workspace of every test.
pub const WORKSPACE: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
pub const TENANT: &str = "tenant";

/// How long anything is waited for. Only a failing test waits so long.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);
static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
/// Bytes.
static LOGGED: AtomicU64 = AtomicU64::new(0);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// Settings as the command line would give them.
pub fn settings(flags: &[String]) -> Settings {
    let flags = std::iter::once("ohallo-operator".to_owned()).chain(flags.iter().cloned());
    Flags::try_parse_from(flags).unwrap().settings.checked().unwrap()
}

/// The control plane of the whole run, with the shipped CRDs and RBAC.
pub async fn plane() -> &'static ControlPlane {
    PLANE
        .get_or_init(|| async {
            log();
            let plane = ControlPlane::start(Options::default()).await.unwrap();
            leaks::follow(&plane);
            install(&plane).await;
            plane
        })
        .await
}

/// Applies what a cluster administrator applies.
pub async fn install(plane: &ControlPlane) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/base");
    let applied = kubectl_as(plane, User::Admin, &["apply", "-k", base.to_str().unwrap()], None);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    established(plane, &CRDS);
}

/// Our CustomResourceDefinitions.
pub const CRDS: [&str; 3] = ["channels.ohallo.eu", "workspaces.ohallo.eu", "clusterworkspaces.ohallo.eu"];

/// Waits until the API server serves these CustomResourceDefinitions.
pub fn established(plane: &ControlPlane, crds: &[&str]) {
    let args = [&["wait", "crd", "--for=condition=Established", "--timeout=60s"], crds].concat();
    let deadline = clock::instant() + WAIT_TIMEOUT;
    loop {
        let waited = kubectl_as(plane, User::Admin, &args, None);
        if waited.status.success() {
            return;
        }
        // kubectl fails where a new one has no conditions yet.
        assert!(clock::instant() < deadline, "{}", String::from_utf8_lossy(&waited.stderr));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs kubectl as a user of the control plane.
pub fn kubectl_as(plane: &ControlPlane, user: User, args: &[&str], stdin: Option<&str>) -> Output {
    let mut command = Command::new("kubectl");
    let kubeconfig = plane.kubeconfig(user);
    // kubectl remembers the kinds of a server by its port, which an earlier control plane may have had.
    command.env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl-cache"));
    command.arg("--kubeconfig").arg(kubeconfig).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl is needed");
    child.stdin.take().unwrap().write_all(stdin.unwrap_or_default().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Scans everything that the operators of this run log, at the most verbose level that a user can set.
struct Writer;

impl Write for Writer {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        LOGGED.fetch_add(event.len() as u64, Ordering::Relaxed);
        canary::scan("an operator's log", event);
        Ok(event.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sets up the log and the panic hook of the run, once.
pub fn log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        use tracing_subscriber::layer::{Layer, SubscriberExt};
        let layer = tracing_subscriber::fmt::layer().json().with_writer(|| Writer);
        let filter = ohallo_operator::telemetry::logs::filter("trace").unwrap();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            canary::scan("a panic", info.payload_as_str().unwrap_or_default());
            shown(info);
        }));
    });
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    http: String,
}

pub struct Harness {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    pub sim: Sim,
    pub admin: Client,
    pub key: String,
    /// As whom the operator runs.
    pub user: User,
    running: Option<Running>,
    flags: Vec<String>,
    audit_from: Mutex<u64>,
    audited: Mutex<Vec<AuditEvent>>,
    pub history: History,
    /// Through which its operator talks to the API server.
    pub proxy: Option<Proxy>,
    /// The client of its operator, instead.
    pub client: Option<Client>,
    /// Channels by name that a test handles in a way that no invariant covers, such as a finalizer that a user removes.
    pub excused: Vec<String>,
    /// The test takes rights from the operator, which is then refused what it asks.
    pub takes_rights: bool,
    finished: bool,
}

impl Harness {
    /// A namespace with a verified Workspace `default`, and an operator.
    pub async fn start() -> Self {
        Self::with(Config::default(), &[]).await
    }

    /// The same with other behaviour of the simulator and other flags of the operator.
    pub async fn with(config: Config, flags: &[&str]) -> Self {
        let mut harness = Self::bare(config, flags).await;
        harness.begin().await;
        harness
    }

    /// The Workspace `default` and an operator.
    pub async fn begin(&mut self) {
        self.key_secret("ohallo-api-key", &self.key.clone()).await;
        self.workspace("default", "ohallo-api-key").await;
        self.start_operator().await;
        self.workspace_reason("default", "Verified").await;
    }

    /// A namespace and a simulator; no Workspace and no operator yet.
    pub async fn bare(config: Config, flags: &[&str]) -> Self {
        Self::on(plane().await, config, flags).await
    }

    /// The same on a control plane of its own, which has the CRDs.
    pub async fn on(plane: &'static ControlPlane, config: Config, flags: &[&str]) -> Self {
        log();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{number}");
        let admin = plane.client(User::Admin).unwrap();
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &object).await.unwrap();
        let sim = Sim::start(config).await.unwrap();
        // With everything that is escaped somewhere.
        let key = format!(r#"sf_test_v1_canary/{number}+"<&%41\{}"#, "k".repeat(12));
        canary::register(&key);
        sim.add_workspace(TENANT, WORKSPACE, "Nordic Parts");
        sim.add_key(Key::new(&key, TENANT));
        let history = History::watch(admin.clone(), &namespace);
        Self {
            plane,
            sim,
            admin,
            key,
            user: User::Operator,
            running: None,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            // What came before is about other namespaces.
            audit_from: Mutex::new(plane.audit_end().unwrap()),
            audited: Mutex::default(),
            history,
            proxy: None,
            client: None,
            excused: Vec::new(),
            takes_rights: false,
            finished: false,
            namespace,
        }
    }

    /// One more flag for the operator, where it needs the namespace's name.
    pub fn flag(&mut self, flag: String) {
        self.flags.push(flag);
    }

    /// Starts the operator under its own service account.
    pub async fn start_operator(&mut self) {
        let mut flags = vec![
            format!("--api-url={}", self.sim.url()),
            format!("--namespace={}", self.namespace),
            "--requests-per-second=0".to_owned(),
            "--consistency-window-seconds=0".to_owned(),
        ];
        for flag in self.flags.iter().filter(|flag| !flag.is_empty()) {
            // A later one replaces an earlier one, except where all count.
            let name = flag.split('=').next().unwrap_or_default();
            flags.retain(|other| name == "--namespace" || other.split('=').next() != Some(name));
            flags.push(flag.clone());
        }
        let settings = settings(&flags);
        let client = self.operator_client().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            ohallo_operator::run_with(settings, client, listener, stopped).await.unwrap();
        });
        self.running = Some(Running { stop, task, http });
    }

    async fn operator_client(&self) -> Client {
        let mut config = match &self.proxy {
            Some(proxy) => {
                let file = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap()
            }
            None => self.plane.client_config(self.user),
        };
        config.default_retry = false;
        self.client.clone().unwrap_or_else(|| Client::try_from(config).unwrap())
    }

    /// As [`Self::with`], with a proxy before the API server.
    pub async fn proxied(config: Config, flags: &[&str]) -> Self {
        let mut harness = Self::bare(config, flags).await;
        harness.put_proxy().await;
        harness.begin().await;
        harness
    }

    /// Puts a proxy before the API server, for the operators that start from now on.
    pub async fn put_proxy(&mut self) {
        self.proxy = Some(Proxy::start(self.plane, self.user).await.unwrap());
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the harness has a proxy")
    }

    /// Stops it as SIGTERM would.
    pub async fn stop_operator(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            tokio::time::timeout(WAIT_TIMEOUT, running.task)
                .await
                .expect("the operator does not stop")
                .unwrap();
        }
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill_operator(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
        }
    }

    /// The text of `/metrics`, `/readyz` or `/livez`.
    pub async fn http(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.running.as_ref().expect("the operator runs").http);
        let answer = reqwest::get(url).await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        canary::scan(path, &text);
        (status, text)
    }

    /// Stops the operator and checks whether anything leaked or any rule was broken.
    pub async fn finish(mut self) {
        if self.running.is_some() {
            self.http("/metrics").await;
            assert!(LOGGED.load(Ordering::Relaxed) > 0, "nothing is logged");
        }
        self.stop_operator().await;
        self.finished = true;
        for entry in self.sim.ledger() {
            canary::scan("a path sent to oHallo", &entry.path);
            canary::scan("an idempotency key", entry.idempotency_key.unwrap_or_default());
        }
        leaks::up_to_now(self.plane).await;
        canary::nothing_leaked();
        let channels: Vec<Channel> = self.channels().list(&ListParams::default()).await.unwrap().items;
        self.history.until_complete(&channels).await;
        let broken = self.history.against_kstatus();
        assert!(broken.is_empty(), "rules of kstatus were broken on the way: {broken:#?}");
        let mut asked = self.audited();
        asked
            .retain(|event| event.user == User::Operator.name() && !(self.takes_rights && event.code == 403));
        let outside = crate::support::roles::outside(&asked);
        assert!(outside.is_empty(), "the shipped roles do not grant: {outside:#?}");
        let broken = Evidence::of(&self, channels).broken();
        assert!(broken.is_empty(), "invariants were broken: {broken:#?}\nledger: {:#?}", self.sim.ledger());
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
        }
        assert!(self.finished || std::thread::panicking(), "end the test with harness.finish().await");
    }
}
