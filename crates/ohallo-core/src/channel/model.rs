//! The nouns of a reconcile: what is observed, what is planned and how it ends. No decisions.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Map;

use crate::api::channel::{Channel, ChannelSpec, ChannelStatus, Difference, SecretVersion};
use crate::api::conditions::Reason;
use crate::api::{annotation, finalizer};
use crate::channel::binding::{self, Binding};
use crate::channel::config::{self, Differs};
use crate::channel::consistency::Window;
use crate::channel::in_memory_state::InMemoryState;
use crate::failure::{Failure, Retry};
use crate::index::Elsewhere;
use crate::remote::{Changes, Id, NewChannel, RemoteChannel};
use crate::secret::{ContentDigest, KeyId};
use crate::text::cut_request;

/// The longest distance of two looks at a channel that oHallo is at work on.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Everything a decision rests on.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    pub channel: &'a Channel,
    /// The status as this pass would write it now.
    pub status: &'a ChannelStatus,
    pub observed: &'a Observed,
    pub memory: &'a InMemoryState,
    pub now: Timestamp,
    pub instant: Instant,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Observed {
    pub workspace: Result<WorkspaceAccess, Failure>,
    pub workspace_suspended: bool,
    pub credentials: DesiredCredentials,
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
pub struct WorkspaceAccess {
    pub workspace_id: Id,
    pub key: KeyId,
    /// `status.readWith` under this key.
    pub read_with: String,
    /// The key has read a channel of this workspace since this process holds it.
    pub has_read: bool,
    /// oHallo refused to create here within the last hour.
    pub create_unsupported: bool,
}

/// The declared credentials.
#[derive(Clone, Debug)]
pub enum DesiredCredentials {
    None,
    /// Secrets are missing or unfit.
    Invalid(Failure),
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
    SkippedRead {
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
    Settled(Conclusion),
    Work(Step),
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    RecordId { attempt: i64 },
    Create { attempt: i64, body: NewChannel },
    Adopt { id: Id },
    RestoreMetadata,
    Update { id: Id, changes: Changes, fields: Vec<String>, cause: Cause },
    PushCredentials { id: Id },
    Retry { id: Id, attempts: i64, request: Option<String> },
    Test { id: Id, request: String },
    Delete { id: Id },
    RemoveFinalizer(DeletionOutcome),
}

/// Why an update is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Manifest,
    Drift,
}

/// Why the finalizer may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    NeverCreated,
    Deleted,
    Retained,
    Released,
    /// Another Channel is bound to the id.
    HandedOver,
}

/// Nothing to do, and what that means.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    pub kind: ConclusionKind,
    pub reason: Reason,
    pub message: String,
    pub drift: Vec<Difference>,
    pub planned: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConclusionKind {
    InSync,
    /// oHallo is busy; asked again at growing distances up to this one.
    WaitingForRemote {
        longest: Duration,
    },
    /// oHallo does not show the last write yet: asked again after this long. It counts as nothing that was found.
    Stale {
        again: Duration,
    },
    /// The next provisioning retry is due at this distance.
    RetryIn(Duration),
    Failed(Retry),
    Suspended,
    /// Terminating, and the reason is why it can't go. Looked at again after this long.
    Blocked {
        again: Duration,
    },
    /// A create of this process is under way: come back, write nothing.
    InFlight,
    /// Nothing of ours is left on it.
    Finished,
}

/// The claims that a reconcile of a terminating Channel found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// A living Channel that is bound to the id, read afresh; its name inside the same namespace.
    pub heir: Option<Option<String>>,
    /// Another terminating Channel is bound to the id and deletes it first.
    pub outranked: bool,
    /// Names of Channels of the same namespace that name the id, the oldest first, and whether there are more.
    pub beside: Vec<String>,
    pub more: bool,
    /// Claims of other namespaces; `None` where they were not asked for.
    pub elsewhere: Option<Elsewhere>,
}

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Settled(Conclusion),
    Failed(Failure),
    /// As `Failed`, while credentials were sent.
    PushFailed(Failure),
    /// A step was done and the next look will show more.
    More,
}

// === impl PlanInput ===

impl PlanInput<'_> {
    pub fn spec(&self) -> &ChannelSpec {
        &self.channel.spec
    }

    pub fn terminating(&self) -> bool {
        self.channel.metadata.deletion_timestamp.is_some()
    }

    pub fn observing(&self) -> bool {
        self.spec().is_observe()
    }

    pub fn has_finalizer(&self) -> bool {
        self.channel.finalizers().iter().any(|name| name == finalizer::CHANNEL)
    }

    /// A create of this very object may have made a channel, and its finalizer was removed.
    pub fn lacks_metadata(&self, attempt: &binding::AttemptId) -> bool {
        self.channel.uid().as_deref() == Some(&attempt.uid) && !self.has_finalizer() && !self.observing()
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
        binding::is_own_intent(self.channel)
    }

    /// A user's request that the status has not answered yet.
    pub fn reconcile_requested(&self) -> bool {
        let asked = self.annotation(annotation::RECONCILE_REQUESTED).map(cut_request);
        asked.is_some() && asked != self.status.last_handled_reconcile_at
    }

    pub fn generation(&self) -> i64 {
        self.channel.metadata.generation.unwrap_or_default()
    }

    pub fn binding(&self) -> Binding {
        let uid = self.channel.uid().unwrap_or_default();
        let remembered =
            self.memory.attempt.as_ref().map(crate::channel::in_memory_state::CreateAttempt::remembered);
        binding::binding(&binding::BindingFacts {
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

// === impl Conclusion ===

impl Conclusion {
    pub fn of(is: ConclusionKind, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind: is, reason, message: message.into(), drift: Vec::new(), planned: Vec::new() }
    }

    pub fn user(reason: Reason, message: impl Into<String>) -> Self {
        Self::of(ConclusionKind::Failed(Retry::UserAction), reason, message)
    }

    /// A read that says nothing yet.
    pub fn stale(again: Duration, message: impl Into<String>) -> Self {
        Self::of(ConclusionKind::Stale { again }, Reason::Progressing, message)
    }

    pub fn failed(failure: &Failure) -> Self {
        Self::of(ConclusionKind::Failed(failure.retry), failure.reason, failure.message.clone())
    }

    pub fn settled(self) -> Plan {
        Plan::Settled(self)
    }
}

// === impl Outcome ===

impl Outcome {
    /// Nothing was found out and nothing is to be said: its turn has not come, or a create of this process is under way.
    pub fn silent(&self) -> bool {
        match self {
            Self::Failed(failure) | Self::PushFailed(failure) => matches!(failure.retry, Retry::Deferred(_)),
            Self::Settled(verdict) => {
                matches!(
                    verdict.kind,
                    ConclusionKind::InFlight
                        | ConclusionKind::Finished
                        | ConclusionKind::Failed(Retry::Deferred(_))
                )
            }
            Self::More => false,
        }
    }
}
