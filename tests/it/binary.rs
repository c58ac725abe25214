//! The program as its users run it: flags, environment, probes, signals.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ohallo_sim::{Action, Config, Fault, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, Options, User};

use crate::rig::{Rig, install, kubectl_as};
use crate::{canary, leaks};

/// What the operator promises, and a little for a busy machine.
const DRAIN: Duration = Duration::from_secs(30);

/// The operator as a child, killed when dropped.
pub struct Program {
    child: Child,
    http: String,
    log: tempfile::NamedTempFile,
}

impl Program {
    pub fn start(plane: &ControlPlane, flags: &[String]) -> Self {
        Self::named(plane, User::Operator, "", flags)
    }

    /// As this user, in a pod of this name.
    pub fn named(plane: &ControlPlane, user: User, pod: &str, flags: &[String]) -> Self {
        Self::launch(&plane.kubeconfig(user), pod, "trace", flags)
    }

    pub fn with_kubeconfig(kubeconfig: &Path, flags: &[String]) -> Self {
        Self::logging(kubeconfig, "trace", flags)
    }

    /// With this `RUST_LOG`.
    pub fn logging(kubeconfig: &Path, levels: &str, flags: &[String]) -> Self {
        Self::launch(kubeconfig, "", levels, flags)
    }

    fn launch(kubeconfig: &Path, pod: &str, levels: &str, flags: &[String]) -> Self {
        Self::in_environment(kubeconfig, &[("POD_NAME", pod), ("RUST_LOG", levels)], flags)
    }

    /// With these variables.
    pub fn in_environment(kubeconfig: &Path, variables: &[(&str, &str)], flags: &[String]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::begin(kubeconfig, &format!("127.0.0.1:{port}"), variables, flags)
    }

    /// With this `--http-addr`.
    pub fn at(kubeconfig: &Path, address: &str, flags: &[String]) -> Self {
        Self::begin(kubeconfig, address, &[], flags)
    }

    fn begin(kubeconfig: &Path, address: &str, variables: &[(&str, &str)], flags: &[String]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = bare()
            .arg("run")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--http-addr={address}"))
            .args(flags)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, http: format!("http://{address}"), log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Where it serves its metrics.
    pub fn address(&self) -> &str {
        self.http.trim_start_matches("http://")
    }

    /// Status and text; `None` while nobody listens.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("{}{path}", self.http)).await.ok()?;
        let (status, text) = (answer.status().as_u16(), answer.text().await.ok()?);
        canary::scan(path, &text);
        Some((status, text))
    }

