//! A node beside the control plane: containerd, kubelet, kube-proxy and kube-scheduler, so that pods run. It lives in
//! namespaces of its own ([`isolated`]): its traffic does not leave them, and they end with all its processes, mounts
//! and devices.

mod config;
mod images;
mod isolation;
mod memory;
mod network;
mod prerequisites;
mod programs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::Api;
use tokio::time::sleep;

use crate::control_plane::{ControlPlane, Options};
use crate::process_reaper::Process;
use crate::ready::POLL;
use crate::user::{NODE_NAME, User};

pub use images::pause_image;
pub use isolation::isolated;
pub use memory::Memory;
pub use prerequisites::{Missing, prerequisites};
pub use programs::Programs;

/// A node starts within 20 s on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// A running node with its control plane. Both end with this process.
#[derive(Debug)]
pub struct Node {
    processes: Vec<Process>,
    socket: PathBuf,
    control_plane: ControlPlane,
}

// === impl Node ===

impl Node {
    /// Returns when the node is `Ready` and pods can be created in the namespace `default`.
    ///
    /// # Errors
    /// This process is not [`isolated`], a program is missing, or one ends early: then with the end of its log.
    pub async fn start() -> Result<Self> {
        isolation::ensure_isolated()?;
        let (programs, pause) =
            tokio::task::spawn_blocking(|| Ok::<_, anyhow::Error>((Programs::find()?, pause_image()?)))
                .await??;
        network::create()?;
        let options = Options { node_address: Some(network::NODE_ADDRESS), ..Options::default() };
        let control_plane = ControlPlane::start(options).await?;
        let files = config::Files::write(&control_plane.layout)?;
        let spawn = |name, program: &Path, args: &[String]| control_plane.spawn(name, program, args);
        let containerd = spawn("containerd", Path::new("containerd"), &files.containerd_args())?;
        let mut node = Self { processes: vec![containerd], socket: files.socket(), control_plane };
        node.until("containerd listens", async |node| Ok(node.ctr(&["version"]).is_ok())).await?;
        node.import(&pause, images::PAUSE)?;
        for (name, program, args) in [
            ("kubelet", &programs.kubelet, files.kubelet_args()),
            ("kube-proxy", &programs.kube_proxy, files.kube_proxy_args()),
            ("kube-scheduler", &programs.scheduler, files.scheduler_args()),
        ] {
            node.processes.push(node.control_plane.spawn(name, program, &args)?);
        }
        let client = node.control_plane.client(User::Admin)?;
        node.until("the node is ready", async |_| {
            let node = Api::<NodeObject>::all(client.clone()).get_opt(NODE_NAME).await?;
            let account =
                Api::<ServiceAccount>::namespaced(client.clone(), "default").get_opt("default").await?;
            Ok(node.as_ref().is_some_and(is_ready) && account.is_some())
        })
        .await?;
        Ok(node)
    }

    /// Its control plane.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Its name in the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NODE_NAME
    }

    /// Makes the image of an OCI archive available under this name, such as `ghcr.io/ohallo/ohallo-operator:0.2.0`.
    ///
    /// # Errors
    /// It is no OCI archive of one named image.
    pub fn import(&self, archive: &Path, name: &str) -> Result<()> {
        // Renamed before the import: afterwards the runtime remembers both names, and a name without a registry fails.
        let folder = self.control_plane.layout.file("node/import");
        let renamed = images::renamed(archive, name, &folder)?;
        self.ctr(&["images", "import", renamed.to_str().context("the path of the archive is not UTF-8")?])?;
        Ok(fs::remove_dir_all(folder)?)
    }

    /// Removes an image from the node.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.ctr(&["images", "remove", "--sync", name]).map(drop)
    }

    /// Where the kubelet keeps a projected volume of a pod: what its containers mount.
    #[must_use]
    pub fn projected_volume(&self, pod_uid: &str, volume: &str) -> PathBuf {
        let path = format!("node/kubelet/pods/{pod_uid}/volumes/kubernetes.io~projected/{volume}");
        self.control_plane.layout.file(&path)
    }

    /// What a container uses of its memory limit; `container` is containerd's id.
    ///
    /// # Errors
    /// It does not run.
    pub fn memory(&self, container: &str) -> Result<Memory> {
        Memory::of(container)
    }

    /// Runs containerd's own client in the namespace of the kubelet's containers, and returns what it prints.
    ///
    /// # Errors
    /// It failed: then with its output.
    pub fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]).args(args);
        let output = ctr.output().context("ctr is missing: install containerd")?;
        let reported = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {} failed: {}", args.join(" "), reported.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Polls until `holds`, as long as each process of the node runs.
    async fn until(&mut self, what: &str, holds: impl AsyncFn(&Self) -> Result<bool>) -> Result<()> {
        let mut last = anyhow!("it never was");
        let polled = tokio::time::timeout(READY_WITHIN, async {
            loop {
                for process in &mut self.processes {
                    process.check()?;
                }
                match holds(self).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => last = error,
                }
                sleep(POLL).await;
            }
        })
        .await;
        polled.unwrap_or_else(|_| {
            let logs = self.control_plane.logs_dir().display();
            Err(last.context(format!("not within {} s: {what}; logs: {logs}", READY_WITHIN.as_secs())))
        })
    }
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
