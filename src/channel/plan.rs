// pure
//! What is to be done next: one step, or a verdict that there is nothing to do. Never both.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Map;

use super::config::{self, Differs};
use super::consistency::Window;
use super::create::{self, Standing};
use super::delete::claims::Claims;
use super::memory::{AttemptOutcome, Memory};
use super::{delete, work};
use crate::api::channel::{Channel, ChannelSpec, ChannelStatus, Difference, LeftOut, SecretVersion};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer};
use crate::error::{Failure, Need};
use crate::ohallo::{Changes, Id, NewChannel, RemoteChannel};
use crate::secret::{ContentDigest, KeyId};

/// Everything a decision rests on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub channel: &'a Channel,
    /// The status as this pass would write it now.
    pub status: &'a ChannelStatus,
    pub observed: &'a Observed,
    pub memory: &'a Memory,
    pub now: Timestamp,
    pub instant: Instant,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Observed {
    pub place: Result<Place, Failure>,
    pub workspace_suspended: bool,
    pub credentials: Declared,
    pub remote: Remote,
    /// Another Channel that holds the id of this one; its name where it may be told.
    pub owner: Option<Option<String>>,
    /// The terminating Channel of the same namespace that an adoption takes the id over from.
    pub predecessor: Option<Predecessor>,
    /// Who else claims the id of a terminating Channel; `None` where this reconcile did not begin with a terminating one.
    pub claims: Option<Claims>,
    /// Channels in oHallo that an attempt of unknown outcome may have made.
    pub candidates: Vec<String>,
    /// This pass has already sent an update.
    pub updated: bool,
    /// Which reads of the channel may be older than a write.
    pub window: Window,
}

/// Whose channel is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    pub name: String,
    /// Its `status.origin`.
    pub origin: String,
}

/// The workspace, usable.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub workspace_id: Id,
    pub key: KeyId,
    /// `status.readWith` under this key.
    pub read_with: String,
    /// oHallo refused to create here within the last hour.
    pub create_unsupported: bool,
}

/// The declared credentials.
#[derive(Clone, Debug)]
pub enum Declared {
    None,
    /// Secrets are missing or unfit.
    Problem(Failure),
    Ready {
        digest: ContentDigest,
        keys: Vec<String>,
        sources: Vec<SecretVersion>,
    },
}

/// The channel in oHallo.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    Unread,
    /// Not read: it was found active, and only a Secret has changed since. The next regular look is at this distance.
    AsKnown {
        next_look: Duration,
    },
    Found(Box<RemoteChannel>),
    /// 404, which may be older than a write or is to be seen twice; asked again after this long.
    Stale {
        again: Duration,
    },
    /// 404; whether the key was shown to be the tenant's after it.
    Absent {
        proven: bool,
    },
}

#[derive(Clone, Debug)]
pub enum Plan {
    Settled(Verdict),
    Work(Step),
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Record { attempt: i64 },
    Create { attempt: i64, body: NewChannel },
    Adopt { id: Id },
    RestoreMarks,
    Update { id: Id, changes: Changes, fields: Vec<String>, cause: Cause },
    PushCredentials { id: Id },
    Retry { id: Id, attempts: i64, request: Option<String> },
    Test { id: Id, request: String },
    Delete { id: Id },
    LetGo(Parting),
}

/// Why an update is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Manifest,
    Drift,
}

/// Why the finalizer may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    NothingThere,
    Deleted,
    Retained,
    Released,
    /// Another Channel is bound to the id.
    HandedOver,
}

/// Nothing to do, and what that means.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub is: Is,
    pub reason: Reason,
    pub message: String,
    pub drift: Vec<Difference>,
    pub planned: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    InSync,
    /// oHallo is busy; asked again at growing distances up to this one.
    Busy {
        longest: Duration,
    },
    /// oHallo does not show the last write yet: asked again after this long. It counts as nothing that was found.
    Stale {
        again: Duration,
    },
    /// The next provisioning retry is due at this distance.
    RetryIn(Duration),
    Needs(Need),
    Suspended,
    /// Terminating, and the reason is why it can't go. Looked at again after this long.
    Blocked {
        again: Duration,
    },
    /// A create of this process is under way: come back, write nothing.
    InFlight,
    /// Nothing of ours is left on it.
    Gone,
}

