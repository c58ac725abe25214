//! What `why` answers: built from objects, without I/O.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::DynamicObject;
use ohallo_core::api::ObjectKind;
use ohallo_core::api::channel::WorkspaceRef;
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::conditions::{Status, is_true};
use ohallo_core::text::escape;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions;
use crate::explain::{Explanation, explain};
use crate::failure::{NEGATIVE, SUCCESS};
use crate::output::{BAD, GOOD, NOTE, paint};
use crate::target::Target;

/// How many events are shown, the newest first.
const MAX_EVENTS: usize = 8;

/// Why an object is as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub kind: &'static str,
    /// Empty for a kind without namespaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// What identifies it in oHallo, and what oHallo says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// Ready first, then whatever else needs attention.
    pub conditions: Vec<Explained>,
    /// Why there is nothing to explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<&'static str>,
    /// The Workspace that keeps the Channel from being Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<Box<Why>>,
    /// The newest events. Unset: they may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<Seen>>,
}

/// A fact with its name.
#[derive(Debug, Serialize)]
pub struct Fact {
    pub name: &'static str,
    pub value: String,
}

/// A condition in words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    /// RFC 3339.
    pub since: String,
    /// The time since then, as `5m`.
    pub age: String,
    pub message: String,
    pub meaning: String,
    pub remedy: String,
    /// One of them is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// It describes an older version of the manifest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
}

/// An event.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// RFC 3339.
    pub at: String,
    pub age: String,
    pub reason: String,
    pub note: String,
}

/// The Workspace that a Channel belongs to.
pub fn workspace_of(kind: ObjectKind, object: &DynamicObject) -> Option<Target> {
    if kind != ObjectKind::Channel {
        return None;
    }
    let reference = object.data.pointer("/spec/workspaceRef");
    let reference = reference.and_then(|reference| WorkspaceRef::deserialize(reference).ok());
    let reference = reference.unwrap_or_default();
    Some(Target { kind: reference.object_kind(), name: reference.name })
}

/// A duration as kubectl shows it: its largest unit.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

// === impl Why ===

