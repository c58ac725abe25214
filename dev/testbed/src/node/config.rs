//! The configuration of a node's programs, below the control plane's folder.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::images::PAUSE;
use super::isolation::cgroup;
use super::network::{NODE_ADDRESS, POD_RANGE};
use super::prerequisites::cni_plugins;
use crate::layout::{Layout, flag, path_flag};
use crate::user::{Component, NODE_NAME};

/// The folder of the node's files.
pub(super) struct Files {
    dir: PathBuf,
    layout: Layout,
}

// === impl Files ===

impl Files {
    pub(super) fn write(layout: &Layout) -> Result<Self> {
        let dir = layout.file("node");
        fs::create_dir_all(dir.join("cni"))?;
        let files = Self { dir, layout: layout.clone() };
        fs::write(files.file("containerd.toml"), files.containerd()?)?;
        fs::write(files.file("cni/testbed.conflist"), files.cni().to_string())?;
        fs::write(files.file("resolv.conf"), "")?;
        fs::write(files.file("kubelet.json"), files.kubelet()?.to_string())?;
        fs::write(files.file("kube-proxy.json"), files.kube_proxy().to_string())?;
        Ok(files)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// containerd's.
    pub(super) fn socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    pub(super) fn containerd_args(&self) -> Vec<String> {
        vec!["--config".to_owned(), self.text("containerd.toml")]
    }

    pub(super) fn kubelet_args(&self) -> Vec<String> {
        vec![
            path_flag("config", &self.file("kubelet.json")),
            path_flag("kubeconfig", &self.layout.component_kubeconfig(Component::Kubelet)),
            path_flag("root-dir", &self.file("kubelet")),
            path_flag("cert-dir", &self.file("kubelet-certs")),
            flag("node-ip", &NODE_ADDRESS.to_string()),
            flag("hostname-override", NODE_NAME),
        ]
    }

    pub(super) fn kube_proxy_args(&self) -> Vec<String> {
        vec![path_flag("config", &self.file("kube-proxy.json"))]
    }

    pub(super) fn scheduler_args(&self) -> Vec<String> {
        let kubeconfig = self.layout.component_kubeconfig(Component::Scheduler);
        vec![
            path_flag("kubeconfig", &kubeconfig),
            path_flag("authentication-kubeconfig", &kubeconfig),
            path_flag("authorization-kubeconfig", &kubeconfig),
            flag("leader-elect", "false"),
        ]
    }

    fn containerd(&self) -> Result<String> {
        let plugins = cni_plugins()?;
        Ok(format!(
            r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE no process may lower its score, and runc fails.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # Copies files instead of mounting layers: every file system can do that.
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
            root = self.text("containerd"),
            socket = self.text("containerd.sock"),
            plugins = plugins.display(),
            cni = self.text("cni"),
        ))
    }

    fn cni(&self) -> serde_json::Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "testbed",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods0",
                    "isGateway": true,
                    "ipMasq": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.text("addresses"),
                        "ranges": [[{"subnet": POD_RANGE}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    fn kubelet(&self) -> Result<serde_json::Value> {
        Ok(json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "0.0.0.0",
            // So that `kubectl logs` and `kubectl exec` work without certificates; nothing outside can connect.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", self.text("containerd.sock")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", cgroup()?),
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "resolvConf": self.text("resolv.conf"),
            "podLogsDir": self.text("pod-logs"),
        }))
    }

    fn kube_proxy(&self) -> serde_json::Value {
        let kubeconfig = self.layout.component_kubeconfig(Component::KubeProxy);
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig},
            "hostnameOverride": NODE_NAME,
            "mode": "iptables",
            "clusterCIDR": POD_RANGE,
            // Limits of the whole machine, which a network namespace can't change.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        })
    }
}
