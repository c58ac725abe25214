//! The closed sets of words in specs, statuses and answers. Decoding is lenient: the API server, an older operator or
//! oHallo may hold a word that this version does not know. Each set defines what an unknown word means.

use std::str::FromStr;

use strum::{EnumString, IntoStaticStr, VariantArray};

pub use crate::api::channel::RecordedOutcome;
use crate::api::channel::{ChannelSpec, ChannelStatus, CreateStatus, TestStatus};

/// `spec.channelType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum ChannelType {
    Email,
    Chat,
    Whatsapp,
    Voice,
}

/// `spec.managementPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum ManagementPolicy {
    Manage,
    Observe,
}

/// `spec.deletionPolicy` and `status.deletionPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum DeletionPolicy {
    Delete,
    Retain,
}

/// `spec.driftPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum DriftPolicy {
    Correct,
    Report,
}

/// `spec.connectivityTest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum ConnectivityTest {
    OnRequest,
    OnChange,
}

/// `status.origin`: how the object got its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Origin {
    Created,
    Adopted,
}

/// `status.test.result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum TestResult {
    Passed,
    Failed,
    Unknown,
}

/// The state of a channel in oHallo, `status.state`. [Undocumented words](RemoteState::of) are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteState<'a> {
    Active,
    Provisioning,
    PendingDns,
    Error,
    Other(&'a str),
}

/// The result of a reconcile, for logs, traces and the metric label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReconcileResult {
    InSync,
    /// oHallo has not finished, or a read may be older than a write.
    Waiting,
    /// A step was executed, and another follows.
    Progressing,
    Suspended,
    /// An input, such as a Secret, is missing.
    InputMissing,
    /// Something blocks the deletion, or oHallo rejected the call.
    Blocked,
    /// oHallo set the time of the next call (`Retry-After`).
    RateLimited,
    Transient,
    Stalled,
    /// The rate limit or the concurrency of the API key allowed no call.
    Deferred,
    /// A create of an earlier reconcile is still in flight.
    InFlight,
    /// The object no longer has the operator's finalizer.
    Gone,
    /// The status write failed with a conflict.
    Conflict,
    /// The API server did not store the status.
    Unwritten,
}

macro_rules! words {
    ($($set:ty),+) => {$(
        impl $set {
            /// The word as users see it.
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }
    )+};
}

words!(
    ChannelType,
    ManagementPolicy,
    DeletionPolicy,
    DriftPolicy,
    ConnectivityTest,
    Origin,
    RecordedOutcome,
    TestResult,
    ReconcileResult
);

/// `None` for an absent and for an unknown word.
fn parse<T: FromStr>(word: Option<&str>) -> Option<T> {
    word.and_then(|word| word.parse().ok())
}

// === impl RemoteState ===

impl<'a> RemoteState<'a> {
    pub fn of(word: Option<&'a str>) -> Self {
        match word.unwrap_or_default() {
            "active" => Self::Active,
            "provisioning" => Self::Provisioning,
            "pending_dns" => Self::PendingDns,
            "error" => Self::Error,
            other => Self::Other(other),
        }
    }
}

// === impl ChannelSpec ===

impl ChannelSpec {
    /// `None` where it is absent or unknown.
    pub fn channel_type(&self) -> Option<ChannelType> {
        parse(self.channel_type.as_deref())
    }

    /// Absent or unknown: `Manage`, the default of the schema.
    pub fn management_policy(&self) -> ManagementPolicy {
        parse(self.management_policy.as_deref()).unwrap_or(ManagementPolicy::Manage)
    }

    pub fn is_observe(&self) -> bool {
        self.management_policy() == ManagementPolicy::Observe
    }

    /// `None` where the origin decides. Unknown: `Retain`, which deletes nothing.
    pub fn deletion_policy(&self) -> Option<DeletionPolicy> {
        let word = self.deletion_policy.as_deref()?;
        Some(word.parse().unwrap_or(DeletionPolicy::Retain))
    }

    /// Absent or unknown: `Correct`, the default of the schema.
    pub fn drift_policy(&self) -> DriftPolicy {
        parse(self.drift_policy.as_deref()).unwrap_or(DriftPolicy::Correct)
    }

    /// Absent or unknown: `OnRequest`, which sends nothing.
    pub fn connectivity_test(&self) -> ConnectivityTest {
        parse(self.connectivity_test.as_deref()).unwrap_or(ConnectivityTest::OnRequest)
    }
}

// === impl ChannelStatus ===

