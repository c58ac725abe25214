//! The manifest of a channel that exists.

use std::collections::BTreeSet;

use ohallo_core::api::{GROUP, ObjectKind, VERSION};
use ohallo_core::remote::RemoteChannel;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{fields, yaml};

/// The longest name that is made, in characters: labels may have no more.
const MAX_NAME: usize = 63;

/// How the Channels name their Workspace.
pub struct Place {
    /// `None` where the manifest need not name it.
    workspace: Option<Value>,
    namespace: Option<String>,
}

// === impl Place ===

impl Place {
    pub fn of(kind: ObjectKind, name: &str, namespace: Option<String>) -> Self {
        let default = kind == ObjectKind::Workspace && name == "default";
        Self { workspace: (!default).then(|| json!({"kind": kind.name(), "name": name})), namespace }
    }
}

/// A name for each channel, from its display name; each is taken once.
pub fn names(channels: &[&RemoteChannel]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for channel in channels {
        let shown = slug(channel.display_name.as_deref().unwrap_or_default());
        let shown = if shown.is_empty() { slug(&format!("channel-{}", channel.id)) } else { shown };
        let mut name = shown.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{shown}-{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

/// Lower case letters and digits of ASCII, with single hyphens between them.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.to_lowercase().chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    // Room for a number behind it.
    slug.truncate(MAX_NAME - 6);
    slug.trim_matches('-').to_owned()
}

/// # Errors
/// The channel has something that YAML can't hold.
pub fn manifest(channel: &RemoteChannel, name: &str, place: &Place) -> Result<String, Failure> {
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let metadata = fields([("name", Some(name.into())), ("namespace", text(&place.namespace))]);
    let config = Some(&channel.config).filter(|config| !config.is_empty());
    let spec = fields([
        ("channelId", Some(channel.id.as_str().into())),
        ("channelType", text(&channel.channel_type)),
        ("displayName", text(&channel.display_name)),
        // Deleting the object must not delete a channel that was there before it.
        ("deletionPolicy", Some("Retain".into())),
        ("workspaceRef", place.workspace.clone()),
        ("config", config.cloned().map(Value::Object)),
    ]);
    let manifest = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": ObjectKind::Channel.name(),
        "metadata": metadata, "spec": spec,
    });
    let stub = format!(
        "  # oHallo returns no credentials. To manage them, put them into a Secret and remove the marks:\n  \
         # credentials:\n  #   - secretRef: {{name: {name}-credentials}}\n"
    );
    Ok(yaml(&manifest)? + &stub)
}

#[cfg(test)]
mod tests {
    use ohallo_core::remote::Id;

    use super::*;

    fn channel(id: &str, display_name: &str) -> RemoteChannel {
        RemoteChannel {
            id: Id::parse(id).unwrap(),
            workspace_id: None,
            channel_type: Some("chat".into()),
            display_name: Some(display_name.into()),
            status: None,
            config: serde_json::from_value(json!({"on": "0123", "port": 25, "deep": {"yes": "off"}}))
                .unwrap(),
            created_at: None,
        }
    }

    #[test]
    fn names_are_made_of_display_names_and_each_is_taken_once() {
        let shown = ["Support Email", "support  email!", "Ünïcode Ægir", "電話", "a".repeat(100).as_str()]
            .map(|name| channel("Id.1", name));
        let names = names(&shown.iter().collect::<Vec<_>>());
        assert_eq!(names[..4], ["support-email", "support-email-2", "n-code-gir", "channel-id-1"]);
        assert!(
            names.iter().all(|name| ohallo_core::api::is_name(name) && name.len() <= MAX_NAME),
            "{names:?}"
        );
    }

    #[test]
    fn a_manifest_keeps_its_channel_and_reads_back_as_it_was() {
        let text =
            manifest(&channel("id-1", "A: #1"), "a", &Place::of(ObjectKind::Workspace, "default", None))
                .unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        let spec = &read["spec"];
        assert_eq!((&spec["channelId"], &spec["deletionPolicy"]), (&json!("id-1"), &json!("Retain")));
        assert_eq!(spec["config"], json!({"on": "0123", "port": 25, "deep": {"yes": "off"}}));
        assert_eq!(
            (&spec["displayName"], &spec["workspaceRef"], &spec["credentials"]),
            (&json!("A: #1"), &Value::Null, &Value::Null)
        );
        assert!(text.contains("# credentials:"));
        let shared = Place::of(ObjectKind::ClusterWorkspace, "shared", Some("team".into()));
        let text = manifest(&channel("id-1", "A"), "a", &shared).unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["metadata"]["namespace"], "team");
        assert_eq!(read["spec"]["workspaceRef"], json!({"kind": "ClusterWorkspace", "name": "shared"}));
    }
}
