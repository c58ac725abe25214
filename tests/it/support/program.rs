//! The operator's program as a child process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use testbed::{ControlPlane, User};

use crate::support::harness::Harness;
use crate::support::{canary, leaks, ports};

/// What the operator promises, and a little for a busy machine.
pub const DRAIN: Duration = Duration::from_secs(30);

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
        let [port] = ports::free();
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
        self.until_within(path, status, part, crate::support::harness::WAIT_TIMEOUT).await;
    }

    /// The same, for what takes long on a busy machine.
    pub async fn until_within(&self, path: &str, status: u16, part: &str, limit: Duration) {
        let begun = ohallo_client::clock::instant();
        loop {
            let answer = self.get(path).await;
            if answer.as_ref().is_some_and(|(code, text)| *code == status && text.contains(part)) {
                return;
            }
            assert!(begun.elapsed() < limit, "{path} is {answer:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The most memory it has had resident.
    pub fn peak_memory_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// From now on the peak is that of what follows. Returns what is resident now, in KiB.
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
        self.scan_metrics();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        self.scan_metrics();
        self.signal("TERM");
    }

    fn scan_metrics(&self) {
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
            self.scan_metrics();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        canary::scan("a program's log", std::fs::read(self.log.path()).unwrap_or_default());
        if !std::thread::panicking() {
            canary::nothing_leaked();
        }
    }
}

/// The program without the environment of the tests.
pub fn bare() -> Command {
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

/// The program at work in the harness's namespace, with a verified Workspace.
pub async fn at_work(harness: &Harness, more: &[String]) -> Program {
    harness
        .put_secret(json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}))
        .await;
    harness.workspace("default", "ohallo-api-key").await;
    let mut flags =
        vec![format!("--api-url={}", harness.sim.url()), format!("--namespace={}", harness.namespace)];
    flags.extend_from_slice(more);
    let program = Program::start(harness.plane, &flags);
    harness.workspace_reason("default", "Verified").await;
    program
}
