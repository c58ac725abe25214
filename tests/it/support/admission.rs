//! A mutating admission policy in front of one namespace: it takes something off, or puts something on, what is written.

use serde_json::{Value, json};
use testbed::User;

use crate::support::harness::{Harness, kubectl_as};

/// One policy in force.
/// The arguments of kubectl, and what its output has.
type Trial = (Vec<String>, String);

pub struct Policy<'a> {
    harness: &'a Harness,
    name: String,
    /// A write that shows whether it is in force.
    trial: Option<Trial>,
}

// === impl Policy ===

impl<'a> Policy<'a> {
    /// Takes this annotation off every Channel that is written.
    pub async fn strips_annotation(harness: &'a Harness, annotation: &str) -> Self {
        let has = format!("'{annotation}' in object.metadata.?annotations.orValue({{}})");
        let path = format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
        let mut policy = Self::put(harness, "channels", &has, &removes(&path)).await;
        policy
            .in_force(
                &["annotate", "channel", "probe", "--overwrite", &format!("{annotation}=x")],
                annotation,
            )
            .await;
        policy
    }

    /// Takes all finalizers off every object of this resource that is written and was not so before.
    pub async fn strips_finalizers(harness: &'a Harness, resource: &str) -> Self {
        let has = "has(object.metadata.finalizers) && size(object.metadata.finalizers) > 0";
        Self::put(harness, resource, has, &removes("/metadata/finalizers")).await
    }

    /// Puts our finalizer back onto every Channel that is written without it.
    pub async fn returns_finalizer(harness: &'a Harness) -> Self {
        let lacks = "oldObject != null && has(oldObject.metadata.finalizers) && !('ohallo.eu/channel' in object.metadata.?finalizers.orValue([]))";
        let adds = r#"[JSONPatch{op: "add", path: "/metadata/finalizers", value: ["ohallo.eu/channel"]}]"#;
        Self::put(harness, "channels", lacks, adds).await
    }

    /// Takes this field off every status of a Channel that is written.
    pub async fn strips_status(harness: &'a Harness, field: &str) -> Self {
        let has = format!("has(object.status) && has(object.status.{field})");
        let mut policy =
            Self::put(harness, "channels/status", &has, &removes(&format!("/status/{field}"))).await;
        let patch = json!({"status": {field: probe(field)}}).to_string();
        policy
            .in_force(
                &["patch", "channel", "probe", "--subresource=status", "--type=merge", "-p", &patch],
                field,
            )
            .await;
        policy
    }

    /// Takes the time of renewal off every Lease that is written.
    pub async fn strips_renewal(harness: &'a Harness) -> Self {
        let has = "has(object.spec.renewTime)";
        Self::put_for(harness, ("coordination.k8s.io", "v1", "leases"), has, &removes("/spec/renewTime"))
            .await
    }

    async fn put(harness: &'a Harness, resource: &str, condition: &str, mutation: &str) -> Self {
        Self::put_for(harness, ("ohallo.eu", "v1alpha1", resource), condition, mutation).await
    }

    async fn put_for(
        harness: &'a Harness,
        (group, version, resource): (&str, &str, &str),
        condition: &str,
        mutation: &str,
    ) -> Self {
        let name = format!("{}-{}", harness.namespace, resource.replace('/', "-"));
        let (api, metadata) = ("admissionregistration.k8s.io/v1", json!({"name": name}));
        let policy = json!({
            "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": harness.namespace}},
                    "resourceRules": [{"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"], "resources": [resource]}],
                },
                "matchConditions": [{"name": "applies", "expression": condition}],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": mutation}}],
            },
        });
        let binding = json!({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata, "spec": {"policyName": name}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]});
        harness.kubectl_ok(&["apply", "-f", "-"], &list.to_string());
        Self { harness, name, trial: None }
    }

    /// Waits until a trial of this write, which changes nothing, comes back without `part`.
    async fn in_force(&mut self, args: &[&str], part: &str) {
        let all = args.iter().copied().chain(["--dry-run=server", "-o", "json"]).map(str::to_owned);
        let trial = (all.collect(), part.rsplit('/').next().unwrap().to_owned());
        self.tried("the policy is in force", &trial, false).await;
        self.trial = Some(trial);
    }

    async fn tried(&self, what: &str, (args, part): &Trial, kept: bool) {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        self.harness
            .eventually(what, || async {
                let output = self.harness.kubectl(&args, None);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                (String::from_utf8_lossy(&output.stdout).contains(part) == kept).then_some(())
            })
            .await;
    }

    /// Ends it, and waits until the API server goes by that.
    pub async fn lift(self) {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            let output = kubectl_as(self.harness.plane, User::Admin, &["delete", kind, &self.name], None);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        if let Some(trial) = &self.trial {
            self.tried("the policy is lifted", trial, true).await;
        }
    }
}

fn removes(path: &str) -> String {
    format!(r#"[JSONPatch{{op: "remove", path: "{path}"}}]"#)
}

/// A value that the schema takes.
fn probe(field: &str) -> Value {
    match field {
        "test" => json!({"request": "probe"}),
        "provisioning" => json!({"attempts": 1}),
        _ => "probe".into(),
    }
}

/// A Channel that is suspended, for trials.
pub async fn probed(harness: &Harness) {
    harness.create("probe", json!({"suspend": true})).await;
    harness.has("probe", "Suspended", "Suspended").await;
}
