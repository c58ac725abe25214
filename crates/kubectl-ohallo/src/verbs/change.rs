//! What each verb writes, and when it is done: without I/O.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::DynamicObject;
use ohallo_core::api::conditions::kind;
use ohallo_core::api::values::RecordedOutcome;
use ohallo_core::api::{ObjectKind, annotation, same_id};
use ohallo_core::conditions::{find, is_true};
use serde_json::{Value, json};

use crate::conditions;

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    Reconcile,
    Test,
    Retry,
    Suspend(bool),
    Release,
    ConfirmDeletion { despite_claims: bool },
    CreateAgain,
    Adopt(String),
}

/// One write to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    verb: Verb,
    /// A merge patch.
    pub patch: Value,
    /// The value of the annotation that it sets.
    request: Option<String>,
    /// What can't be undone.
    pub question: Option<String>,
    /// What was written.
    pub done: String,
}

/// How far the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Waiting,
    Done(String),
    Failed(String),
}

fn annotated(name: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {name: value}}})
}

fn text<'o>(object: &'o DynamicObject, path: &str) -> Option<&'o str> {
    object.data.pointer(path).and_then(Value::as_str)
}

// === impl Verb ===

impl Verb {
    fn is_for(&self, kind: ObjectKind) -> bool {
        match self {
            Self::Reconcile | Self::Suspend(_) => true,
            Self::Test
            | Self::Retry
            | Self::Release
            | Self::ConfirmDeletion { .. }
            | Self::CreateAgain
            | Self::Adopt(_) => kind == ObjectKind::Channel,
        }
    }
}

// === impl Change ===

impl Change {
    /// What to write, or why the object is in no state for it: one sentence.
    pub fn plan(
        verb: &Verb,
        kind: ObjectKind,
        object: &DynamicObject,
        now: Timestamp,
    ) -> Result<Self, String> {
        if !verb.is_for(kind) {
            return Err(format!("a {} has nothing like this: name a Channel", kind.name()));
        }
        // Two requests within a second are two.
        let request = format!("{now:.3}");
        let id = text(object, "/status/channelId");
        let uid = object.uid().unwrap_or_default();
        let attempt = object.data.pointer("/status/create/attempt").and_then(Value::as_i64);
        let attempt = attempt.filter(|_| {
            let outcome = text(object, "/status/create/outcome").and_then(|word| word.parse().ok());
            outcome == Some(RecordedOutcome::Unknown)
        });
        let create = attempt.map(|attempt| format!("{uid}/{attempt}"));
        let deleted = object.metadata.deletion_timestamp.is_some();
        let change = |patch, request: Option<&str>, question: Option<String>, done: String| Self {
            verb: verb.clone(),
            patch,
            request: request.map(str::to_owned),
            question,
            done,
        };
        let requested = |name, question, done: &str| {
            change(annotated(name, &request), Some(&request), question, done.to_owned())
        };
        Ok(match verb {
            Verb::Reconcile => requested(annotation::RECONCILE_REQUESTED, None, "a reconcile is requested"),
            Verb::Test => {
                let email = text(object, "/spec/channelType") == Some("email");
                let question = email.then(|| "the test sends a real email.".to_owned());
                requested(annotation::TEST_REQUESTED, question, "a connectivity test is requested")
            }
            Verb::Retry => requested(annotation::RETRY_REQUESTED, None, "a provisioning retry is requested"),
            Verb::Suspend(suspend) => {
                let done =
                    if *suspend { "spec.suspend is set to true" } else { "spec.suspend is set to false" };
                let question = (!suspend).then(|| resumed_deletion(kind, object)).flatten();
                change(json!({"spec": {"suspend": suspend}}), None, question, done.to_owned())
            }
            Verb::Release => {
                if !deleted {
                    return Err("it is not being deleted: delete it first".to_owned());
                }
                let left = id.map(str::to_owned).or(create);
                let left = left.ok_or("there is no channel that could be left in oHallo")?;
                let question =
                    format!("the object is removed, and {left} stays in oHallo, where it may cost money.");
                change(
                    annotated(annotation::RELEASE, &left),
                    None,
                    Some(question),
                    format!("{left} is released"),
                )
            }
            Verb::ConfirmDeletion { despite_claims } => {
                let id = id.ok_or("it is bound to no channel: there is nothing to confirm")?;
                let value = if *despite_claims { format!("{id}/{uid}") } else { id.to_owned() };
                let despite =
                    if *despite_claims { ", although Channels of other namespaces claim it" } else { "" };
                let question = format!(
                    "deleting the object deletes the channel {id} in oHallo, with its number or address{despite}."
                );
                let done = format!("the deletion of the channel {id} is confirmed");
                change(annotated(annotation::CONFIRM_DELETION, &value), None, Some(question), done)
            }
            Verb::CreateAgain => {
                let create = create.ok_or("it has no unresolved create: there is nothing to confirm")?;
                let question = "if the first create succeeded, a second channel is created.".to_owned();
                change(
                    annotated(annotation::CREATE_AGAIN, &create),
                    None,
                    Some(question),
                    "a new create is confirmed".to_owned(),
                )
            }
            Verb::Adopt(id) => {
                let done = format!("spec.channelId is set to {id}");
                let question = format!(
                    "the object can't be bound to another channel later, and the operator gives {id} the name and the config that the object declares."
                );
                change(json!({"spec": {"channelId": id}}), None, Some(question), done)
            }
        })
    }