    /// Waits until `path` answers so.
    pub async fn until(&self, path: &str, status: u16, part: &str) {
        let begun = ohallo_client::clock::instant();
        loop {
            let answer = self.get(path).await;
            if answer.as_ref().is_some_and(|(code, text)| *code == status && text.contains(part)) {
                return;
            }
            assert!(begun.elapsed() < crate::rig::PATIENCE, "{path} is {answer:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The most memory it has had resident.
    pub fn peak_memory_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// From now on the peak is that of what follows. Says what is resident now, in KiB.
    pub fn forget_peak_memory(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends it as the kernel would: at once.
    pub fn kill(&mut self) {
        self.look_at_metrics();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        self.look_at_metrics();
        self.signal("TERM");
    }

    fn look_at_metrics(&self) {
        let shown = leaks::metrics(self.address());
        canary::scan("a program's metrics", shown.unwrap_or_default());
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end; the exit code, and how long it took.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let begun = ohallo_client::clock::instant();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            assert!(begun.elapsed() < DRAIN + Duration::from_secs(10), "it does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.look_at_metrics();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        canary::scan("a program's log", std::fs::read(self.log.path()).unwrap_or_default());
        if !std::thread::panicking() {
            canary::nothing_leaked();
        }
    }
}

/// The program without what the environment of the tests may say.
fn bare() -> Command {
    // Another build of it, such as that of the image.
    let given = std::env::var_os("OHALLO_TEST_BINARY");
    let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_ohallo-operator").into()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OHALLO_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env_remove("POD_NAMESPACE").env_remove("KUBECONFIG");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

fn run(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    bare().args(flags).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn help_names_flag_variable_unit_and_default_of_every_setting() {
    let help = String::from_utf8(run(&["run", "--help"], &[]).stdout).unwrap();
    let settings = [
        ("kubeconfig", "Default: $KUBECONFIG"),
        ("context", "Default: its current"),
        ("api-url", "[default: https://api.ohallo.eu]"),
        ("create-path", "[default: /api/workspaces/{workspaceId}/channels]"),
        ("namespace", "Default: all"),
        ("operator-namespace", "then ohallo-system"),
        ("cluster-workspaces", "Default: true if"),
        ("leader-elect", "Default: false"),
        ("lease-duration-seconds", "[default: 60]"),
        ("lease-renew-deadline-seconds", "[default: 40]"),
        ("lease-retry-seconds", "[default: 5]"),
        ("lease-name", "[default: ohallo-operator]"),
        ("concurrency", "[default: 16]"),
        ("requests-per-second", "[default: 10]"),
        ("total-requests-per-second", "Default: 100, or no limit if --requests-per-second is 0"),
        ("burst", "[default: 20]"),
        ("request-timeout", "[default: 20]"),
        ("create-timeout", "[default: 60]"),
        ("consistency-window-seconds", "[default: 60]"),
        ("channel-selector", "Default: all"),
        ("workspace-selector", "Default: all"),
        ("http-addr", "[default: 0.0.0.0:8080]"),
        ("object-metrics", "Default: false"),
        ("log-format", "Default: human if"),
        ("otlp-endpoint", "Default: no traces"),
        ("ca-file", "Default: the system's"),
        ("proxy", "Default: none"),
        ("allow-insecure-api", "Default: false"),
    ];
    let told: Vec<_> = help.split("\n      --").skip(1).collect();
    for (flag, default) in settings {
        let part = told
            .iter()
            .find(|part| part.starts_with(&format!("{flag} ")) || part.starts_with(&format!("{flag}\n")));
        let part = part.unwrap_or_else(|| panic!("--help has no --{flag}"));
        let words = part.split_whitespace().collect::<Vec<_>>().join(" ");
        let variable = format!("[env: OHALLO_{}", flag.replace('-', "_").to_uppercase());
        assert!(words.contains(&variable) && words.contains(default), "{words}");
        if flag.ends_with("timeout") || flag.ends_with("seconds") {
            assert!(words.contains("in seconds"), "{words}");
        }
    }
    assert_eq!(told.len(), settings.len(), "--help has a flag that this test does not know");
}

#[test]
fn a_bad_flag_or_variable_gets_one_sentence_and_exit_code_2() {
    let cases: &[(&[&str], (&str, &str), &str)] = &[
        (&["run", "--nonsense"], ("A", ""), "--nonsense"),
        (&["walk"], ("A", ""), "walk"),
        (&["run", "--burst", "0"], ("A", ""), "--burst"),
        (&["run", "--concurrency", "many"], ("A", ""), "--concurrency"),
        (&["run", "--request-timeout", "10s"], ("A", ""), "whole seconds"),
        (&["run", "--request-timeout", "90"], ("A", ""), "--create-timeout must not be shorter"),
        (&["run", "--lease-retry-seconds", "0"], ("A", ""), "whole seconds"),
        (&["run", "--lease-duration-seconds", "40"], ("A", ""), "must be longer than"),
        (&["run", "--lease-name", "A_b"], ("A", ""), "the name of a Lease"),
        (&["run"], ("OHALLO_LEADER_ELECT", "maybe"), "OHALLO_LEADER_ELECT"),
        (&["run", "--api-url", "api.ohallo.eu"], ("A", ""), "https://api.ohallo.eu"),
        (&["run", "--api-url", "http://ohallo.example"], ("A", ""), "plain http://"),
        (&["run", "--create-path", "/channels"], ("A", ""), "{workspaceId}"),
        (&["run", "--namespace", "Team_A"], ("A", ""), "a-z"),
        (&["run", "--channel-selector", "tier in gold"], ("A", ""), "--channel-selector"),
        (&["run", "--http-addr", "8080"], ("A", ""), "an IP address and a port"),
        (&["run", "--log-format", "xml"], ("A", ""), "--log-format"),
        (&["run", "--otlp-endpoint", "collector:4317"], ("A", ""), "http:// or https://"),
        (&["run", "--otlp-endpoint", "http://me:pw@collector:4318"], ("A", ""), "OTEL_EXPORTER_OTLP_HEADERS"),
        (&["run", "--ca-file", "/none"], ("A", ""), "can't be read"),
        (&["run", "--proxy", "socks"], ("A", ""), "--proxy"),
        (&["run"], ("OHALLO_BURST", "-1"), "OHALLO_BURST"),
        (&["run"], ("OHALLO_REQUESTS_PER_SECOND", "fast"), "OHALLO_REQUESTS_PER_SECOND"),
        (&["run"], ("OHALLO_HTTP_ADDR", "localhost"), "OHALLO_HTTP_ADDR"),
        (&["run"], ("OHALLO_API_URL", "ftp://x"), "OHALLO_API_URL"),
        (&["run"], ("RUST_LOG", "ohallo_operator=loud"), "RUST_LOG"),
    ];
    for (flags, variable, part) in cases {
        let output = run(flags, &[*variable]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?} {variable:?}: {said}");
        assert!(
            said.contains(part) && said.trim_end().lines().count() == 1,
            "{flags:?} {variable:?}: {said}"
        );
        assert!(said.starts_with("ohallo-operator: ") && output.stdout.is_empty(), "{said}");
    }
}

#[test]
fn without_a_cluster_or_a_port_it_says_so_and_fails() {
    let said = |flags: &[&str]| {
        let output = run(flags, &[("HOME", "/none")]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        said
    };
    assert!(
        said(&["run", "--http-addr=127.0.0.1:0", "--kubeconfig=/none"]).contains("no way to the cluster")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(said(&["run", "--http-addr", &address]).contains("is in use"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_missing_crds_and_goes_on_by_itself() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    // The service account's rights come first, as with an installation whose CRDs are applied last.
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize/base/");
    for file in ["namespace", "service-account", "rbac"] {
        let applied = kubectl_as(&plane, User::Admin, &["apply", "-f", &format!("{base}{file}.yaml")], None);
        assert!(applied.status.success(), "{applied:?}");
    }
    let mut program =
        Program::start(&plane, &["--api-url=http://127.0.0.1:9".into(), "--log-format=json".into()]);
    program.until("/readyz", 503, "channels.ohallo.eu is not installed").await;
    program.until("/livez", 200, "").await;
    assert!(program.log().contains("waiting for the CustomResourceDefinitions"), "{}", program.log());
    // On a control plane that has nothing of ours, one apply installs all.
    install(&plane).await;
    program.until("/readyz", 200, "channels: ok").await;
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
    for line in program.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    leaks::dump(&plane).await;
    tokio::task::spawn_blocking(|| plane.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_under_way_at_sigterm_is_recorded() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let held =
        rig.sim.add_fault(Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1));
    let mut program = program(&rig).await;
    rig.create("a", json!({})).await;
    rig.sim.held(held).await.unwrap();
    program.terminate();
    // Long enough that an operator which drops its work would have ended.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.sim.release(held);
    let (code, took) = program.ended().await;
    assert_eq!(code, Some(0), "{}", program.log());
    assert!(took < DRAIN, "{took:?}");
    let id = rig.get("a").await.status.and_then(|status| status.channel_id);
    assert_eq!(id.as_deref(), rig.sim.channels().first().map(|channel| channel.id.as_str()));
    assert_eq!(rig.count(Operation::CreateChannel), 1);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_probes_and_counts_its_work() {
    let rig = Rig::bare(Config::default(), &[]).await;
    let mut program = program(&rig).await;
    rig.ready("a", json!({})).await;
    program.until("/livez", 200, "ok").await;
    program.until("/readyz", 200, "channels: ok").await;
    for part in [
        "ohallo_reconcile_total{",
        "ohallo_reconcile_duration_seconds_count{",
        "ohallo_api_requests_total{",
        "ohallo_api_request_duration_seconds_bucket{",
        "ohallo_channels{",
        "ohallo_workspaces{",
        "ohallo_build_info{",
        "process_resident_memory_bytes",
    ] {
        program.until("/metrics", 200, part).await;
    }
    assert_eq!(program.get("/secrets").await.unwrap().0, 404);
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
    rig.finish().await;
}

async fn program(rig: &Rig) -> Program {
    at_work(rig, &[]).await
}

/// The program at work in the rig's namespace, with a verified Workspace.
pub async fn at_work(rig: &Rig, more: &[String]) -> Program {
    rig.put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}})).await;
    rig.workspace("default", "ohallo-api-key").await;
    let mut flags = vec![format!("--api-url={}", rig.sim.url()), format!("--namespace={}", rig.namespace)];
    flags.extend_from_slice(more);
    let program = Program::start(rig.plane, &flags);
    rig.workspace_reason("default", "Verified").await;
    program
}
