//! What this process remembers of one Channel between passes. All of it may be lost: what must not be is in the
//! object (the intent, the id, the counts).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::api::channel::{AppliedStatus, Channel, ChannelStatus};
use crate::api::conditions::kind;
use crate::api::{finalizer, same_id};
use crate::channel::binding;
use crate::channel::persisted::{PersistedField, RecordedBinding};
use crate::channel::triggers::Triggers;
use crate::conditions;
use crate::cooldown::Cooldown;
use crate::lease::election::Epoch;
use crate::remote::RemoteChannel;
use crate::secret::ContentDigest;

/// How long a request whose answer was lost could still land late: what can't be read back is sent again after it.
pub const CACHE_LAG: Duration = Duration::from_secs(60);

/// Two reads this far apart, each with proof, show that a channel is absent.
pub const ABSENCE_INTERVAL: Duration = Duration::from_secs(30);

/// So many reverts of one field, and the operator only reads.
pub const MAX_REVERTS_OF_A_FIELD: usize = 3;

/// The shortest time within which reverts are counted together.
pub const REVERT_HORIZON: Duration = Duration::from_secs(3600);

/// How many reverts are remembered of one Channel.
const MAX_REVERTS: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct InMemoryState {
    /// In which it was learnt.
    pub epoch: Option<Epoch>,
    pub cooldown: Option<Cooldown<Triggers>>,
    /// Transient failures in a row.
    pub failures: u32,
    /// Tokens that the next reconcile starts with: the last one ended for want of one.
    pub tokens: u32,
    /// Since when oHallo has been busy with it.
    pub waiting_since: Option<Instant>,
    /// The newest version of the object that this process wrote, and when.
    pub written: Option<(u64, Instant)>,
    pub attempt: Option<CreateAttempt>,
    /// What the create that was answered had sent: the manifest may be newer when its id is written down.
    pub last_create_body: Option<AppliedStatus>,
    /// This process bound the channel: no earlier one can have a request under way.
    pub bound_by_this_process: bool,
    pub last_push_digest: Option<ContentDigest>,
    /// When credentials, and enabled, are to be sent once more.
    pub resend_credentials_at: Option<Instant>,
    pub resend_enabled_at: Option<Instant>,
    /// The digest of the values that were last sent.
    pub last_update_digest: Option<String>,
    /// How often oHallo then had others.
    pub reverts: Reverts,
    /// [`crate::channel::config::paths`] of the last settled pass.
    pub paths: Option<Box<str>>,
    /// DELETE was answered ok.
    pub deleted: bool,
    /// A status that binds the object was sent, and its answer is not known: its reservation of the id must stay.
    pub binding_unsure: bool,
    /// The binding as the API server last showed it to this process.
    pub binding: Option<Box<RecordedBinding>>,
    /// The status that was last sent, where the API server did not keep all of it.
    pub unstored: Option<Box<ChannelStatus>>,
    /// What was last reported as not kept: a change of it is logged, not every retry.
    pub lost: Vec<PersistedField>,
    /// The end was told; a pass that still sees the object tells of it no more.
    pub deletion_reported: bool,
    /// A reconcile of this epoch began with the finalizer present: nobody but this process removes it rightly.
    pub protected: bool,
    /// The removal of the finalizer was sent, and not refused.
    pub removes_finalizer: bool,
    /// When a DELETE was sent whose answer is not known: it may still take effect.
    pub delete_unsure: Option<Instant>,
    /// The deletion waits for a claim of another Channel.
    pub wait: Option<Wait>,
    /// Since when it waits for Channels of other namespaces to show their right to the id.
    pub claims_checked_at: Option<Instant>,
    /// The channel's absence, proven once.
    pub absence: Option<Absence>,
    /// Stale reads in a row.
    pub stale_reads: u32,
    /// This process put the finalizer on, guarded: no earlier one had bound the object.
    pub finalizer_set_by_this_process: bool,
    /// When this process first saw it, the manifest was newer than the status; no update was sent since.
    pub doubted: bool,
    /// Something changed that `connectivityTest: OnChange` asks to test.
    pub test_due: bool,
    /// When oHallo last described the channel, or this process began to look after it.
    pub last_read_at: Option<Instant>,
    /// A pass of this process has looked at the object.
    pub reconciled_once: bool,
    /// This process has known the object since it was made, and not seen it Ready.
    pub awaiting_first_ready: bool,
}

/// What this process remembers of a wait for claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    pub began: Instant,
    /// A claim of the same namespace was among them.
    pub beside: bool,
    /// Since when no Channel of the same namespace claims the id.
    pub beside_free: Option<Instant>,
    /// Since when nobody claims the id.
    pub free: Option<Instant>,
    /// The Warning event is published.
    pub warned: bool,
}

/// A 404 outside every consistency window, with proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// In its canonical form.
    pub id: String,
    /// It was the answer to a DELETE: what a read found before counts for no finalizer.
    pub to_delete: bool,
    pub since: Instant,
}