    /// How far the operator is. `written` is the object right after the write, `now` as it is.
    pub fn progress(&self, written: &DynamicObject, now: Option<&DynamicObject>) -> Progress {
        let Some(now) = now.filter(|now| now.uid() == written.uid()) else {
            return match self.verb {
                Verb::Release | Verb::ConfirmDeletion { .. } => {
                    Progress::Done("the object is removed".to_owned())
                }
                _ => Progress::Failed("the object was deleted meanwhile".to_owned()),
            };
        };
        let handled =
            |path: &str| self.request.as_deref().is_some_and(|request| text(now, path) == Some(request));
        let observed = now.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
        let current = observed.is_some() && observed >= written.metadata.generation;
        let conditions = conditions::of(now);
        let ready = find(&conditions, kind::READY);
        let is_suspended = find(&conditions, kind::SUSPENDED).is_some();
        let done = |sentence: &str| Progress::Done(sentence.to_owned());
        let ready_says = || match ready {
            Some(Condition { status, message, .. }) => {
                Progress::Done(format!("Ready is {status}: {message}"))
            }
            None => Progress::Waiting,
        };
        match &self.verb {
            Verb::Reconcile if handled("/status/lastHandledReconcileAt") => ready_says(),
            Verb::Test if handled("/status/test/handledRequest") || handled("/status/test/request") => {
                match (text(now, "/status/test/result"), find(&conditions, kind::CONNECTED)) {
                    (Some("Passed"), _) => done("the test passed"),
                    (Some(_), Some(connected)) => Progress::Failed(connected.message.clone()),
                    _ => Progress::Waiting,
                }
            }
            Verb::Retry if handled("/status/provisioning/handledRequest") => done("the retry was sent"),
            // A success removes the record of the retries.
            Verb::Retry if is_true(&conditions, kind::READY) => ready_says(),
            Verb::Suspend(true) if current && is_suspended => done("it is suspended"),
            Verb::Suspend(false) if current && !is_suspended => ready_says(),
            // Confirmed in advance: no deletion has begun that could end.
            Verb::ConfirmDeletion { .. } if now.metadata.deletion_timestamp.is_none() => {
                done("the object can be deleted")
            }
            Verb::CreateAgain if text(now, "/status/channelId").is_some() => done("the channel is created"),
            Verb::Adopt(id) => match text(now, "/status/channelId") {
                Some(bound) if same_id(bound, id) => done("the channel is adopted"),
                _ if current && find(&conditions, kind::STALLED).is_some() => {
                    Progress::Failed(ready.map_or_else(
                        || "the operator does not adopt it".to_owned(),
                        |ready| ready.message.clone(),
                    ))
                }
                _ => Progress::Waiting,
            },
            Verb::Reconcile
            | Verb::Test
            | Verb::Retry
            | Verb::Suspend(_)
            | Verb::Release
            | Verb::ConfirmDeletion { .. }
            | Verb::CreateAgain => Progress::Waiting,
        }
    }
}

/// What the end of a suspension deletes in oHallo.
fn resumed_deletion(kind: ObjectKind, object: &DynamicObject) -> Option<String> {
    let is_suspended = object.data.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
    match kind {
        _ if !is_suspended => None,
        ObjectKind::Workspace | ObjectKind::ClusterWorkspace => Some(
            "the operator then deletes the channels in oHallo whose Channels are being deleted, with their numbers or addresses.".to_owned(),
        ),
        ObjectKind::Channel => {
            let is = |path: &str, word: &str| text(object, path) == Some(word);
            let keeps = is("/spec/deletionPolicy", "Retain") || is("/spec/managementPolicy", "Observe");
            let is_deleted = object.metadata.deletion_timestamp.is_some() && !keeps;
            let id = text(object, "/status/channelId").filter(|_| is_deleted)?;
            Some(format!("the object is being deleted: the operator then deletes the channel {id} in oHallo, with its number or address."))
        }
    }
}

#[cfg(test)]
mod tests;
