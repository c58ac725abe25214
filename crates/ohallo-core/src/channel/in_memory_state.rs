//! What this process remembers of one Channel between reconciles. All of it can be lost: what must not be lost is in
//! the object (the intent, the id, the counts).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::channel::{AppliedStatus, Channel, ChannelStatus};
use crate::api::conditions::kind;
use crate::api::same_id;
use crate::channel::binding;
use crate::channel::persisted::{PersistedField, RecordedBinding};
use crate::channel::triggers::Triggers;
use crate::conditions;
use crate::cooldown::Cooldown;
use crate::lease::election::Epoch;
use crate::remote::RemoteChannel;
use crate::secret::ContentDigest;

/// How long a request whose response was lost may still take effect. Values that can't be read back are sent again after it.
pub const CACHE_LAG: Duration = Duration::from_secs(60);

/// The minimum interval between the two proven 404s that show that a channel is deleted.
pub const ABSENCE_INTERVAL: Duration = Duration::from_secs(30);

/// After this number of reverts of one field the operator stops updating.
pub const MAX_REVERTS_OF_A_FIELD: usize = 3;

/// The minimum time within which reverts are counted together.
pub const REVERT_HORIZON: Duration = Duration::from_secs(3600);

/// The maximum number of remembered reverts of one Channel.
const MAX_REVERTS: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct InMemoryState {
    /// The epoch in which this state was recorded.
    pub epoch: Option<Epoch>,
    pub cooldown: Option<Cooldown<Triggers>>,
    /// Transient failures in a row.
    pub failures: u32,
    /// Tokens that the next reconcile starts with, because the last one ended without enough.
    pub tokens: u32,
    /// Since when it waits for the first check of its API key.
    pub awaits_key_since: Option<Instant>,
    /// Since when the operator waits for oHallo.
    pub waiting_since: Option<Instant>,
    /// The newest version of the object that this process wrote, and when.
    pub written: Option<(u64, Instant)>,
    pub attempt: Option<CreateAttempt>,
    /// What the answered create had sent: the manifest may be newer when the id is written to the status.
    pub last_create_body: Option<AppliedStatus>,
    /// This process bound the channel: no earlier one can have a request in flight.
    pub bound_by_this_process: bool,
    pub last_push_digest: Option<ContentDigest>,
    /// When credentials, and enabled, are sent again.
    pub resend_credentials_at: Option<Instant>,
    pub resend_enabled_at: Option<Instant>,
    /// The digest of the values that were last sent.
    pub last_update_digest: Option<String>,
    /// How often oHallo reverted them.
    pub reverts: Reverts,
    /// [`crate::channel::config::paths`] of the last settled reconcile.
    pub paths: Option<Box<str>>,
    /// The DELETE succeeded.
    pub deleted: bool,
    /// A status that binds the object was sent and its response was lost: the reservation of the id must remain.
    pub binding_unsure: bool,
    /// The binding as the API server last showed it to this process.
    pub binding: Option<Box<RecordedBinding>>,
    /// The status that was last sent, where the API server did not store all of it.
    pub unstored: Option<Box<ChannelStatus>>,
    /// The fields last reported as not stored: a change is logged, not every retry.
    pub lost: Vec<PersistedField>,
    /// The end of the deletion was reported; later reconciles of a cached object don't report it again.
    pub deletion_reported: bool,
    /// A reconcile of this epoch began with the finalizer present: only this process may remove it.
    pub protected: bool,
    /// The removal of the finalizer was sent, and not rejected.
    pub removes_finalizer: bool,
    /// When a DELETE was sent whose response was lost: it may still take effect.
    pub delete_unsure: Option<Instant>,
    /// The deletion waits for a claim of another Channel.
    pub wait: Option<Wait>,
    /// Since when the deletion waits for Channels of other namespaces to prove their right to the id.
    pub claims_checked_at: Option<Instant>,
    /// The channel's absence, proven once.
    pub absence: Option<Absence>,
    /// Stale reads in a row.
    pub stale_reads: u32,
    /// This process added the finalizer with a guarded patch: no earlier process had bound the object.
    pub finalizer_set_by_this_process: bool,
    /// When this process first saw the object, its manifest was newer than its status; no update was sent since.
    pub doubted: bool,
    /// A change that `connectivityTest: OnChange` tests was applied.
    pub test_due: bool,
    /// When the channel was last read, or this process started to reconcile it.
    pub last_read_at: Option<Instant>,
    /// This process has reconciled the object.
    pub reconciled_once: bool,
    /// This process has known the object since its creation, and it was never Ready.
    pub awaiting_first_ready: bool,
}