/// Decides.
pub fn plan(view: &View) -> Plan {
    let standing = view.standing();
    match &standing {
        Standing::InFlight => return Verdict::of(Is::InFlight, Reason::Progressing, "").settled(),
        // The API server does not keep the id, so only a person can end the wait.
        Standing::Record { id, .. }
            if view.terminating() && !view.memory.lost.is_empty() && delete::released(view, id) =>
        {
            return Plan::Work(Step::LetGo(Parting::Released));
        }
        Standing::Record { attempt, .. } => return Plan::Work(Step::Record { attempt: *attempt }),
        _ => {}
    }
    if view.terminating() {
        return delete::plan(view, &standing);
    }
    if let Some(verdict) = suspended(view) {
        return verdict.settled();
    }
    match standing {
        // A deletion must not pass by what a create of this object may have made.
        Standing::OutcomeUnknown(attempt) if view.unmarked(&attempt) => Plan::Work(Step::RestoreMarks),
        Standing::OutcomeUnknown(attempt) => outcome_unknown(view, &attempt).settled(),
        Standing::TwoIds { answered, declared } => Verdict::user(
            Reason::CreateOutcomeUnknown,
            format!("A create made channel {answered} while spec.channelId names {declared}: neither is bound. Set spec.channelId to {answered}, or delete that channel in oHallo."),
        )
        .settled(),
        Standing::ForeignStatus(id) => Verdict::user(
            Reason::CreateOutcomeUnknown,
            format!("The status names channel {id}, but was restored or copied from another object: set spec.channelId to {id} if this object shall hold it."),
        )
        .settled(),
        Standing::Bound(id) | Standing::Adopt(id) => work::plan(view, &id),
        Standing::NotCreated => not_created().settled(),
        Standing::Create { attempt } => create_plan(view, attempt),
        _ => Verdict::of(Is::InFlight, Reason::Progressing, "").settled(),
    }
}

fn suspended(view: &View) -> Option<Verdict> {
    if view.spec().suspend == Some(true) {
        let message = "spec.suspend is true: nothing is called until it is false.";
        return Some(Verdict::of(Is::Suspended, Reason::Suspended, message));
    }
    view.observed.workspace_suspended.then(|| {
        let message = "The workspace is suspended: nothing is called until its spec.suspend is false.";
        Verdict::of(Is::Suspended, Reason::WorkspaceSuspended, message)
    })
}

fn not_created() -> Verdict {
    let message = "managementPolicy is Observe and there is no channel: set spec.channelId to observe one.";
    let mut verdict = Verdict::of(Is::Needs(Need::Input), Reason::NotCreated, message);
    verdict.planned = vec!["create channel".into()];
    verdict
}

fn outcome_unknown(view: &View, attempt: &create::Attempt) -> Verdict {
    let spec = view.spec();
    let candidates = match view.observed.candidates.as_slice() {
        [] => String::new(),
        some => format!(" Candidates: {}.", some.join(", ")),
    };
    Verdict::user(
        Reason::CreateOutcomeUnknown,
        format!(
            "A create was sent (status.create.sentAt) and its answer was lost, so a {} channel named {:?} may exist.{candidates} Look in oHallo's dashboard: \
             if it is there, set spec.channelId to its id; if it is not, annotate this object with {}={attempt}.",
            spec.channel_type.as_deref().unwrap_or_default(),
            spec.display_name.as_deref().unwrap_or_default(),
            annotation::CREATE_AGAIN,
        ),
    )
}

fn create_plan(view: &View, attempt: i64) -> Plan {
    if let Some(verdict) = unfit(view.spec()) {
        return verdict.settled();
    }
    let place = match &view.observed.place {
        Err(failure) => return Verdict::failed(failure).settled(),
        Ok(place) => place,
    };
    if let Declared::Problem(failure) = &view.observed.credentials {
        return Verdict::failed(failure).settled();
    }
    if place.create_unsupported && !view.reconcile_requested() {
        return Verdict::user(Reason::CreateUnsupported, CREATE_UNSUPPORTED).settled();
    }
    let spec = view.spec();
    let body = NewChannel {
        channel_type: spec.channel_type.clone().unwrap_or_default(),
        display_name: spec.display_name.clone().unwrap_or_default(),
        config: spec.config.as_ref().map(|config| config::overlay(config, &Map::new())),
        enabled: spec.enabled,
    };
    Plan::Work(Step::Create { attempt, body })
}

