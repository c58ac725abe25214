// pure
//! What this process remembers of one Channel between passes. All of it may be lost: what must not be is in the
//! object (the intent, the id, the counts).

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use super::create;
use super::delete::claims::Wait;
use super::inputs::Inputs;
use super::stored::{Binding, Field};
use crate::api::channel::{AppliedStatus, Channel, ChannelStatus};
use crate::api::conditions::kind;
use crate::api::{finalizer, same_id};
use crate::conditions;
use crate::leader::Epoch;
use crate::metrics::Unrecorded;
use crate::ohallo::RemoteChannel;
use crate::retry::Gate;
use crate::secret::ContentDigest;

/// How long a request whose answer was lost could still land late: what can't be read back is sent again after it.
pub const LATE: Duration = Duration::from_secs(60);

/// Two reads this far apart, each with proof, show that a channel is absent.
pub const ABSENCE: Duration = Duration::from_secs(30);

/// So many reverts of one field, and the operator only reads.
pub const CONTESTED: usize = 3;

/// The shortest time within which reverts are counted together.
pub const REVERTS: Duration = Duration::from_secs(3600);

/// How many reverts are remembered of one Channel.
const MAX_REVERTS: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// In which it was learnt.
    pub epoch: Option<Epoch>,
    pub gate: Option<Gate<Inputs>>,
    /// Transient failures in a row.
    pub failures: u32,
    /// Tokens that the next reconcile starts with: the last one ended for want of one.
    pub tokens: u32,
    /// Since when oHallo has been busy with it.
    pub waiting_since: Option<Instant>,
    /// The newest version of the object that this process wrote, and when.
    pub written: Option<(u64, Instant)>,
    pub attempt: Option<Attempt>,
    /// What the create that was answered had sent: the manifest may be newer when its id is written down.
    pub posted: Option<AppliedStatus>,
    /// This process bound the channel: no earlier one can have a request under way.
    pub bound_here: bool,
    pub pushed: Option<ContentDigest>,
    /// When credentials, and enabled, are to be sent once more.
    pub credentials_again: Option<Instant>,
    pub enabled_again: Option<Instant>,
    /// The digest of the values that were last sent.
    pub sent: Option<String>,
    /// How often oHallo then had others.
    pub reverts: Reverts,
    /// [`super::config::paths`] of the last settled pass.
    pub paths: Option<Box<str>>,
    /// DELETE was answered ok.
    pub deleted: bool,
    /// A status that binds the object was sent, and its answer is not known: its reservation of the id must stay.
    pub binding_unsure: bool,
    /// The binding as the API server last showed it to this process.
    pub binding: Option<Box<Binding>>,
    /// The status that was last sent, where the API server did not keep all of it.
    pub unstored: Option<Box<ChannelStatus>>,
    /// What was last reported as not kept: a change of it is logged, not every retry.
    pub lost: Vec<Field>,
    /// The end was told; a pass that still sees the object tells of it no more.
    pub parted: bool,
    /// A reconcile of this epoch began with the finalizer present: nobody but this process removes it rightly.
    pub protected: bool,
    /// The removal of the finalizer was sent, and not refused.
    pub removes_finalizer: bool,
    /// When a DELETE was sent whose answer is not known: it may still take effect.
    pub delete_unsure: Option<Instant>,
    /// The deletion waits for a claim of another Channel.
    pub wait: Option<Wait>,
    /// Since when it waits for Channels of other namespaces to show their right to the id.
    pub rights_asked: Option<Instant>,
    /// The channel's absence, proven once.
    pub absent: Option<Absence>,
    /// Stale reads in a row.
    pub stale: u32,
    /// This process put the finalizer on, guarded: no earlier one had bound the object.
    pub marked_here: bool,
    /// When this process first saw it, the manifest was newer than the status; no update was sent since.
    pub doubted: bool,
    /// Something changed that `connectivityTest: OnChange` asks to test.
    pub test_due: bool,
    /// When oHallo last described the channel, or this process began to look after it.
    pub read: Option<Instant>,
    /// A pass of this process has looked at the object.
    pub seen: bool,
    /// This process has known the object since it was made, and not seen it Ready.
    pub newborn: bool,
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
    /// One field was reverted [`CONTESTED`] times. It ends when oHallo has the declared values, or others are declared.
    pub contested: bool,
}