impl Why {
    pub fn of(
        kind: ObjectKind,
        object: &DynamicObject,
        workspace: Option<&(Target, DynamicObject)>,
        events: Option<&[Event]>,
        now: Timestamp,
    ) -> Self {
        let workspace_name = workspace.map_or("WORKSPACE", |(target, _)| target.name.as_str());
        let all = conditions::of(object);
        let shown = all.iter().filter(|condition| is_shown(condition));
        let mut conditions: Vec<_> =
            shown.map(|condition| Explained::of(condition, kind, object, workspace_name, now)).collect();
        conditions.sort_by_key(|condition| condition.kind != self::kind::READY);
        let blocked_by = workspace.filter(|(_, workspace)| !is_ready(workspace));
        let blocked_by = blocked_by.filter(|_| !is_ready(object)).map(|(target, workspace)| {
            Box::new(Self { events: None, ..Self::of(target.kind, workspace, None, None, now) })
        });
        let unknown = conditions.is_empty().then_some(
            "No operator has reported about this object: check that one runs and watches the namespace.",
        );
        Self {
            kind: kind.name(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            facts: facts(object),
            conditions,
            unknown,
            blocked_by,
            events: events.map(|events| newest(events, now)),
        }
    }

    pub fn exit_code(&self) -> u8 {
        let mut ready = self.conditions.iter().filter(|condition| condition.kind == kind::READY);
        if ready.any(Explained::is_good) { SUCCESS } else { NEGATIVE }
    }
}

fn is_ready(object: &DynamicObject) -> bool {
    is_true(&conditions::of(object), kind::READY)
}

/// Reconciling and Stalled repeat the reason of Ready.
fn is_shown(condition: &Condition) -> bool {
    ![kind::RECONCILING, kind::STALLED].contains(&condition.type_.as_str())
}

fn facts(object: &DynamicObject) -> Vec<Fact> {
    let text = |path: &str| match object.data.pointer(path) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let deletion = object.metadata.deletion_timestamp.as_ref().map(|at| at.0.to_string());
    let all = [
        ("channel id", text("/status/channelId").or_else(|| text("/spec/channelId"))),
        ("workspace id", text("/spec/workspaceId").or_else(|| text("/status/workspaceId"))),
        ("state in oHallo", text("/status/state")),
        ("origin", text("/status/origin")),
        ("deletion policy", text("/status/deletionPolicy")),
        ("being deleted since", deletion),
        ("unresolved create", text("/status/create/attempt").map(|attempt| format!("attempt {attempt}"))),
        ("next retry", text("/status/provisioning/nextAttemptAt")),
        ("environment", text("/status/environment")),
    ];
    all.into_iter().filter_map(|(name, value)| Some(Fact { name, value: value? })).collect()
}

fn newest(events: &[Event], now: Timestamp) -> Vec<Seen> {
    let at = |event: &Event| {
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        let time = series.or_else(|| event.event_time.as_ref().map(|time| time.0));
        time.or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let mut all: Vec<_> = events.iter().map(|event| (at(event), event)).collect();
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let shown = all.into_iter().take(MAX_EVENTS);
    shown
        .map(|(at, event)| Seen {
            at: format!("{at:.0}"),
            age: age(at, now),
            reason: event.reason.clone().unwrap_or_default(),
            note: event.note.clone().unwrap_or_default(),
        })
        .collect()
}

// === impl Explained ===

impl Explained {
    fn of(
        condition: &Condition,
        kind: ObjectKind,
        object: &DynamicObject,
        workspace: &str,
        now: Timestamp,
    ) -> Self {
        let known = Reason::of(condition).map(explain);
        let Explanation { meaning, remedy, commands } = known.unwrap_or(Explanation {
            meaning: "This version of kubectl-ohallo does not know the reason.",
            remedy: "Read the message, and check for a newer version.",
            commands: &["kubectl ohallo version"],
        });
        let name = match kind {
            ObjectKind::Channel => object.name_any(),
            ObjectKind::Workspace | ObjectKind::ClusterWorkspace => {
                format!("{}/{}", kind.name().to_lowercase(), object.name_any())
            }
        };
        let namespace =
            object.namespace().map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
        let command = |command: &&str| {
            let words = command.split(' ').map(|word| match word {
                "NAME" => name.clone(),
                word => word.replace("WORKSPACE", workspace),
            });
            format!("{}{namespace}", words.collect::<Vec<_>>().join(" "))
        };
        let since = condition.last_transition_time.0;
        Self {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            since: format!("{since:.0}"),
            age: age(since, now),
            message: condition.message.clone(),
            meaning: meaning.to_owned(),
            remedy: remedy.to_owned(),
            commands: commands.iter().map(command).collect(),
            outdated: condition.observed_generation < object.metadata.generation,
        }
    }

    fn is_good(&self) -> bool {
        conditions::is_good(&self.kind, self.status.parse().unwrap_or(Status::Unknown))
    }
}

/// The answer for people.
pub fn text(why: &Why) -> String {
    let mut out = String::new();
    write(why, "", &mut out);
    if let Some(events) = &why.events {
        out.push_str(if events.is_empty() { "\nNo events.\n" } else { "\nEvents, the newest first:\n" });
        for event in events {
            _ = writeln!(
                out,
                "  {} ({} ago) {}: {}",
                event.at,
                event.age,
                escape(&event.reason),
                escape(&event.note)
            );
        }
    }
    out
}

fn write(why: &Why, indent: &str, out: &mut String) {
    let namespace = if why.namespace.is_empty() { String::new() } else { format!("{}/", why.namespace) };
    _ = writeln!(out, "{indent}{} {namespace}{}", why.kind, why.name);
    for fact in &why.facts {
        _ = writeln!(out, "{indent}  {}: {}", fact.name, escape(&fact.value));
    }
    if let Some(unknown) = why.unknown {
        _ = writeln!(out, "{indent}  {unknown}");
    }
    for condition in &why.conditions {
        let style = if condition.is_good() { GOOD } else { BAD };
        let head = format!("{} {}: {}", condition.kind, condition.status, condition.reason);
        let head = paint(style, &escape(&head));
        _ = writeln!(out, "\n{indent}{head}, since {} ({} ago)", condition.since, condition.age);
        if condition.outdated {
            let outdated = paint(NOTE, "outdated: it describes an older version of the manifest");
            _ = writeln!(out, "{indent}  {outdated}");
        }
        _ = writeln!(out, "{indent}  {}", escape(&condition.message));
        if !condition.is_good() {
            _ = writeln!(out, "{indent}  Meaning: {}", condition.meaning);
            _ = writeln!(out, "{indent}  To do:   {}", condition.remedy);
            for command in &condition.commands {
                _ = writeln!(out, "{indent}    {command}");
            }
        }
    }
    if let Some(blocking) = &why.blocked_by {
        _ = writeln!(out, "\n{indent}Its Workspace is not Ready:");
        write(blocking, &format!("{indent}  "), out);
    }
}

#[cfg(test)]
mod tests;
