//! The order of effects: what each step asks of the API server and of oHallo, and what must be permitted before it.
//!
//! The operator executes this order and `dev/model` explores it, so a fence that moves or two effects that change
//! places are found there.

use crate::api::channel::Channel;
use crate::channel::model::{Claims, Step};
use crate::channel::plan::delete::WorkspaceProbe;
use crate::classify::CallError;
use crate::failure::Failure;
use crate::remote::RemoteChannel;

/// One permission, request or reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The served CustomResourceDefinitions store every field of this version.
    CheckSchema,
    /// This process still leads in the epoch of the decision. It does not wait, so nothing happens between it and the
    /// request that follows.
    Fence,
    /// Waits for the rate limit, and takes the token of the next changing call.
    AwaitToken,
    /// Takes the token and the concurrency slot of a create, or defers it.
    PermitCreate,
    /// Reads the workspace before a create, if oHallo's last response is not recent.
    Preflight,
    /// Reserves the channel's id in this process for this object.
    ReserveId,
    /// Patches the finalizer and the intent of a create, together.
    WriteIntent,
    /// Patches the finalizer, if it is missing.
    WriteFinalizer,
    /// Patches the finalizer, and the intent if the operator created the channel.
    WriteMetadata,
    PostChannel,
    /// Writes the status with the id of the created channel.
    WriteId,
    /// Writes the status with the count of a call that must not be repeated.
    WriteAhead,
    PatchChannel,
    PostCredentials,
    PostRetry,
    PostTest,
    /// Reads the object from the API server.
    ReadObject,
    /// Finds the Channels that claim the id: in the cache, or from the API server if the cache may lag.
    FindClaims,
    DeleteChannel,
    RemoveFinalizer,
    /// Reads the workspace after a 404, to learn whether the API key belongs to it.
    ProbeWorkspace,
    /// Lists the workspace's channels after a create whose response was lost.
    ListCandidates,
}

/// The answer to an effect.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is permitted, done, or nothing was to be done.
    Done,
    /// The object as the API server returned it.
    Object(Box<Channel>),
    /// The object is deleted, or another one has its name.
    ObjectGone,
    /// The API server rejected a guarded write; the object as it is now.
    Conflict(Box<Channel>),
    /// The API server rejected a guarded write, because the object has a newer version.
    Rejected,
    /// The id is reserved for another Channel.
    Reserved,
    Claims(Claims),
    Channel(Box<RemoteChannel>),
    TestPassed(bool),
    Workspace(WorkspaceProbe),
    /// Ids of channels that an unresolved create may have created.
    Candidates(Vec<String>),
}

/// Why an effect was not permitted or failed.
#[derive(Clone, Debug)]
pub enum EffectError {
    /// Another process leads, or none.
    NotLeader,
    /// oHallo's answer, or why the call was not sent.
    Call(CallError),
    /// The API server's answer. `refused`: it had no effect.
    Kubernetes { failure: Failure, refused: bool },
    /// Nothing was sent.
    NotSent(Failure),
}

/// How an effect ended.
pub type Answered = Result<Answer, EffectError>;

/// What follows from that, or why the step failed.
pub type Applied = Result<Next, Failure>;

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next effect of the step.
    Effect,
    /// The same effect again, after its fence: the object has a newer version.
    Repeat,
    /// This effect, because of the answer.
    Then(Effect),
    /// Plan again: what was read still holds, or the answer replaced it.
    Plan,
    /// Plan again after a backoff. No other outcome may end the step.
    PlanAfterBackoff,
    /// End the reconcile, and requeue soon.
    Requeue,
    /// The object is deleted.
    Finished,
}

/// A position in a step's effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    effects: &'static [Effect],
    at: usize,
    then: Option<Effect>,
}

// === impl Step ===

