//! One operator that watches two namespaces.

use kube::api::Api;
use ohallo_core::api::channel::Channel;
use ohallo_sim::Config;
use serde_json::{Value, json};

use crate::support::harness::{Harness, WORKSPACE};
use crate::support::steps::state_of;

/// A harness whose operator also watches a second namespace, which has the same key.
pub struct TwoNamespaces {
    pub harness: Harness,
    pub other_namespace: String,
}

// === impl Two ===

impl TwoNamespaces {
    pub async fn start() -> Self {
        let mut harness = Harness::bare(Config::default(), &[]).await;
        let other_namespace = format!("{}-elsewhere", harness.namespace);
        harness.flag(format!("--namespace={other_namespace}"));
        let two = Self { harness, other_namespace };
        two.harness.kubectl_ok(&["create", "namespace", &two.other_namespace], "");
        let mut two = two;
        two.harness.begin().await;
        two.apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"apiKey": two.harness.key}}),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": "default"},
                   "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": "key"}}}),
        ]);
        two
    }

    /// Applies objects in the second namespace.
    fn apply(&self, objects: &[Value]) {
        self.harness.apply_in(&self.other_namespace, objects);
    }

    /// Applies a Channel in the second namespace.
    pub fn channel(&self, name: &str, spec: Value) {
        let mut manifest = self.harness.manifest(name, spec);
        manifest["metadata"]["namespace"] = self.other_namespace.clone().into();
        self.apply(&[manifest]);
    }

    pub fn channels(&self) -> Api<Channel> {
        Api::namespaced(self.harness.admin.clone(), &self.other_namespace)
    }

    /// Waits until a Channel of the second namespace has this reason.
    pub async fn reason(&self, name: &str, reason: &str) -> Channel {
        self.harness
            .eventually(&format!("{name} {reason}"), || async {
                let channel = self.channels().get(name).await.unwrap();
                Some(channel)
                    .filter(|channel| state_of(channel, "Ready").is_some_and(|ready| ready.1 == reason))
            })
            .await
    }
}