/// What this process remembers of a wait for claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    pub began: Instant,
    /// One of the claims was of the same namespace.
    pub beside: bool,
    /// Since when no Channel of the same namespace claims the id.
    pub beside_free: Option<Instant>,
    /// Since when no Channel claims the id.
    pub free: Option<Instant>,
    /// The Warning event is published.
    pub warned: bool,
}

/// A 404 outside every consistency window, with proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The canonical form of the id.
    pub id: String,
    /// The 404 answered a DELETE; only such a one counts for the finalizer removal.
    pub to_delete: bool,
    pub since: Instant,
}

/// Reads that had other values than the last write, each after the consistency window of that write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverts {
    /// The hash of a field's path, and the time of the revert.
    seen: Vec<(u64, Instant)>,
    /// The last write was read back since.
    read: bool,
    /// One field was reverted [`MAX_REVERTS_OF_A_FIELD`] times. It ends when oHallo has the declared values, or the manifest changes.
    pub contested: bool,
}

/// The last create attempt of this process.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateAttempt {
    pub number: i64,
    pub outcome: AttemptOutcome,
    /// Its `create-intent` annotation, and the one that it replaced.
    pub intent: Option<String>,
    pub after: Option<String>,
    /// The API server stored the intent, and this process has been the leader ever since: no other process made a later attempt.
    pub last: bool,
    /// Counts the id in the metric while no status holds it.
    pub unrecorded: Option<UnrecordedGuard>,
}

/// Held while no status has the id of an answered create. The operator's gauge counts it; dropping the last clone
/// decrements the gauge.
#[derive(Clone)]
pub struct UnrecordedGuard(#[expect(dead_code, reason = "kept for its Drop")] Arc<dyn Any + Send + Sync>);

#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome {
    InFlight,
    Answered(Box<RemoteChannel>),
    Rejected,
    NotSent,
    Unknown,
}

// === impl UnrecordedGuard ===

impl UnrecordedGuard {
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Arc::new(guard))
    }
}

impl fmt::Debug for UnrecordedGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnrecordedGuard")
    }
}

impl PartialEq for UnrecordedGuard {
    /// Guards have no value to compare.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

// === impl CreateAttempt ===

impl CreateAttempt {
    pub fn new(number: i64, outcome: AttemptOutcome) -> Self {
        Self { number, outcome, intent: None, after: None, last: false, unrecorded: None }
    }

    /// The input for the create protocol's table.
    pub fn remembered(&self) -> binding::Remembered<'_> {
        binding::Remembered {
            attempt: self.number,
            outcome: match &self.outcome {
                AttemptOutcome::InFlight => binding::CreateOutcome::InFlight,
                AttemptOutcome::Answered(remote) => binding::CreateOutcome::Answered(remote.id.as_str()),
                AttemptOutcome::Rejected => binding::CreateOutcome::Rejected,
                AttemptOutcome::NotSent => binding::CreateOutcome::NotSent,
                AttemptOutcome::Unknown => binding::CreateOutcome::Unknown,
            },
            intent: self.intent.as_deref(),
            after: self.after.as_deref(),
            last: self.last,
        }
    }
}

// === impl AttemptOutcome ===

impl AttemptOutcome {
    /// The channel that the create returned.
    pub fn answered(&self) -> Option<&RemoteChannel> {
        match self {
            Self::Answered(remote) => Some(remote),
            Self::InFlight | Self::Rejected | Self::NotSent | Self::Unknown => None,
        }
    }
}

// === impl InMemoryState ===

impl InMemoryState {
    /// Drops what another leader may have changed since. The result of a create of this process remains valid.
    pub fn enter(&mut self, epoch: Epoch) {
        if self.epoch == Some(epoch) {
            return;
        }
        let unrecorded = self.unrecorded_id().is_some();
        *self = Self {
            epoch: Some(epoch),
            lost: if unrecorded { std::mem::take(&mut self.lost) } else { Vec::new() },
            written: self.written,
            attempt: self.attempt.take().map(|own| CreateAttempt { last: false, ..own }),
            last_create_body: self.last_create_body.take(),
            binding_unsure: self.binding_unsure,
            delete_unsure: self.delete_unsure,
            binding: self.binding.take(),
            deletion_reported: self.deletion_reported,
            removes_finalizer: self.removes_finalizer,
            ..Self::default()
        };
    }

    /// The state after a reconcile. A create that an earlier reconcile left in flight records its own result.
    pub fn succeeded_by(&self, pass: &Self, owns_attempt: bool) -> Self {
        let attempt = if owns_attempt { &pass.attempt } else { &self.attempt };
        Self { attempt: attempt.clone(), ..pass.clone() }
    }