/// How to go on where the API can't create.
pub const CREATE_UNSUPPORTED: &str = "oHallo's API does not create channels in this workspace: make the channel in the dashboard, then set spec.channelId to its id.";

/// A spec that the schema can't refuse but oHallo must not see.
pub fn unfit(spec: &ChannelSpec) -> Option<Verdict> {
    if let Some(left_out) = &spec.left_out {
        return unread(left_out);
    }
    let config = spec.config.as_ref()?;
    let size = serde_json::to_vec(config).map_or(0, |bytes| bytes.len());
    let message = if size > config::MAX_BYTES {
        size_exceeded(size as u64)
    } else if config::too_deep(config) {
        format!(
            "spec.config is nested too deep; at most {} levels are sent: make it flatter.",
            config::MAX_LEVELS
        )
    } else {
        return None;
    };
    Some(Verdict::user(Reason::ValidationFailed, message))
}

/// Whether the declared config may be sent to oHallo. Of an object that the cache has not in full it tells what was
/// known of the whole one; of one that never came in full, what its size tells.
pub fn config_fits(spec: &ChannelSpec) -> bool {
    match &spec.left_out {
        None => unfit(spec).is_none(),
        Some(left_out) => match &left_out.kept {
            Some(kept) => kept.config_fits,
            None => left_out.config.is_none_or(config::fits),
        },
    }
}

fn size_exceeded(bytes: u64) -> String {
    format!("spec.config has {bytes} bytes of JSON; at most {} are sent: make it smaller.", config::MAX_BYTES)
}

/// What is missing of a spec is unknown: nothing is sent, and nothing is judged, but a config by its size.
fn unread(left_out: &LeftOut) -> Option<Verdict> {
    let message = match left_out.config {
        Some(size) if size.bytes > config::MAX_BYTES as u64 => size_exceeded(size.bytes),
        Some(size) if size.decoded > config::MAX_DECODED => format!(
            "spec.config takes {} KiB of memory once it is decoded; at most {} KiB are accepted: declare fewer values.",
            size.decoded / 1024,
            config::MAX_DECODED / 1024
        ),
        _ => {
            let message = "The manifest was not read in full; the operator reads it again.";
            return Some(Verdict::of(Is::Needs(Need::Time), Reason::Progressing, message));
        }
    };
    Some(Verdict::user(Reason::ValidationFailed, message))
}

// === impl View ===

