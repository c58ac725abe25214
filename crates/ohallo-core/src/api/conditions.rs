//! Names of conditions and reasons. docs/troubleshooting.md documents each; `status.rs` sets them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use strum::{EnumString, IntoStaticStr, VariantArray};

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

/// The reason of a condition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
pub enum Reason {
    // Ready is True
    Available,
    Disabled,
    Observed,
    // Ready is False: oHallo has not finished, or reports a failure
    Provisioning,
    #[strum(serialize = "WaitingForDNS")]
    WaitingForDns,
    UnknownState,
    ProvisioningFailed,
    // inputs that are missing
    SecretNotFound,
    SecretKeyMissing,
    WorkspaceNotFound,
    WorkspaceNotReady,
    // a user has to act
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
    /// `None` for a reason of another version.
    pub fn of(condition: &Condition) -> Option<Self> {
        condition.reason.parse().ok()
    }

    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
