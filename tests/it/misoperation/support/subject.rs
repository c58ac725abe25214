//! One healthy object that is maltreated, and what is seen of it.

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, Request};
use ohallo_operator::kubernetes::response_sanitizer;
use serde_json::{Value, json};

use crate::support::harness::{Harness, WAIT_TIMEOUT};

/// How a user brings a manifest to the API server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// `kubectl apply --server-side`
    Apply,
    /// `kubectl replace`
    Replace,
}

/// One object of a kind, and the manifest that it was created from.
pub struct Subject<'a> {
    pub harness: &'a Harness,
    pub kind: &'static str,
    pub manifest: Value,
    pub way: Way,
}

/// The API server's refusal.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
}

// === impl Subject ===

impl Subject<'_> {
    pub fn name(&self) -> &str {
        self.manifest["metadata"]["name"].as_str().unwrap()
    }

    pub fn api(&self) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("ohallo.eu", "v1alpha1", self.kind));
        // As the operator reads: what it survives, this must.
        let client = response_sanitizer::readable(self.harness.admin.clone());
        match self.kind {
            "ClusterWorkspace" => Api::all_with(client, &resource),
            _ => Api::namespaced_with(client, &self.harness.namespace, &resource),
        }
    }

    pub async fn get(&self) -> Value {
        serde_json::to_value(self.api().get(self.name()).await.unwrap()).unwrap()
    }

    /// Brings this manifest of the object to the API server, which validates it as strictly as for kubectl.
    pub async fn bring(&self, manifest: &Value) -> Result<Value, Refusal> {
        let brought = match self.way {
            Way::Apply => {
                let params = PatchParams::apply("user").force().validation_strict();
                self.api().patch(self.name(), &params, &Patch::Apply(manifest)).await
            }
            Way::Replace => loop {
                match self.replace(manifest).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    other => break other,
                }
            },
        };
        match brought {
            Ok(object) => Ok(serde_json::to_value(object).unwrap()),
            Err(kube::Error::Api(status)) => {
                Err(Refusal { code: status.code, message: status.message.clone() })
            }
            Err(error) => panic!("{}: {error}", self.name()),
        }
    }

    async fn replace(&self, manifest: &Value) -> Result<DynamicObject, kube::Error> {
        let api = self.api();
        let Some(there) = api.get_opt(self.name()).await? else {
            return api
                .create(&PostParams::default(), &serde_json::from_value(manifest.clone()).unwrap())
                .await;
        };
        let mut whole = serde_json::to_value(there).unwrap();
        whole.as_object_mut().unwrap().remove("spec");
        if let Some(spec) = manifest.get("spec") {
            whole["spec"] = spec.clone();
        }
        let params = PostParams { field_manager: Some("user".into()), ..PostParams::default() };
        let body = serde_json::to_vec(&whole).unwrap();
        let mut request = Request::new(api.resource_url()).replace(self.name(), &params, body).unwrap();
        *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse().unwrap();
        response_sanitizer::readable(self.harness.admin.clone()).request(request).await
    }

    /// Waits until the object is so; else what it last was.
    pub async fn until(&self, holds: impl Fn(&Value) -> bool) -> Result<Value, Value> {
        let mut last = Value::Null;
        for _ in 0..WAIT_TIMEOUT.as_millis() / 60 {
            // Every version of every Channel is watched already; of the others there are few.
            let seen = match self.kind {
                "Channel" => self.harness.history.newest(self.name()),
                _ => Some(self.get().await),
            };
            if let Some(seen) = seen {
                if holds(&seen) {
                    return Ok(seen);
                }
                last = seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(last)
    }
}

/// The condition of this type.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether the operator has reported on this generation or a later one, and has settled.
pub fn settled(object: &Value, generation: &Value) -> bool {
    let current = |condition: &&Value| condition["observedGeneration"] == object["metadata"]["generation"];
    if object["metadata"]["generation"].as_i64() < generation.as_i64()
        || object["status"]["observedGeneration"] != object["metadata"]["generation"]
    {
        return false;
    }
    if condition(object, "Suspended").filter(current).is_some() {
        return true;
    }
    let reported = |ready: &Value| ready["status"] != "Unknown" || ready["reason"] == "NotCreated";
    condition(object, "Ready").filter(current).is_some_and(reported)
}

pub fn is_ready(object: &Value) -> bool {
    condition(object, "Suspended").is_none()
        && condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
        // What was sent before continues to work where a Secret is missing, and Ready stays.
        && condition(object, "CredentialsApplied").is_none_or(|applied| applied["status"] == "True")
}

/// What must be the same again when the manifest is: all but times and generations. What became of the last
/// connectivity test is kept for ever, so it is left out where one was asked for.
pub fn picture(object: &Value, tested: bool) -> Value {
    let mut status = object["status"].clone();
    forget(&mut status);
    if tested && let Some(fields) = status.as_object_mut() {
        fields.remove("test");
        if let Some(conditions) = fields["conditions"].as_array_mut() {
            conditions.retain(|condition| condition["type"] != "Connected");
        }
    }
    let metadata = &object["metadata"];
    json!({
        "spec": object["spec"], "status": status, "annotations": metadata["annotations"],
        "labels": metadata["labels"], "finalizers": metadata["finalizers"], "uid": metadata["uid"],
    })
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for time in ["lastTransitionTime", "observedGeneration", "pushedAt", "finishedAt"] {
                fields.remove(time);
            }
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}
