//! Who talks to the API server, and the files that configure it and kubectl.

use std::fmt::Write;
use std::path::Path;

/// A user of the control plane, known by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// Group `system:masters`: everything is allowed.
    Admin,
    /// The operator's service account, `ohallo-operator` in namespace `ohallo-system`: only what RBAC grants it.
    Operator,
    /// User `tenant` of group `tenants`: no rights until a test grants some.
    Tenant,
    /// User `user-<n>` of group `users`, n = 1..=9 ([`User::SPARES`]); any other number is refused with 401.
    Spare(u8),
}

/// A component of the cluster; not for tests, so that the audit log can distinguish it from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    ControllerManager,
    Scheduler,
    KubeProxy,
    Kubelet,
}

/// The name of the node that a kubelet registers.
pub(crate) const NODE_NAME: &str = "testbed";

#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// Keeps the tokens of this control plane invalid for any other one on the machine.
    pub(crate) secret: u64,
}

// === impl User ===

impl User {
    /// How many spare users there are.
    pub const SPARES: u8 = 9;

    /// The user name that the API server, its RBAC rules and its audit log use.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Admin => "admin".to_owned(),
            Self::Operator => "system:serviceaccount:ohallo-system:ohallo-operator".to_owned(),
            Self::Tenant => "tenant".to_owned(),
            Self::Spare(n) => format!("user-{n}"),
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Admin, Self::Operator, Self::Tenant].into_iter().chain((1..=Self::SPARES).map(Self::Spare))
    }

    pub(crate) fn file_name(self) -> String {
        match self {
            Self::Operator => "operator.kubeconfig".to_owned(),
            other => format!("{}.kubeconfig", other.name()),
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::Operator => "system:serviceaccounts,system:serviceaccounts:ohallo-system",
            Self::Tenant => "tenants",
            Self::Spare(_) => "users",
        }
    }
}

// === impl Component ===

impl Component {
    pub(crate) const ALL: [Self; 4] =
        [Self::ControllerManager, Self::Scheduler, Self::KubeProxy, Self::Kubelet];

    /// The user name that the roles of a new cluster are bound to.
    fn name(self) -> String {
        match self {
            Self::ControllerManager => "system:kube-controller-manager".to_owned(),
            Self::Scheduler => "system:kube-scheduler".to_owned(),
            Self::KubeProxy => "system:kube-proxy".to_owned(),
            Self::Kubelet => format!("system:node:{NODE_NAME}"),
        }
    }

    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::ControllerManager => "controller-manager.kubeconfig",
            Self::Scheduler => "scheduler.kubeconfig",
            Self::KubeProxy => "kube-proxy.kubeconfig",
            Self::Kubelet => "kubelet.kubeconfig",
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::ControllerManager => "system:masters",
            Self::Scheduler | Self::KubeProxy => "system:components",
            Self::Kubelet => "system:nodes",
        }
    }
}

// === impl Tokens ===

impl Tokens {
    pub(crate) fn of(&self, user: User) -> String {
        self.token(&user.name())
    }

    fn token(&self, name: &str) -> String {
        format!("{}-{:016x}", name.replace(':', "-"), self.secret)
    }

    /// The file for `--token-auth-file`.
    pub(crate) fn csv(&self) -> String {
        let mut csv = String::new();
        let users = User::all().map(|user| (user.name(), user.groups()));
        let components = Component::ALL.map(|component| (component.name(), component.groups()));
        for (name, groups) in users.chain(components) {
            let _ = writeln!(csv, "{},{name},{name},\"{groups},system:authenticated\"", self.token(&name));
        }
        csv
    }

    pub(crate) fn kubeconfig(&self, user: User, url: &str, ca: &Path) -> String {
        kubeconfig(&user.name(), &self.of(user), url, ca)
    }

    pub(crate) fn component_kubeconfig(&self, component: Component, url: &str, ca: &Path) -> String {
        let name = component.name();
        kubeconfig(&name, &self.token(&name), url, ca)
    }
}

fn kubeconfig(name: &str, token: &str, url: &str, ca: &Path) -> String {
    format!(
        r#"apiVersion: v1
kind: Config
current-context: testbed
contexts:
  - name: testbed
    context: {{cluster: testbed, user: "{name}"}}
clusters:
  - name: testbed
    cluster:
      server: "{url}"
      certificate-authority: "{}"
users:
  - name: "{name}"
    user: {{token: "{token}"}}
"#,
        ca.display()
    )
}