/// Reads that had other values than the last write, each after the consistency window of that write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverts {
    /// The hash of a field's path, and when.
    seen: Vec<(u64, Instant)>,
    /// The last write was read since.
    read: bool,
    /// One field was reverted [`MAX_REVERTS_OF_A_FIELD`] times. It ends when oHallo has the declared values, or others are declared.
    pub contested: bool,
}

/// The last attempt to create that this process made.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateAttempt {
    pub number: i64,
    pub outcome: AttemptOutcome,
    /// Its `create-intent` annotation, and the one that it took the place of.
    pub intent: Option<String>,
    pub after: Option<String>,
    /// The intent is known to have stood, and this process has led ever since: nobody else made a later attempt.
    pub last: bool,
    /// Counts its id while no status holds it.
    pub unrecorded: Option<UnrecordedGuard>,
}

/// Kept while no status holds the id of an answered create. What it holds is dropped with the last clone: the
/// operator's gauge counts it.
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
    /// Guards carry no value.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

// === impl CreateAttempt ===

impl CreateAttempt {
    pub fn new(number: i64, outcome: AttemptOutcome) -> Self {
        Self { number, outcome, intent: None, after: None, last: false, unrecorded: None }
    }

    /// As the create protocol's table takes it.
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

// === impl InMemoryState ===

impl InMemoryState {
    /// Forgets what another leader may have made untrue since. What a create of this process came to stays true.
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

    /// What is known after a pass. A create that an earlier pass left under way tells of itself.
    pub fn succeeded_by(&self, pass: &Self, owns_attempt: bool) -> Self {
        let attempt = if owns_attempt { &pass.attempt } else { &self.attempt };
        Self { attempt: attempt.clone(), ..pass.clone() }
    }

    /// Whether this version is older than what this process has just written: the watch is yet to catch up. After a
    /// while it is believed: an API server that was restored from a backup counts from an older version.
    pub fn outran(&self, version: Option<u64>, now: Instant) -> bool {
        self.written.is_some_and(|(written, at)| {
            Some(written) > version && now.saturating_duration_since(at) < CACHE_LAG
        })
    }

    /// Notes the object as a pass finds it: one without any condition and finalizer has just been made.
    pub fn note_object(&mut self, channel: &Channel) {
        let conditions = channel.status.as_ref().map_or(0, |status| status.conditions.len());
        self.awaiting_first_ready |=
            conditions == 0 && !channel.finalizers().iter().any(|name| name == finalizer::CHANNEL);
    }

    /// Notes the binding of the object.
    pub fn note_binding(&mut self, channel: &Channel) {
        let Some(status) = &channel.status else { return };
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = status.bound_to(uid) else { return };
        if self.binding.as_ref().is_none_or(|known| known.channel_id != id) {
            self.binding = RecordedBinding::of(status, uid).map(Box::new);
        }
    }

    /// Notes an object as it was read: its binding, and the end of an attempt whose id it shows.
    pub fn note_read(&mut self, channel: &Channel) {
        self.note_binding(channel);
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = channel.status.as_ref().and_then(|status| status.bound_to(uid)) else { return };
        let answered = |own: &mut CreateAttempt| match &own.outcome {
            AttemptOutcome::Answered(remote) => same_id(remote.id.as_str(), id),
            _ => false,
        };
        self.attempt.take_if(answered);
    }

    /// The id of an answered create that no status holds.
    pub fn unrecorded_id(&self) -> Option<&str> {
        match &self.attempt {
            Some(CreateAttempt {
                outcome: AttemptOutcome::Answered(remote), unrecorded: Some(_), ..
            }) => Some(remote.id.as_str()),
            _ => None,
        }
    }

    /// Whether a status makes it Ready for the first time. It is so once.
    pub fn first_ready(&mut self, status: &ChannelStatus) -> bool {
        self.awaiting_first_ready
            && conditions::is_true(&status.conditions, kind::READY)
            && std::mem::take(&mut self.awaiting_first_ready)
    }

    /// Notes a read after the consistency window of the last write: the paths whose values are others than declared.
    /// `digest` is of what is declared now; reverts within `horizon` count together.
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

    /// Notes a write of `displayName` and `config` that was answered.
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
        // Of one write the first read counts.
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
    use crate::test_clock as clock;

    #[test]
    fn a_new_epoch_keeps_what_a_create_came_to_and_nothing_that_another_leader_may_have_changed() {
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
    fn a_pass_leaves_what_it_learnt_and_of_a_create_only_of_its_own() {
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
            ("just made", made(&[], none.clone()), true),
            ("with the finalizer of another", made(&["other"], none.clone()), true),
            ("worked on by an earlier process", made(&[finalizer::CHANNEL], none), false),
            ("looked at by an earlier process", made(&[], ready("Unknown")), false),
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
