//! The tree of `status`: built from objects, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use kube::ResourceExt;
use kube::api::DynamicObject;
use ohallo_core::api::ObjectKind;
use ohallo_core::api::conditions::kind;
use ohallo_core::conditions::Status;
use ohallo_core::text::escape;
use serde::Serialize;
use serde_json::Value;

use crate::conditions;
use crate::failure::{NEGATIVE, SUCCESS};
use crate::output::{BAD, GOOD, NOTE, paint};
use crate::why::workspace_of;

/// What the API server has.
pub struct Objects {
    pub channels: Vec<DynamicObject>,
    pub workspaces: Vec<DynamicObject>,
    pub cluster_workspaces: Vec<DynamicObject>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tree {
    pub workspaces: Vec<Branch>,
    /// How many Channels have each reason.
    pub counts: BTreeMap<String, usize>,
}

/// A Workspace and its Channels.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    pub kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// Unset where it does not exist, or may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    pub channels: Vec<Leaf>,
}

/// A Channel.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    pub namespace: String,
    pub name: String,
    #[serde(rename = "type")]
    pub channel_type: String,
    pub state: State,
    /// The Secrets of its credentials.
    pub secrets: Vec<String>,
    /// Other conditions that need attention, with their reasons.
    pub attention: Vec<String>,
    pub deleting: bool,
}

/// The condition Ready.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    pub ready: String,
    pub reason: String,
}

// === impl State ===

impl State {
    fn of(object: &DynamicObject) -> Self {
        let ready = conditions::of(object).into_iter().find(|condition| condition.type_ == kind::READY);
        match ready {
            Some(ready) => Self { ready: ready.status, reason: ready.reason },
            None => Self { ready: "Unknown".to_owned(), reason: "NotReconciled".to_owned() },
        }
    }

    fn painted(&self) -> String {
        let style = match self.ready.as_str() {
            "True" => GOOD,
            "False" => BAD,
            _ => NOTE,
        };
        paint(style, &escape(&format!("{} {}", self.ready, self.reason)))
    }
}

// === impl Leaf ===

impl Leaf {
    fn of(channel: &DynamicObject) -> Self {
        let spec = |path: &str| channel.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let sources = channel.data.pointer("/spec/credentials").and_then(Value::as_array);
        let names = sources.into_iter().flatten().filter_map(|source| {
            let secret = source.get("secretRef").or_else(|| source.get("secretKeyRef"))?;
            Some(secret.get("name")?.as_str()?.to_owned())
        });
        let secrets: BTreeSet<_> = names.collect();
        let of_ready = [kind::READY, kind::RECONCILING, kind::STALLED];
        let attention = conditions::of(channel).into_iter().filter_map(|condition| {
            let kind = condition.type_.as_str();
            let needs = !of_ready.contains(&kind) && !conditions::is_good(kind, Status::of(&condition));
            needs.then(|| format!("{kind} {}", condition.reason))
        });
        Self {
            namespace: channel.namespace().unwrap_or_default(),
            name: channel.name_any(),
            channel_type: spec("/spec/channelType").to_owned(),
            state: State::of(channel),
            secrets: secrets.into_iter().collect(),
            attention: attention.collect(),
            deleting: channel.metadata.deletion_timestamp.is_some(),
        }
    }
}

// === impl Tree ===

impl Tree {
    /// The tree of all Channels, or of the one of this name.
    pub fn of(objects: &Objects, only: Option<&str>) -> Self {
        let mut branches: BTreeMap<(String, bool, String), Branch> = BTreeMap::new();
        let shared =
            objects.cluster_workspaces.iter().map(|workspace| (ObjectKind::ClusterWorkspace, workspace));
        let own = objects.workspaces.iter().map(|workspace| (ObjectKind::Workspace, workspace));
        for (kind, workspace) in own.chain(shared) {
            let namespace = workspace.namespace().unwrap_or_default();
            let key = (namespace.clone(), kind == ObjectKind::ClusterWorkspace, workspace.name_any());
            let (name, state) = (workspace.name_any(), Some(State::of(workspace)));
            branches.insert(key, Branch { kind: kind.name(), namespace, name, state, channels: Vec::new() });
        }
        let mut counts = BTreeMap::new();
        for channel in
            objects.channels.iter().filter(|channel| only.is_none_or(|name| channel.name_any() == name))
        {
            let leaf = Leaf::of(channel);
            *counts.entry(leaf.state.reason.clone()).or_default() += 1;
            let Some(workspace) = workspace_of(ObjectKind::Channel, channel) else { continue };
            let is_shared = workspace.kind == ObjectKind::ClusterWorkspace;
            let namespace = if is_shared { String::new() } else { leaf.namespace.clone() };
            let key = (namespace.clone(), is_shared, workspace.name.clone());
            let branch = branches.entry(key).or_insert_with(|| Branch {
                kind: workspace.kind.name(),
                namespace,
                name: workspace.name,
                state: None,
                channels: Vec::new(),
            });
            branch.channels.push(leaf);
        }
        let mut workspaces: Vec<_> = branches.into_values().collect();
        workspaces.retain(|branch| only.is_none() || !branch.channels.is_empty());
        Self { workspaces, counts }
    }

    pub fn is_empty(&self) -> bool {
        self.workspaces.is_empty()
    }

    pub fn exit_code(&self) -> u8 {
        let mut all = self.workspaces.iter().flat_map(|branch| &branch.channels);
        if all.all(|channel| channel.state.ready == "True") { SUCCESS } else { NEGATIVE }
    }
}

/// The tree for people.
pub fn text(tree: &Tree) -> String {
    let mut out = String::new();
    for branch in &tree.workspaces {
        let namespace =
            if branch.namespace.is_empty() { String::new() } else { format!("{}/", branch.namespace) };
        let state = match &branch.state {
            Some(state) => state.painted(),
            None => paint(BAD, "does not exist, or may not be read"),
        };
        _ = writeln!(out, "{} {namespace}{}: {state}", branch.kind, branch.name);
        for (at, channel) in branch.channels.iter().enumerate() {
            let is_last = at + 1 == branch.channels.len();
            let (edge, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let deleting = if channel.deleting { ", being deleted" } else { "" };
            let (namespace, name) = (&channel.namespace, &channel.name);
            let kind = escape(&channel.channel_type);
            _ = writeln!(out, "{edge}{namespace}/{name} ({kind}{deleting}): {}", channel.state.painted());
            for attention in &channel.attention {
                _ = writeln!(out, "{below}{}", paint(NOTE, &escape(attention)));
            }
            for secret in &channel.secrets {
                _ = writeln!(out, "{below}Secret {}", escape(secret));
            }
        }
    }
    let counts: Vec<_> =
        tree.counts.iter().map(|(reason, count)| format!("{count} {}", escape(reason))).collect();
    let total: usize = tree.counts.values().sum();
    let list = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    _ = writeln!(out, "Channels: {total}{list}");
    out
}

#[cfg(test)]
mod tests;
