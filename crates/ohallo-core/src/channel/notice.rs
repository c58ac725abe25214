//! What a reconcile learns that concerns more than its own object: other objects, the API key, logs and metrics.

use std::time::{Duration, Instant};

use strum::IntoStaticStr;

use crate::api::values::TestResult;
use crate::channel::model::DeletionOutcome;
use crate::channel::persisted::PersistedField;
use crate::remote::Id;

/// The operator publishes each notice right after the answer that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A create of this object is in flight, or no longer: meanwhile the Workspace keeps its finalizer.
    CreateInFlight(bool),
    /// A create returned this id: it is reserved for this object.
    Created(Id),
    /// The object's reservation of its id ends.
    ReleaseId,
    /// oHallo rejected the API key: the Workspace checks it.
    KeyRejected,
    /// The API key can see the channels of its workspace.
    KeyReads,
    /// oHallo creates channels in this workspace.
    CreateSupported,
    /// oHallo rejected a create in this workspace as unsupported.
    CreateUnsupported(Instant),
    /// oHallo does not list channels in this workspace.
    ListUnsupported,
    /// The API server accepted a write and did not store these fields. `id`: of the channel, where its binding is lost.
    NotStored {
        lost: Vec<PersistedField>,
        is_new: bool,
        id: Option<String>,
    },
    /// The status lost the id of the channel; the operator writes it again.
    IdLost(String),
    /// A create returned another channel than the manifest now names.
    ConflictingIds {
        answered: Id,
        declared: String,
    },
    /// The object disappeared before its status held this id.
    Orphaned(String),
    /// The deletion has just begun to wait for claims of other Channels.
    WaitsForClaims,
    FinalizerRemoved {
        id: String,
        outcome: DeletionOutcome,
    },
    /// oHallo had another value at this path.
    Drift(String),
    CredentialsSent(CallResult),
    RetrySent(CallResult),
    TestSent(TestResult),
    /// The object is Ready for the first time, this long after its creation.
    FirstReady(Duration),
}

/// How a call ended, as metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum CallResult {
    Success,
    Error,
    /// The answer was lost, or may be older than a write.
    Unknown,
}

// === impl CallResult ===

impl CallResult {
    pub const ALL: [Self; 3] = [Self::Success, Self::Error, Self::Unknown];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
