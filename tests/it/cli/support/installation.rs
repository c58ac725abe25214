//! A cluster of its own with the operator of the chart. It runs no pods: the program that the chart would start runs beside it.

use ohallo_sim::{Config, Key, Sim};
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::support::canary;
use crate::support::clusters::{end, established, kubectl};
use crate::support::harness::{TENANT, WORKSPACE, kubectl_as};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, output_text};
use crate::support::program::Program;

/// The key of the Workspace.
pub const KEY: &str = "sf_test_v1_installed00000000000000000000";
/// What the Channel `a` configures.
pub const CONFIGURED: &str = "confidential-inbound@nordic-parts.example";

pub struct Installation {
    pub plane: &'static ControlPlane,
    sim: Sim,
    operator: Option<Program>,
}

// === impl Installation ===

impl Installation {
    /// Installs the chart and the objects of a user.
    pub async fn new(plane: &'static ControlPlane) -> Self {
        on(plane, &["install", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--create-namespace"]);
        established(plane);
        let sim = Sim::start(Config::default()).await.unwrap();
        sim.add_workspace(TENANT, WORKSPACE, "Nordic Parts");
        canary::register(KEY);
        sim.add_key(Key::new(KEY, TENANT));
        let installation = Self { plane, sim, operator: None };
        installation.create(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": KEY}},
            {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
             "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "ohallo-api-key"}}},
            {"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"},
             "spec": {"channelType": "chat", "displayName": "A", "config": {"greeting": CONFIGURED}}},
        ]}));
        installation
    }

    pub fn create(&self, object: &Value) {
        let text = object.to_string();
        let output = kubectl_as(self.plane, User::Admin, &["create", "-f", "-", "-o", "name"], Some(&text));
        assert!(output.status.success(), "{}", output_text(&output));
    }

    /// Where oHallo is.
    pub fn url(&self) -> String {
        self.sim.url()
    }

    /// The Deployment, and what is named as it is.
    pub fn name(&self) -> String {
        let name = "jsonpath={.items[0].metadata.name}";
        kubectl(self.plane, &["-n", OPERATOR_NAMESPACE, "get", "deployments", "-o", name])
    }

    /// Starts the program, and waits until the Channel `a` is Ready.
    pub fn run(&mut self) {
        let flags = [
            format!("--api-url={}", self.sim.url()),
            "--leader-elect".to_owned(),
            format!("--operator-namespace={OPERATOR_NAMESPACE}"),
            format!("--lease-name={}", self.name()),
        ];
        self.operator = Some(Program::start(self.plane, &flags));
        kubectl(self.plane, &["wait", "--for=condition=Ready", "channels.ohallo.eu/a", "--timeout=60s"]);
    }

    pub async fn stop(&mut self) {
        let Some(mut operator) = self.operator.take() else { return };
        operator.terminate();
        assert_eq!(operator.ended().await.0, Some(0), "{}", operator.log());
    }

    pub async fn finish(mut self) {
        self.stop().await;
        end(self.plane).await;
    }
}