impl Step {
    /// The effects of this step, in order. Each begins only after the answer to the one before it.
    pub const fn effects(&self) -> &'static [Effect] {
        use Effect::{
            AwaitToken, CheckSchema, DeleteChannel, Fence, FindClaims, PatchChannel, PermitCreate,
            PostChannel, PostCredentials, PostRetry, PostTest, Preflight, ReadObject, RemoveFinalizer,
            ReserveId, WriteAhead, WriteFinalizer, WriteId, WriteIntent, WriteMetadata,
        };
        match self {
            // All that may wait or be refused comes before the intent: a crash while it waits leaves no unresolved create.
            Self::WriteIntent { .. } => &[CheckSchema, PermitCreate, Preflight, Fence, WriteIntent],
            // The lease may have been lost since the intent was written.
            Self::PostCreate { .. } => &[Fence, PostChannel],
            // Not fenced: no other process knows the id, whichever leads.
            Self::RecordId { .. } => &[WriteId],
            Self::Adopt { .. } => &[CheckSchema, ReserveId, Fence, WriteFinalizer],
            Self::RestoreMetadata => &[Fence, WriteMetadata],
            Self::Update { .. } => &[AwaitToken, Fence, PatchChannel],
            Self::PushCredentials { .. } => &[AwaitToken, Fence, PostCredentials],
            Self::Retry { .. } => &[AwaitToken, Fence, WriteAhead, Fence, PostRetry],
            Self::Test { .. } => &[AwaitToken, Fence, WriteAhead, Fence, PostTest],
            // Irreversible: it is decided again on the object as it is now, after the wait.
            Self::Delete { .. } => &[AwaitToken, ReadObject, FindClaims, ReserveId, Fence, DeleteChannel],
            Self::RemoveFinalizer(_) => &[Fence, RemoveFinalizer],
        }
    }

    /// Whether the step belongs to a create that was sent or is about to be. It runs in a task of its own, which no
    /// timeout ends.
    pub const fn outlives_reconcile(&self) -> bool {
        match self {
            Self::PostCreate { .. } | Self::RecordId { .. } => true,
            Self::WriteIntent { .. }
            | Self::Adopt { .. }
            | Self::RestoreMetadata
            | Self::Update { .. }
            | Self::PushCredentials { .. }
            | Self::Retry { .. }
            | Self::Test { .. }
            | Self::Delete { .. }
            | Self::RemoveFinalizer(_) => false,
        }
    }
}

// === impl Effect ===

impl Effect {
    /// Whether the state must know of its request before it is sent, because the answer may be lost.
    pub const fn is_prepared(self) -> bool {
        matches!(
            self,
            Self::WriteIntent
                | Self::WriteMetadata
                | Self::WriteId
                | Self::WriteAhead
                | Self::PostRetry
                | Self::DeleteChannel
                | Self::RemoveFinalizer
        )
    }

    /// Whether it ends without waiting, so that nothing can happen between it and the effect after it.
    pub const fn is_immediate(self) -> bool {
        matches!(self, Self::CheckSchema | Self::Fence | Self::PermitCreate | Self::ReserveId)
    }
}

// === impl Cursor ===

impl Cursor {
    pub const fn new(step: &Step) -> Self {
        Self::of(step.effects())
    }

    /// Of an order that need not be that of a step.
    pub const fn of(effects: &'static [Effect]) -> Self {
        Self { effects, at: 0, then: None }
    }

    /// The effect at this position; `None` after the last one.
    pub fn effect(&self) -> Option<Effect> {
        self.then.or_else(|| self.effects.get(self.at).copied())
    }

    /// Moves to what follows, within the step. `false`: the step ends.
    pub fn advance(&mut self, next: Next) -> bool {
        match next {
            Next::Effect => {
                self.at = if self.then.take().is_some() { self.effects.len() } else { self.at + 1 };
                self.effect().is_some()
            }
            Next::Then(effect) => {
                self.then = Some(effect);
                true
            }
            Next::Repeat => {
                let before = self.at.checked_sub(1);
                if before.is_some_and(|before| self.effects.get(before) == Some(&Effect::Fence)) {
                    self.at -= 1;
                }
                true
            }
            Next::Plan | Next::PlanAfterBackoff | Next::Requeue | Next::Finished => false,
        }
    }
}

// === impl EffectError ===

impl From<CallError> for EffectError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Failure> for EffectError {
    fn from(failure: Failure) -> Self {
        Self::NotSent(failure)
    }
}