/// The last attempt to create that this process made.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub number: i64,
    pub outcome: AttemptOutcome,
    /// Its `create-intent` annotation, and the one that it took the place of.
    pub intent: Option<String>,
    pub after: Option<String>,
    /// The intent is known to have stood, and this process has led ever since: nobody else made a later attempt.
    pub last: bool,
    /// Counts its id while no status holds it.
    pub unrecorded: Option<Arc<Unrecorded>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome {
    InFlight,
    Answered(Box<RemoteChannel>),
    Rejected,
    NotSent,
    Unknown,
}

// === impl Attempt ===

impl Attempt {
    pub fn new(number: i64, outcome: AttemptOutcome) -> Self {
        Self { number, outcome, intent: None, after: None, last: false, unrecorded: None }
    }

    /// As the create protocol's table takes it.
    pub fn remembered(&self) -> create::Remembered<'_> {
        create::Remembered {
            attempt: self.number,
            outcome: match &self.outcome {
                AttemptOutcome::InFlight => create::Outcome::InFlight,
                AttemptOutcome::Answered(remote) => create::Outcome::Answered(remote.id.as_str()),
                AttemptOutcome::Rejected => create::Outcome::Rejected,
                AttemptOutcome::NotSent => create::Outcome::NotSent,
                AttemptOutcome::Unknown => create::Outcome::Unknown,
            },
            intent: self.intent.as_deref(),
            after: self.after.as_deref(),
            last: self.last,
        }
    }
}

// === impl Memory ===