impl View<'_> {
    pub fn spec(&self) -> &ChannelSpec {
        &self.channel.spec
    }

    pub fn terminating(&self) -> bool {
        self.channel.metadata.deletion_timestamp.is_some()
    }

    pub fn observing(&self) -> bool {
        self.spec().management_policy.as_deref() == Some("Observe")
    }

    pub fn finalized(&self) -> bool {
        self.channel.finalizers().iter().any(|name| name == finalizer::CHANNEL)
    }

    /// A create of this very object may have made a channel, and its finalizer was removed.
    fn unmarked(&self, attempt: &create::Attempt) -> bool {
        self.channel.uid().as_deref() == Some(&attempt.uid) && !self.finalized() && !self.observing()
    }

    /// The id that the object is bound to.
    pub fn bound_id(&self) -> Option<&str> {
        self.status.bound_to(self.channel.metadata.uid.as_deref()?)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.channel.annotations().get(name).map(String::as_str)
    }

    /// The object shows an intent of its own: one of another object, or a malformed one, is as good as none.
    pub fn has_own_intent(&self) -> bool {
        create::is_own_intent(self.channel)
    }

    /// A user's request that the status has not answered yet.
    pub fn reconcile_requested(&self) -> bool {
        let asked = self.annotation(annotation::RECONCILE_REQUESTED).map(cut_request);
        asked.is_some() && asked != self.status.last_handled_reconcile_at
    }

    pub fn generation(&self) -> i64 {
        self.channel.metadata.generation.unwrap_or_default()
    }

    pub fn standing(&self) -> Standing {
        let uid = self.channel.uid().unwrap_or_default();
        let remembered = self.memory.attempt.as_ref().map(|own| create::Remembered {
            attempt: own.number,
            outcome: match &own.outcome {
                AttemptOutcome::InFlight => create::Outcome::InFlight,
                AttemptOutcome::Answered(remote) => create::Outcome::Answered(remote.id.as_str()),
                AttemptOutcome::Rejected => create::Outcome::Rejected,
                AttemptOutcome::NotSent => create::Outcome::NotSent,
                AttemptOutcome::Unknown => create::Outcome::Unknown,
            },
            intent: own.intent.as_deref(),
            after: own.after.as_deref(),
            last: own.last,
        });
        create::standing(&create::Facts {
            uid: &uid,
            terminating: self.terminating(),
            observe: self.observing(),
            spec_id: self.spec().channel_id.as_deref(),
            status_id: self.status.channel_id.as_deref(),
            bound_uid: self.status.bound_uid.as_deref(),
            intent: self.annotation(annotation::CREATE_INTENT),
            recorded: self.status.create.as_ref().map(|create| (create.attempt, create.outcome.as_str())),
            create_again: self.annotation(annotation::CREATE_AGAIN),
            remembered,
        })
    }

    /// SHA-256 of what is declared.
    pub fn digest(&self) -> String {
        let spec = self.spec();
        config::digest(spec.display_name.as_deref().unwrap_or_default(), spec.config.as_ref(), spec.enabled)
    }

    /// SHA-256 of the declared `displayName` and `config`.
    pub fn values_digest(&self) -> String {
        let spec = self.spec();
        config::digest(spec.display_name.as_deref().unwrap_or_default(), spec.config.as_ref(), None)
    }

    /// Where oHallo's channel differs from what is declared.
    pub fn differences(&self, remote: &RemoteChannel) -> Vec<Differs> {
        self.differences_from(remote.display_name.as_deref(), &remote.config)
    }

    /// Every declared value, as a difference from a channel that has none.
    pub fn declared(&self) -> Vec<Differs> {
        self.differences_from(None, &Map::new())
    }

    fn differences_from(
        &self,
        display_name: Option<&str>,
        actual: &Map<String, serde_json::Value>,
    ) -> Vec<Differs> {
        let spec = self.spec();
        let name = spec.display_name.as_deref().filter(|name| Some(*name) != display_name);
        let name = name.map(|name| Differs {
            path: "displayName".into(),
            declared: name.into(),
            actual: display_name.map(Into::into),
        });
        let of_config = spec.config.iter().flat_map(|declared| config::differences(declared, actual));
        let of_config =
            of_config.map(|differs| Differs { path: format!("config.{}", differs.path), ..differs });
        name.into_iter().chain(of_config).collect()
    }

    /// Whether oHallo reverted the same field so often that it is no use to send it again.
    pub fn contested(&self) -> bool {
        self.memory.reverts.contested
    }
}

// === impl Verdict ===

impl Verdict {
    pub fn of(is: Is, reason: Reason, message: impl Into<String>) -> Self {
        Self { is, reason, message: message.into(), drift: Vec::new(), planned: Vec::new() }
    }

    pub fn user(reason: Reason, message: impl Into<String>) -> Self {
        Self::of(Is::Needs(Need::User), reason, message)
    }

    /// A read that says nothing yet.
    pub fn stale(again: Duration, message: impl Into<String>) -> Self {
        Self::of(Is::Stale { again }, Reason::Progressing, message)
    }

    pub fn failed(failure: &Failure) -> Self {
        Self::of(Is::Needs(failure.need), failure.reason, failure.message.clone())
    }

    pub fn settled(self) -> Plan {
        Plan::Settled(self)
    }
}

/// A request's value as the status can hold it.
pub fn cut_request(value: &str) -> String {
    value.chars().take(256).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
