//! Names of conditions and reasons. What each means and when it is set: the README's table,
//! docs/troubleshooting.md and `status.rs`.

use strum::{IntoStaticStr, VariantArray};

/// Condition types.
pub mod kind {
    pub const READY: &str = "Ready";
    pub const RECONCILING: &str = "Reconciling";
    pub const STALLED: &str = "Stalled";
    pub const CREDENTIALS_APPLIED: &str = "CredentialsApplied";
    pub const CONNECTED: &str = "Connected";
    pub const DRIFTED: &str = "Drifted";
    pub const SUSPENDED: &str = "Suspended";
    pub const DELETION_BLOCKED: &str = "DeletionBlocked";
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
pub enum Reason {
    // Ready is True
    Available,
    Disabled,
    Observed,
    // Ready is False: oHallo is busy, or said so
    Provisioning,
    #[strum(serialize = "WaitingForDNS")]
    WaitingForDns,
    UnknownState,
    ProvisioningFailed,
    // inputs that are not there yet
    SecretNotFound,
    SecretKeyMissing,
    WorkspaceNotFound,
    WorkspaceNotReady,
    // somebody has to change something
    SecretInvalid,
    WorkspaceNotAllowed,
    PermissionDenied,
    AuthenticationFailed,
    ValidationFailed,
    Rejected,
    CreateUnsupported,
    CreateOutcomeUnknown,
    ChannelNotFound,
    IdentityMismatch,
    OwnershipConflict,
    NotConverging,
    StatusNotStored,
    // Ready is Unknown
    NotCreated,
    Progressing,
    ApiUnavailable,
    RateLimited,
    UnexpectedResponse,
    InternalError,
    // other conditions
    Applied,
    PushFailed,
    TestPassed,
    TestFailed,
    TestOutcomeUnknown,
    DriftDetected,
    Suspended,
    WorkspaceSuspended,
    KeyUnavailable,
    AbsenceNotProven,
    ClaimedByAnother,
    // of a Workspace
    Verified,
    Unverified,
}

// === impl Reason ===

impl Reason {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
