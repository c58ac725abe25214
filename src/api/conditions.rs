// pure
//! Names of conditions and reasons. What each means and when it is set: the README's table and `status.rs`.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    // Ready is True
    Available,
    Disabled,
    Observed,
    // Ready is False: oHallo is busy, or said so
    Provisioning,
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
    CreateUnsupported,
    CreateOutcomeUnknown,
    ChannelNotFound,
    IdentityMismatch,
    OwnershipConflict,
    NotConverging,
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
    // of a Workspace
    Verified,
    Unverified,
}

// === impl Reason ===

impl Reason {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Disabled => "Disabled",
            Self::Observed => "Observed",
            Self::Provisioning => "Provisioning",
            Self::WaitingForDns => "WaitingForDNS",
            Self::UnknownState => "UnknownState",
            Self::ProvisioningFailed => "ProvisioningFailed",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretKeyMissing => "SecretKeyMissing",
            Self::WorkspaceNotFound => "WorkspaceNotFound",
            Self::WorkspaceNotReady => "WorkspaceNotReady",
            Self::SecretInvalid => "SecretInvalid",
            Self::WorkspaceNotAllowed => "WorkspaceNotAllowed",
            Self::PermissionDenied => "PermissionDenied",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::ValidationFailed => "ValidationFailed",
            Self::CreateUnsupported => "CreateUnsupported",
            Self::CreateOutcomeUnknown => "CreateOutcomeUnknown",
            Self::ChannelNotFound => "ChannelNotFound",
            Self::IdentityMismatch => "IdentityMismatch",
            Self::OwnershipConflict => "OwnershipConflict",
            Self::NotConverging => "NotConverging",
            Self::NotCreated => "NotCreated",
            Self::Progressing => "Progressing",
            Self::ApiUnavailable => "ApiUnavailable",
            Self::RateLimited => "RateLimited",
            Self::UnexpectedResponse => "UnexpectedResponse",
            Self::InternalError => "InternalError",
            Self::Applied => "Applied",
            Self::PushFailed => "PushFailed",
            Self::TestPassed => "TestPassed",
            Self::TestFailed => "TestFailed",
            Self::TestOutcomeUnknown => "TestOutcomeUnknown",
            Self::DriftDetected => "DriftDetected",
            Self::Suspended => "Suspended",
            Self::WorkspaceSuspended => "WorkspaceSuspended",
            Self::KeyUnavailable => "KeyUnavailable",
            Self::AbsenceNotProven => "AbsenceNotProven",
            Self::Verified => "Verified",
            Self::Unverified => "Unverified",
        }
    }
}