    /// Whether this version is older than what this process has just written: the watch cache lags. After [`CACHE_LAG`]
    /// the version is trusted: an API server that was restored from a backup continues from an older version.
    pub fn outran(&self, version: Option<u64>, now: Instant) -> bool {
        self.written.is_some_and(|(written, at)| {
            Some(written) > version && now.saturating_duration_since(at) < CACHE_LAG
        })
    }

    /// Records the object as a reconcile finds it: one without conditions and finalizer has just been created.
    pub fn note_object(&mut self, channel: &Channel) {
        let conditions = channel.status.as_ref().map_or(0, |status| status.conditions.len());
        self.awaiting_first_ready |= conditions == 0 && !channel.has_finalizer();
    }

    /// Records the binding of the object.
    pub fn note_binding(&mut self, channel: &Channel) {
        let Some(status) = &channel.status else { return };
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = status.bound_to(uid) else { return };
        if self.binding.as_ref().is_none_or(|known| known.channel_id != id) {
            self.binding = RecordedBinding::of(status, uid).map(Box::new);
        }
    }

    /// Records a read of the object: its binding, and the end of an attempt whose id it shows.
    pub fn note_read(&mut self, channel: &Channel) {
        self.note_binding(channel);
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = channel.status.as_ref().and_then(|status| status.bound_to(uid)) else { return };
        let shows = |remote: &RemoteChannel| same_id(remote.id.as_str(), id);
        self.attempt.take_if(|own| own.outcome.answered().is_some_and(shows));
    }

    /// The id of an answered create that no status holds.
    pub fn unrecorded_id(&self) -> Option<&str> {
        let own = self.attempt.as_ref().filter(|own| own.unrecorded.is_some())?;
        own.outcome.answered().map(|remote| remote.id.as_str())
    }

    /// Whether a status makes the object Ready for the first time; true once.
    pub fn first_ready(&mut self, status: &ChannelStatus) -> bool {
        self.awaiting_first_ready
            && conditions::is_true(&status.conditions, kind::READY)
            && std::mem::take(&mut self.awaiting_first_ready)
    }

    /// Records a read after the consistency window of the last write: the paths whose values differ from the declared ones.
    /// `digest` is of the declared values; reverts within `horizon` count together.
    pub fn note_differences<'a>(
        &mut self,
        differs: impl Iterator<Item = &'a str>,
        digest: &str,
        now: Instant,
        horizon: Duration,
    ) {
        if self.last_update_digest.as_deref() == Some(digest) {
            self.reverts.note(differs.map(hash).collect(), now, horizon);
        } else {
            self.reverts = Reverts::default();
        }
    }

    /// Records an answered write of `displayName` and `config`.
    pub fn note_update(&mut self, digest: String) {
        if self.last_update_digest.as_deref() != Some(&digest) {
            self.reverts = Reverts::default();
        }
        self.last_update_digest = Some(digest);
        self.reverts.read = false;
        self.doubted = false;
    }
}

// === impl Reverts ===

impl Reverts {
    fn note(&mut self, fields: Vec<u64>, now: Instant, horizon: Duration) {
        if fields.is_empty() {
            self.contested = false;
        }
        // Only the first read after a write counts.
        if std::mem::replace(&mut self.read, true) || self.contested || fields.is_empty() {
            return;
        }
        self.seen.retain(|(_, at)| now.saturating_duration_since(*at) <= horizon);
        self.seen.extend(fields.iter().take(MAX_REVERTS / MAX_REVERTS_OF_A_FIELD).map(|field| (*field, now)));
        let excess = self.seen.len().saturating_sub(MAX_REVERTS);
        self.seen.drain(..excess);
        let count = |field: &u64| self.seen.iter().filter(|(seen, _)| seen == field).count();
        self.contested = fields.iter().any(|field| count(field) >= MAX_REVERTS_OF_A_FIELD);
        if self.contested {
            self.seen.clear();
        }
    }
}

