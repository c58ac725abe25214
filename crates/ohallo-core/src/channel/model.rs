//! The types of a reconcile: what is observed, what is planned and how it ends. No decisions.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::annotation;
use crate::api::channel::{Channel, ChannelSpec, ChannelStatus, Difference, SecretVersion};
use crate::api::conditions::Reason;
use crate::api::values::Origin;
use crate::channel::binding::{self, BindingFacts, ObjectBinding};
use crate::channel::config::Differs;
use crate::channel::consistency::Window;
use crate::channel::declared;
use crate::channel::in_memory_state::{CreateAttempt, InMemoryState};
use crate::failure::{Failure, Retry};
use crate::index::{Elsewhere, NamespacedName, Rivals};
use crate::remote::{Changes, Id, NewChannel, RemoteChannel};
use crate::secret::{ContentDigest, KeyId};
use crate::text::cut_request;

/// The maximum poll interval while oHallo has not finished with a channel.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// All inputs of a decision.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    pub channel: &'a Channel,
    /// The status as this reconcile would write it now.
    pub status: &'a ChannelStatus,
    pub observed: &'a Observed,
    pub memory: &'a InMemoryState,
    pub now: Timestamp,
    pub instant: Instant,
}

/// What this reconcile observed.
#[derive(Clone, Debug)]
pub struct Observed {
    pub workspace: Result<WorkspaceAccess, Failure>,
    pub workspace_suspended: bool,
    pub credentials: DesiredCredentials,
    pub remote: Remote,
    /// Another Channel that reserves the id of this one; its name, unless it is in another namespace.
    pub owner: Option<Option<String>>,
    /// The terminating Channel of the same namespace that an adoption takes the id over from.
    pub predecessor: Option<Predecessor>,
    /// Claims of other Channels on the id of a terminating Channel; `None` where this reconcile did not begin with a terminating one.
    pub claims: Option<Claims>,
    /// Channels in oHallo that an unresolved create may have created.
    pub candidates: Vec<String>,
    /// This reconcile has already sent an update.
    pub updated: bool,
    /// This reconcile has written the intent of this attempt, and has not sent it.
    pub intent_written: Option<i64>,
    /// Which reads of the channel may be older than a write.
    pub window: Window,
}

/// The Channel whose oHallo channel is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    pub name: String,
    pub origin: Origin,
}

/// A workspace that calls can use.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkspaceAccess {
    pub workspace_id: Id,
    pub key: KeyId,
    /// The value of `status.readWith` for this API key.
    pub read_with: String,
    /// The API key has read a channel of this workspace since this process loaded it.
    pub has_read: bool,
    /// oHallo rejected a create in this workspace as unsupported within the last hour.
    pub create_unsupported: bool,
    /// A create of this process succeeded in this workspace.
    pub has_created: bool,
}

/// The declared credentials.
#[derive(Clone, Debug)]
pub enum DesiredCredentials {
    None,
    /// Secrets are missing or invalid.
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
    /// Not read: it was active, and only a Secret has changed since. `next_look` is the time to the next regular read.
    SkippedRead {
        next_look: Duration,
    },
    Found(Box<RemoteChannel>),
    /// 404, which may be older than a write or needs a second read; read again after this time.
    Stale {
        again: Duration,
    },
    /// 404; `proven` if a later read confirmed that the API key belongs to the workspace.
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
    /// Writes the intent of a create, and the finalizer.
    WriteIntent {
        attempt: i64,
    },
    /// Sends the create whose intent this reconcile has written.
    PostCreate {
        attempt: i64,
        body: NewChannel,
    },
    /// Writes the id that oHallo returned into the status.
    RecordId {
        attempt: i64,
    },
    Adopt {
        id: Id,
    },
    RestoreMetadata,
    Update {
        id: Id,
        changes: Changes,
        fields: Vec<String>,
        cause: Cause,
    },
    PushCredentials {
        id: Id,
    },
    Retry {
        id: Id,
        attempts: i64,
        request: Option<String>,
    },
    Test {
        id: Id,
        request: String,
    },
    Delete {
        id: Id,
    },
    RemoveFinalizer(DeletionOutcome),
}

/// Why an update is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Manifest,
    Drift,
}

/// Why the finalizer can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionOutcome {
    NeverCreated,
    Deleted,
    Retained,
    Released,
    /// Another Channel is bound to the id.
    HandedOver,
}

/// Nothing to do now, and why.
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
    /// oHallo has not finished; polled with growing intervals up to this one.
    WaitingForRemote {
        longest: Duration,
    },
    /// oHallo does not show the last write yet: read again after this time. The read has no effect.
    Stale {
        again: Duration,
    },
    /// The next provisioning retry is due after this time.
    RetryIn(Duration),
    Failed(Retry),
    Suspended,
    /// Terminating, and the reason says what blocks the deletion. Requeued after this time.
    Blocked {
        again: Duration,
    },
    /// A create of this process is in flight: requeue, and write nothing.
    InFlight,
    /// The object has no finalizer of the operator.
    Finished,
}

