//! The conditions of an object, whatever its kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use ohallo_core::api::conditions::kind;
use ohallo_core::conditions::Status;
use serde_json::Value;

/// Those that can be decoded.
pub fn of(object: &DynamicObject) -> Vec<Condition> {
    let all = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter_map(|condition| serde_json::from_value(condition.clone()).ok()).collect()
}

/// Whether a condition of this type and status needs no attention.
pub fn is_good(condition: &str, status: Status) -> bool {
    match condition {
        kind::READY | kind::CREDENTIALS_APPLIED | kind::CONNECTED => status == Status::True,
        _ => status != Status::True,
    }
}