impl Memory {
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
            attempt: self.attempt.take().map(|own| Attempt { last: false, ..own }),
            posted: self.posted.take(),
            binding_unsure: self.binding_unsure,
            delete_unsure: self.delete_unsure,
            binding: self.binding.take(),
            parted: self.parted,
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
        self.written
            .is_some_and(|(written, at)| Some(written) > version && now.saturating_duration_since(at) < LATE)
    }

    /// Notes the object as a pass finds it: one without any condition and finalizer has just been made.
    pub fn meet(&mut self, channel: &Channel) {
        let conditions = channel.status.as_ref().map_or(0, |status| status.conditions.len());
        self.newborn |=
            conditions == 0 && !channel.finalizers().iter().any(|name| name == finalizer::CHANNEL);
    }

    /// Notes the binding of the object.
    pub fn note_binding(&mut self, channel: &Channel) {
        let Some(status) = &channel.status else { return };
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = status.bound_to(uid) else { return };
        if self.binding.as_ref().is_none_or(|known| known.channel_id != id) {
            self.binding = Binding::of(status, uid).map(Box::new);
        }
    }

    /// Notes an object as it was read: its binding, and the end of an attempt whose id it shows.
    pub fn note_read(&mut self, channel: &Channel) {
        self.note_binding(channel);
        let uid = channel.metadata.uid.as_deref().unwrap_or_default();
        let Some(id) = channel.status.as_ref().and_then(|status| status.bound_to(uid)) else { return };
        let answered = |own: &mut Attempt| match &own.outcome {
            AttemptOutcome::Answered(remote) => same_id(remote.id.as_str(), id),
            _ => false,
        };
        self.attempt.take_if(answered);
    }

    /// The id of an answered create that no status holds.
    pub fn unrecorded_id(&self) -> Option<&str> {
        match &self.attempt {
            Some(Attempt { outcome: AttemptOutcome::Answered(remote), unrecorded: Some(_), .. }) => {
                Some(remote.id.as_str())
            }
            _ => None,
        }
    }

    /// Whether a status makes it Ready for the first time. It is so once.
    pub fn first_ready(&mut self, status: &ChannelStatus) -> bool {
        self.newborn
            && conditions::is_true(&status.conditions, kind::READY)
            && std::mem::take(&mut self.newborn)
    }

    /// Notes a read after the consistency window of the last write: the paths whose values are others than declared.
    /// `digest` is of what is declared now; reverts within `horizon` count together.
    pub fn look<'a>(
        &mut self,
        differs: impl Iterator<Item = &'a str>,
        digest: &str,
        now: Instant,
        horizon: Duration,
    ) {
        if self.sent.as_deref() == Some(digest) {
            self.reverts.note(differs.map(hash).collect(), now, horizon);
        } else {
            self.reverts = Reverts::default();
        }
    }

    /// Notes a write of `displayName` and `config` that was answered.
    pub fn wrote(&mut self, digest: String) {
        if self.sent.as_deref() != Some(&digest) {
            self.reverts = Reverts::default();
        }
        self.sent = Some(digest);
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
        self.seen.extend(fields.iter().take(MAX_REVERTS / CONTESTED).map(|field| (*field, now)));
        let excess = self.seen.len().saturating_sub(MAX_REVERTS);
        self.seen.drain(..excess);
        let count = |field: &u64| self.seen.iter().filter(|(seen, _)| seen == field).count();
        self.contested = fields.iter().any(|field| count(field) >= CONTESTED);
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
    use crate::clock;

    #[test]
    fn a_new_epoch_keeps_what_a_create_came_to_and_nothing_that_another_leader_may_have_changed() {
        let epoch = |term| Epoch { term, transitions: 7 };
        let attempt = Some(Attempt { last: true, ..Attempt::new(2, AttemptOutcome::NotSent) });
        let written = Some((7, clock::instant()));
        let posted = Some(AppliedStatus { enabled: Some(true), digest: None });
        let channel_id = "c1".to_owned();
        let binding = Some(Box::new(Binding { channel_id, workspace_id: None, origin: None }));
        let mut memory = Memory {
            epoch: Some(epoch(1)),
            written,
            attempt: attempt.clone(),
            posted: posted.clone(),
            binding_unsure: true,
            delete_unsure: written.map(|(_, at)| at),
            binding: binding.clone(),
            deleted: true,
            failures: 3,
            parted: true,
            removes_finalizer: true,
            protected: true,
            ..Memory::default()
        };
        memory.enter(epoch(1));
        assert!(memory.deleted && memory.failures == 3);
        memory.enter(epoch(2));
        let kept = attempt.map(|own| Attempt { last: false, ..own });
        assert_eq!((memory.deleted, memory.failures, &memory.attempt), (false, 0, &kept));
        assert_eq!((memory.epoch, memory.written, memory.posted), (Some(epoch(2)), written, posted));
        assert!(memory.binding_unsure && memory.delete_unsure.is_some(), "its reservations are still there");
        assert_eq!(memory.binding, binding, "an id that was bound stays known");
        assert!(
            memory.parted && memory.removes_finalizer && !memory.protected,
            "its end is not reported again"
        );
    }

    #[test]
    fn a_pass_leaves_what_it_learnt_and_of_a_create_only_of_its_own() {
        let attempt = |number| Some(Attempt::new(number, AttemptOutcome::Unknown));
        let before = Memory { attempt: attempt(1), failures: 1, ..Memory::default() };
        let pass = Memory { attempt: attempt(2), failures: 2, ..Memory::default() };
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
            let mut memory = Memory::default();
            memory.meet(&met);
            let [not_yet, at_last] =
                ["False", "True"].map(|word| made(&[], ready(word)).status.unwrap_or_default());
            assert!(!memory.first_ready(&not_yet), "{what}");
            memory.meet(&made(&[finalizer::CHANNEL], ready("False")));
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
        let memory = Memory { written: Some((7, now)), ..Memory::default() };
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
        assert!(!Memory::default().outran(Some(1), now));
    }

    #[test]
    fn a_status_that_shows_the_answered_id_ends_its_attempt_and_no_other() {
        let remote = crate::channel::sample::Sample::bound().remote().clone();
        for (shown, ends) in [("c1", true), ("c2", false)] {
            let mut sample = crate::channel::sample::Sample::bound();
            sample.status.channel_id = Some(shown.into());
            sample.channel.status = Some(sample.status.clone());
            let answered = AttemptOutcome::Answered(Box::new(remote.clone()));
            let mut memory = Memory { attempt: Some(Attempt::new(1, answered)), ..Memory::default() };
            memory.note_read(&sample.channel);
            assert_eq!(memory.attempt.is_none(), ends, "{shown}");
        }
    }
}