/// The claims that a reconcile of a terminating Channel observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// A living Channel that is bound to the id, from an uncached read; its name inside the same namespace.
    pub heir: Option<Option<String>>,
    /// Another terminating Channel is bound to the id and deletes it first.
    pub outranked: bool,
    /// Names of Channels of the same namespace that name the id, the oldest first, and whether there are more.
    pub beside: Vec<String>,
    pub more: bool,
    /// Claims of other namespaces; `None` where they were not checked.
    pub elsewhere: Option<Elsewhere>,
}

/// How a reconcile ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Settled(Conclusion),
    Failed(Failure),
    /// As `Failed`, in the credentials call.
    PushFailed(Failure),
    /// A step was executed, and the next iteration continues.
    More,
}

// === impl Observed ===

impl Observed {
    /// Of a reconcile that has read nothing but the caches of the workspace.
    pub fn unread(workspace: Result<WorkspaceAccess, Failure>, workspace_suspended: bool) -> Self {
        Self {
            workspace,
            workspace_suspended,
            credentials: DesiredCredentials::None,
            remote: Remote::Unread,
            owner: None,
            predecessor: None,
            claims: None,
            candidates: Vec::new(),
            updated: false,
            intent_written: None,
            window: Window::default(),
        }
    }
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
        self.channel.has_finalizer()
    }

    /// A create of this object may have left a channel, and the object's finalizer was removed.
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

    /// The object has its own intent; an intent of another object, or a malformed one, does not count.
    pub fn has_own_intent(&self) -> bool {
        binding::is_own_intent(self.channel)
    }

    /// A user requested a reconcile that the status does not record as handled.
    pub fn reconcile_requested(&self) -> bool {
        let asked = self.annotation(annotation::RECONCILE_REQUESTED).map(cut_request);
        asked.is_some() && asked != self.status.last_handled_reconcile_at
    }

    pub fn generation(&self) -> i64 {
        self.channel.metadata.generation.unwrap_or_default()
    }

    pub fn binding(&self) -> ObjectBinding {
        let uid = self.channel.uid().unwrap_or_default();
        let facts = BindingFacts {
            uid: &uid,
            observe: self.observing(),
            spec_id: self.spec().channel_id.as_deref(),
            status_id: self.status.channel_id.as_deref(),
            bound_uid: self.status.bound_uid.as_deref(),
            intent: self.annotation(annotation::CREATE_INTENT),
            recorded: self.status.create.as_ref().map(|create| (create.attempt, create.outcome())),
            create_again: self.annotation(annotation::CREATE_AGAIN),
            remembered: self.memory.attempt.as_ref().map(CreateAttempt::remembered),
        };
        if self.terminating() {
            ObjectBinding::Terminating(binding::deletion_binding(&facts))
        } else {
            ObjectBinding::Living(binding::binding(&facts))
        }
    }

    /// SHA-256 of the declared values.
    pub fn digest(&self) -> String {
        declared::digest(self.spec(), self.spec().enabled)
    }

    /// SHA-256 of the declared values that oHallo returns.
    pub fn values_digest(&self) -> String {
        declared::digest(self.spec(), None)
    }

    /// Where oHallo's channel differs from the declared values.
    pub fn differences(&self, remote: &RemoteChannel) -> Vec<Differs> {
        declared::differences(self.spec(), Some(remote))
    }

    /// Every declared value, as a difference from a channel that has none.
    pub fn declared(&self) -> Vec<Differs> {
        declared::differences(self.spec(), None)
    }

    /// Whether oHallo reverted the same field so often that the operator stops sending it.
    pub fn contested(&self) -> bool {
        self.memory.reverts.contested
    }
}

// === impl Claims ===

impl Claims {
    /// The claims of these rivals, as a Channel of this namespace learns them: of other namespaces it learns no names.
    /// `heir`: the living Channel that is bound to the id.
    pub fn of(
        rivals: &Rivals,
        namespace: &str,
        heir: Option<NamespacedName>,
        elsewhere: Option<Elsewhere>,
    ) -> Self {
        Self {
            heir: heir.map(|heir| (heir.namespace == namespace).then_some(heir.name)),
            outranked: rivals.outranked,
            beside: rivals.beside.iter().map(|name| name.name.clone()).collect(),
            more: rivals.more,
            elsewhere,
        }
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

    /// A read that may be stale.
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
    /// Why a step or a read failed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::PushFailed(failure) => Some(failure),
            Self::Settled(_) | Self::More => None,
        }
    }

    /// No status is written: the call was deferred, or a create of this process is in flight.
    pub fn silent(&self) -> bool {
        match self {
            Self::Failed(failure) | Self::PushFailed(failure) => matches!(failure.retry, Retry::Deferred(_)),
            Self::Settled(verdict) => match verdict.kind {
                ConclusionKind::InFlight | ConclusionKind::Finished => true,
                ConclusionKind::Failed(retry) => matches!(retry, Retry::Deferred(_)),
                ConclusionKind::InSync
                | ConclusionKind::WaitingForRemote { .. }
                | ConclusionKind::Stale { .. }
                | ConclusionKind::RetryIn(_)
                | ConclusionKind::Suspended
                | ConclusionKind::Blocked { .. } => false,
            },
            Self::More => false,
        }
    }
}