fn hash(path: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::finalizer;
    use crate::test_clock as clock;

    #[test]
    fn a_new_epoch_keeps_the_result_of_a_create_and_nothing_that_another_leader_may_have_changed() {
        let epoch = |term| Epoch { term, transitions: 7 };
        let attempt = Some(CreateAttempt { last: true, ..CreateAttempt::new(2, AttemptOutcome::NotSent) });
        let written = Some((7, clock::instant()));
        let posted = Some(AppliedStatus { enabled: Some(true), digest: None });
        let channel_id = "c1".to_owned();
        let binding = Some(Box::new(RecordedBinding { channel_id, workspace_id: None, origin: None }));
        let mut memory = InMemoryState {
            epoch: Some(epoch(1)),
            written,
            attempt: attempt.clone(),
            last_create_body: posted.clone(),
            binding_unsure: true,
            delete_unsure: written.map(|(_, at)| at),
            binding: binding.clone(),
            deleted: true,
            failures: 3,
            deletion_reported: true,
            removes_finalizer: true,
            protected: true,
            ..InMemoryState::default()
        };
        memory.enter(epoch(1));
        assert!(memory.deleted && memory.failures == 3);
        memory.enter(epoch(2));
        let kept = attempt.map(|own| CreateAttempt { last: false, ..own });
        assert_eq!((memory.deleted, memory.failures, &memory.attempt), (false, 0, &kept));
        assert_eq!(
            (memory.epoch, memory.written, memory.last_create_body),
            (Some(epoch(2)), written, posted)
        );
        assert!(memory.binding_unsure && memory.delete_unsure.is_some(), "its reservations are still there");
        assert_eq!(memory.binding, binding, "an id that was bound stays known");
        assert!(
            memory.deletion_reported && memory.removes_finalizer && !memory.protected,
            "its end is not reported again"
        );
    }

    #[test]
    fn a_reconcile_records_its_observations_and_of_a_create_only_its_own() {
        let attempt = |number| Some(CreateAttempt::new(number, AttemptOutcome::Unknown));
        let before = InMemoryState { attempt: attempt(1), failures: 1, ..InMemoryState::default() };
        let pass = InMemoryState { attempt: attempt(2), failures: 2, ..InMemoryState::default() };
        for (owns, expected) in [(true, attempt(2)), (false, attempt(1))] {
            let after = before.succeeded_by(&pass, owns);
            assert_eq!((after.failures, after.attempt), (2, expected), "{owns}");
        }
    }

    #[test]
    fn the_first_ready_of_an_object_that_was_known_from_its_beginning_counts_once() {
        let made = |finalizers: &[&str], status: serde_json::Value| -> Channel {
            let spec = serde_json::json!({"channelType": "chat"});
            let metadata = serde_json::json!({"name": "a", "finalizers": finalizers});
            let (api, kind) = ("ohallo.eu/v1alpha1", "Channel");
            let object = serde_json::json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec, "status": status});
            serde_json::from_value(object).unwrap()
        };
        let ready = |status: &str| {
            let at = "2026-01-10T08:00:00Z";
            serde_json::json!({"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "", "lastTransitionTime": at}]})
        };
        let none = serde_json::Value::Null;
        for (what, met, counts) in [
            ("just created", made(&[], none.clone()), true),
            ("with the finalizer of another", made(&["other"], none.clone()), true),
            ("worked on by an earlier process", made(&[finalizer::CHANNEL], none), false),
            ("reconciled by an earlier process", made(&[], ready("Unknown")), false),
        ] {
            let mut memory = InMemoryState::default();
            memory.note_object(&met);
            let [not_yet, at_last] =
                ["False", "True"].map(|word| made(&[], ready(word)).status.unwrap_or_default());
            assert!(!memory.first_ready(&not_yet), "{what}");
            memory.note_object(&made(&[finalizer::CHANNEL], ready("False")));
            assert_eq!(
                (memory.first_ready(&at_last), memory.first_ready(&at_last)),
                (counts, false),
                "{what}"
            );
        }
    }

    #[test]
    fn an_older_version_than_was_written_is_passed_over_for_a_minute_and_no_longer() {
        let now = clock::instant();
        let memory = InMemoryState { written: Some((7, now)), ..InMemoryState::default() };
        for (version, later, outran) in [
            (Some(6), 0, true),
            (None, 0, true),
            (Some(7), 0, false),
            (Some(8), 0, false),
            (Some(6), 59, true),
            (Some(6), 60, false),
        ] {
            let later = now + Duration::from_secs(later);
            assert_eq!(memory.outran(version, later), outran, "{version:?}");
        }
        assert!(!InMemoryState::default().outran(Some(1), now));
    }

    #[test]
    fn a_status_that_shows_the_answered_id_ends_its_attempt_and_no_other() {
        let remote = crate::channel::fixtures::Sample::bound().remote().clone();
        for (shown, ends) in [("c1", true), ("c2", false)] {
            let mut sample = crate::channel::fixtures::Sample::bound();
            sample.status.channel_id = Some(shown.into());
            sample.channel.status = Some(sample.status.clone());
            let answered = AttemptOutcome::Answered(Box::new(remote.clone()));
            let mut memory =
                InMemoryState { attempt: Some(CreateAttempt::new(1, answered)), ..InMemoryState::default() };
            memory.note_read(&sample.channel);
            assert_eq!(memory.attempt.is_none(), ends, "{shown}");
        }
    }
}