impl ChannelStatus {
    /// `None` where it is absent or unknown.
    pub fn origin(&self) -> Option<Origin> {
        parse(self.origin.as_deref())
    }

    /// `None` where it is absent or unknown.
    pub fn deletion_policy(&self) -> Option<DeletionPolicy> {
        parse(self.deletion_policy.as_deref())
    }

    pub fn state(&self) -> RemoteState<'_> {
        RemoteState::of(self.state.as_deref())
    }
}

// === impl RecordedOutcome ===

impl RecordedOutcome {
    /// Whether the attempt certainly created no channel.
    pub fn created_nothing(self) -> bool {
        match self {
            Self::Rejected | Self::NotSent => true,
            Self::Unknown => false,
        }
    }
}

// === impl CreateStatus ===

impl CreateStatus {
    /// `None` for an unknown word.
    pub fn outcome(&self) -> Option<RecordedOutcome> {
        parse(Some(&self.outcome))
    }
}

// === impl TestResult ===

impl TestResult {
    /// The value of the metric label `result`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

// === impl TestStatus ===

impl TestStatus {
    /// `None` before the test has a result. An unknown word: `Unknown`.
    pub fn result(&self) -> Option<TestResult> {
        let word = self.result.as_deref()?;
        Some(word.parse().unwrap_or(TestResult::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_decoded_as_it_is_written_and_an_unknown_one_to_the_safe_value() {
        let spec = |word: &str| ChannelSpec {
            channel_type: Some(word.into()),
            management_policy: Some(word.into()),
            deletion_policy: Some(word.into()),
            drift_policy: Some(word.into()),
            connectivity_test: Some(word.into()),
            ..ChannelSpec::default()
        };
        for kind in ChannelType::VARIANTS {
            assert_eq!(spec(kind.as_str()).channel_type(), Some(*kind));
        }
        assert!(spec("Observe").is_observe() && !spec("Manage").is_observe());
        for policy in DeletionPolicy::VARIANTS {
            assert_eq!(spec(policy.as_str()).deletion_policy(), Some(*policy));
        }
        assert_eq!(spec("Report").drift_policy(), DriftPolicy::Report);
        assert_eq!(spec("OnChange").connectivity_test(), ConnectivityTest::OnChange);
        for unknown in ["", "x", "delete", "Created"] {
            let spec = spec(unknown);
            assert_eq!(spec.channel_type(), None);
            assert_eq!(spec.management_policy(), ManagementPolicy::Manage);
            assert_eq!(spec.deletion_policy(), Some(DeletionPolicy::Retain));
            assert_eq!(spec.drift_policy(), DriftPolicy::Correct);
            assert_eq!(spec.connectivity_test(), ConnectivityTest::OnRequest);
        }
        assert_eq!(ChannelSpec::default().deletion_policy(), None);
    }

    #[test]
    fn the_words_of_a_status_are_decoded_as_they_are_written() {
        for origin in Origin::VARIANTS {
            let status = ChannelStatus { origin: Some(origin.as_str().into()), ..ChannelStatus::default() };
            assert_eq!(status.origin(), Some(*origin));
        }
        for outcome in RecordedOutcome::VARIANTS {
            let create = CreateStatus { outcome: outcome.as_str().into(), ..CreateStatus::default() };
            assert_eq!(create.outcome(), Some(*outcome));
        }
        for (word, result) in
            [(None, None), (Some("Passed"), Some(TestResult::Passed)), (Some("?"), Some(TestResult::Unknown))]
        {
            let test = TestStatus { result: word.map(Into::into), ..TestStatus::default() };
            assert_eq!(test.result(), result);
        }
        for (word, state) in [
            ("active", RemoteState::Active),
            ("provisioning", RemoteState::Provisioning),
            ("pending_dns", RemoteState::PendingDns),
            ("error", RemoteState::Error),
            ("Active", RemoteState::Other("Active")),
        ] {
            assert_eq!(RemoteState::of(Some(word)), state);
        }
        assert_eq!(RemoteState::of(None), RemoteState::Other(""));
    }

    #[test]
    fn results_are_the_documented_label_values() {
        let words: Vec<_> = ReconcileResult::VARIANTS.iter().map(|result| result.as_str()).collect();
        let expected = [
            "in_sync",
            "waiting",
            "progressing",
            "suspended",
            "input_missing",
            "blocked",
            "rate_limited",
            "transient",
            "stalled",
            "deferred",
            "in_flight",
            "gone",
            "conflict",
            "unwritten",
        ];
        assert_eq!(words, expected);
    }
}
