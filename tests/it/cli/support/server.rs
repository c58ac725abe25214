//! What the API server answers to a manifest, as `kubectl apply --dry-run=server` asks it.

use std::collections::BTreeSet;

use futures::StreamExt;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::Value;

/// How many requests are in flight at the same time.
const AT_ONCE: usize = 16;

/// A manifest as it is sent.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What was done to it, for people.
    pub what: String,
    pub plural: &'static str,
    pub body: String,
    pub syntax: Syntax,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Yaml,
}

/// A verdict, and the fields that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub accepted: bool,
    /// Empty where the answer names no field.
    pub fields: BTreeSet<String>,
    pub message: String,
}

/// The answers to all, in their order.
pub async fn answers(client: &Client, namespace: &str, manifests: &[Manifest]) -> Vec<Answer> {
    let asked = manifests.iter().map(|manifest| answer(client, namespace, manifest));
    futures::stream::iter(asked).buffered(AT_ONCE).collect().await
}

async fn answer(client: &Client, namespace: &str, manifest: &Manifest) -> Answer {
    let scope = match manifest.plural {
        "clusterworkspaces" => String::new(),
        _ => format!("namespaces/{namespace}/"),
    };
    let path =
        format!("/apis/ohallo.eu/v1alpha1/{scope}{}?dryRun=All&fieldValidation=Strict", manifest.plural);
    let content_type = match manifest.syntax {
        Syntax::Json => "application/json",
        Syntax::Yaml => "application/yaml",
    };
    let request = http::Request::post(path).header("content-type", content_type);
    let request = request.body(manifest.body.clone().into_bytes().into()).unwrap();
    let response = client.send(request).await.unwrap();
    let accepted = response.status().is_success();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if accepted {
        return Answer { accepted, fields: BTreeSet::new(), message: String::new() };
    }
    let status: Value = serde_json::from_slice(&body).unwrap();
    Answer {
        accepted,
        fields: fields(&status),
        message: status["message"].as_str().unwrap_or_default().to_owned(),
    }
}

/// The fields that an answer is about.
fn fields(status: &Value) -> BTreeSet<String> {
    let message = status["message"].as_str().unwrap_or_default();
    // A strict answer names its fields in quotes.
    if message.contains("strict decoding error") {
        let mut found = quoted(message, "unknown field \"");
        found.extend(quoted(message, "duplicate field \""));
        // YAML: the key alone.
        found.extend(quoted(message, "key \""));
        return found;
    }
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let named =
        causes.iter().filter_map(|cause| match (cause["field"].as_str()?, cause["message"].as_str()?) {
            // The range of a number is checked without a field; the message ends with its path.
            ("<nil>", message) => message
                .split_once(" value must be of type ")
                .and_then(|(_, rest)| rest.rsplit_once(" in "))
                .map(|(_, path)| path.to_owned()),
            (field, _) => Some(field.to_owned()),
        });
    let mut found: BTreeSet<_> = named.collect();
    // One that can't be decoded is named as in Go.
    if let Some((_, rest)) = message.split_once("Go struct field ObjectMeta.") {
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        found.insert(format!("metadata.{name}"));
    }
    found
}

fn quoted(message: &str, before: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, mark) in message.match_indices(before) {
        let rest = &message[at + mark.len()..];
        found.insert(
            rest.split("\", ")
                .next()
                .unwrap()
                .split("\" already")
                .next()
                .unwrap()
                .split("\"\n")
                .next()
                .unwrap()
                .trim_end_matches('"')
                .to_owned(),
        );
    }
    found
}
