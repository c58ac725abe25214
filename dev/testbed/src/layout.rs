//! Where the files of one control plane are, and the command lines that name them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::user::Component;

/// One request is one line: when it has ended or, for a watch, when it has begun. Silent about the control plane
/// reading itself, which would be most of the log.
pub(crate) const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager"]
    verbs: [get, list, watch]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
  - level: Metadata
"#;

/// Without a node nothing else has work to do.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
     clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller";
/// Those for a node: addresses of pods come from the node's own range.
const NODE_CONTROLLERS: &str = "*,-node-ipam-controller,-node-route-controller";
pub(crate) const SERVICE_RANGE: &str = "10.0.0.0/24";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) ca: PathBuf,
    pub(crate) url: String,
    ports: Ports,
    /// Where a node reaches the API server, if there is a node.
    node_address: Option<Ipv4Addr>,
}

// === impl Layout ===

impl Layout {
    pub(crate) fn new(dir: &Path, ports: Ports, node_address: Option<Ipv4Addr>) -> Self {
        let logs = dir.join("logs");
        let host = node_address.unwrap_or(Ipv4Addr::LOCALHOST);
        Self {
            dir: dir.to_owned(),
            audit_log: logs.join("audit.log"),
            logs,
            ca: dir.join("certs/apiserver.crt"),
            url: format!("https://{host}:{}", ports.apiserver),
            ports,
            node_address,
        }
    }

    pub(crate) fn etcd_port(&self) -> u16 {
        self.ports.etcd
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.file("tokens.csv")
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.file("audit-policy.yaml")
    }

    pub(crate) fn component_kubeconfig(&self, component: Component) -> PathBuf {
        self.file(component.file_name())
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs.join(format!("{process}.log"))
    }

    pub(crate) fn etcd_args(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        vec![
            flag("name", "testbed"),
            path_flag("data-dir", &self.file("etcd")),
            flag("listen-client-urls", &client),
            flag("advertise-client-urls", &client),
            flag("listen-peer-urls", &peer),
            flag("initial-advertise-peer-urls", &peer),
            flag("initial-cluster", &format!("testbed={peer}")),
            flag("unsafe-no-fsync", "true"),
            // The default of 2 GiB is less than what a long benchmark writes.
            flag("quota-backend-bytes", "8589934592"),
            flag("log-level", "warn"),
        ]
    }

    pub(crate) fn apiserver_args(&self, audit: bool, extra: &[String]) -> Vec<String> {
        // The server generates this key together with its certificate before it reads it here.
        let key = self.file("certs/apiserver.key");
        let mut args = vec![
            flag("etcd-servers", &format!("http://127.0.0.1:{}", self.ports.etcd)),
            flag("secure-port", &self.ports.apiserver.to_string()),
            path_flag("cert-dir", &self.file("certs")),
            path_flag("service-account-key-file", &key),
            path_flag("service-account-signing-key-file", &key),
            flag("service-account-issuer", "https://testbed"),
            path_flag("token-auth-file", &self.tokens()),
            flag("service-cluster-ip-range", SERVICE_RANGE),
            flag("max-requests-inflight", "2000"),
            flag("max-mutating-requests-inflight", "1000"),
        ];
        match self.node_address {
            None => args.extend([
                flag("bind-address", "127.0.0.1"),
                flag("advertise-address", "127.0.0.1"),
                // From 1.37 on a loopback address is refused as an endpoint of the Service `kubernetes`.
                flag("endpoint-reconciler-type", "none"),
                flag("authorization-mode", "RBAC"),
                // No controller publishes the CA that the tokens of pods need.
                flag("disable-admission-plugins", "ServiceAccount"),
            ]),
            Some(address) => args.extend([
                flag("bind-address", "0.0.0.0"),
                // The endpoint of the Service `kubernetes`: pods can't reach a loopback address.
                flag("advertise-address", &address.to_string()),
                flag("authorization-mode", "Node,RBAC"),
                flag("enable-admission-plugins", "NodeRestriction"),
                flag("allow-privileged", "true"),
                flag("kubelet-preferred-address-types", "InternalIP"),
            ]),
        }
        if audit {
            args.push(path_flag("audit-policy-file", &self.audit_policy()));
            args.push(path_flag("audit-log-path", &self.audit_log));
            // A rotated log would be read from its middle.
            args.push(flag("audit-log-maxsize", "100000"));
        }
        args.extend_from_slice(extra);
        args
    }

    pub(crate) fn controller_manager_args(&self) -> Vec<String> {
        let mut args = vec![
            path_flag("kubeconfig", &self.component_kubeconfig(Component::ControllerManager)),
            flag("leader-elect", "false"),
            flag("secure-port", "0"),
            flag("kube-api-qps", "200"),
            flag("kube-api-burst", "400"),
        ];
        match self.node_address {
            None => args.push(flag("controllers", CONTROLLERS)),
            Some(_) => args.extend([
                flag("controllers", NODE_CONTROLLERS),
                // Published in each namespace as kube-root-ca.crt, which each pod mounts.
                path_flag("root-ca-file", &self.ca),
                path_flag("service-account-private-key-file", &self.file("certs/apiserver.key")),
            ]),
        }
        args
    }
}

pub(crate) fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

pub(crate) fn path_flag(name: &str, value: &Path) -> String {
    flag(name, &value.display().to_string())
}
