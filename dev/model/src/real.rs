//! Builds the operator's own values from the model's, asks the operator's own functions, and reads their answers.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::state::*;
use crate::stored;
use ohallo_core::api::channel::{
    AppliedStatus, Channel, ChannelSpec, ChannelStatus, CreateStatus, ProvisioningRetry, ProvisioningStatus,
    TestStatus,
};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::binding;
use ohallo_core::channel::consistency::Window as RealWindow;
use ohallo_core::channel::in_memory_state::{
    self, Absence, AttemptOutcome, MAX_REVERTS_OF_A_FIELD, REVERT_HORIZON, Wait as RealWait,
};
use ohallo_core::channel::model::{self, Claims as RealClaims, Observed, PlanInput, Predecessor};
use ohallo_core::channel::plan::delete::claims::{ELSEWHERE, WAIT, waiting_message};
use ohallo_core::remote::{Id as RealId, RemoteChannel};
use ohallo_core::secret::{ApiKey, KeyId};
use ohallo_core::{conditions, index};

pub static BEGAN: LazyLock<Instant> = LazyLock::new(|| crate::clock::instant() + Duration::from_secs(3600));
static KEY: LazyLock<KeyId> = LazyLock::new(|| ApiKey::new("sf_test_v1_model".into()).id());
const NOW: Timestamp = Timestamp::constant(1_768_032_000, 0);

/// What a pass rests on, with everything that a decision does not look at left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    pub object: Object,
    pub status: Status,
    pub memory: Memory,
    pub place: Place,
    pub read: Read,
    pub owner: bool,
    pub predecessor: Option<bool>,
    pub claims: Option<Claims>,
    pub window: Window,
    pub updated: bool,
    pub tracks: Tracks,
}

/// What the status and the windows hold in this scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tracks {
    pub lags: bool,
    pub values: bool,
    /// `provisioningRetry.limit`.
    pub retries: u8,
    /// What the API server keeps is looked at.
    pub kept: bool,
}

/// The operator's own values.
pub struct Real {
    pub channel: Channel,
    pub status: ChannelStatus,
    pub observed: Observed,
    pub memory: in_memory_state::InMemoryState,
}

impl Real {
    pub fn view(&self) -> PlanInput<'_> {
        PlanInput {
            channel: &self.channel,
            status: &self.status,
            observed: &self.observed,
            memory: &self.memory,
            now: NOW,
            instant: *BEGAN,
        }
    }
}

pub fn real(facts: &Facts) -> Real {
    let remote = match facts.read {
        Read::Unread => model::Remote::Unread,
        Read::Absent { proven } => model::Remote::Absent { proven },
        Read::Stale => model::Remote::Stale { again: Duration::from_secs(1) },
        Read::Found(look) => {
            let id = facts.status.id.or(facts.object.spec_id).unwrap_or_default();
            model::Remote::Found(Box::new(found(id, facts.place.workspace, look)))
        }
    };
    let mut channel = channel(&facts.object);
    if let Some(retry) = &mut channel.spec.provisioning_retry {
        retry.limit = Some(facts.tracks.retries.into());
    }
    Real {
        channel,
        status: status(&facts.status),
        observed: Observed {
            remote,
            owner: facts.owner.then_some(None),
            predecessor: facts
                .predecessor
                .map(|adopted| Predecessor { name: "a".into(), origin: origin(adopted) }),
            claims: facts.claims.map(claims),
            updated: facts.updated,
            window: if facts.tracks.lags { facts.window.real() } else { RealWindow::default() },
            ..Observed::unread(Ok(place(facts.place)), false)
        },
        memory: remembered(&facts.memory),
    }
}

fn origin(adopted: bool) -> String {
    if adopted { "Adopted" } else { "Created" }.into()
}

pub fn claims(claims: Claims) -> RealClaims {
    RealClaims {
        heir: claims.heir.then_some(None),
        outranked: claims.outranked,
        beside: if claims.beside { vec!["b".into()] } else { Vec::new() },
        more: false,
        elsewhere: claims.elsewhere.map(|elsewhere| match elsewhere {
            Elsewhere::Nobody => index::Elsewhere::Nobody,
            Elsewhere::Named => index::Elsewhere::Named,
            Elsewhere::Shown => index::Elsewhere::Shown,
        }),
    }
}

/// The id of the one channel that is found absent.
pub const ABSENT: &str = "c";

/// A moment that was noted, as an instant.
fn noted(at: Absent) -> Option<Instant> {
    match at {
        Absent::Never => None,
        Absent::Now => Some(*BEGAN),
        Absent::LongAgo => BEGAN.checked_sub(WAIT),
    }
}

/// And back.
pub fn moment(at: Option<Instant>) -> Absent {
    match at {
        None => Absent::Never,
        Some(at) if at == *BEGAN => Absent::Now,
        Some(_) => Absent::LongAgo,
    }
}

pub fn place(place: Place) -> model::WorkspaceAccess {
    model::WorkspaceAccess {
        workspace_id: id_of(&workspace(place.workspace)),
        key: *KEY,
        read_with: key((place.tenant, place.reads_workspaces)),
        has_read: true,
        create_unsupported: false,
    }
}

pub fn found(id: Id, in_workspace: u8, look: Look) -> RemoteChannel {
    RemoteChannel {
        id: channel_id(id),
        workspace_id: Some(workspace(in_workspace)),
        channel_type: Some("chat".into()),
        display_name: Some(display_name(look.value)),
        status: Some(if look.failing { "error" } else { "active" }.into()),
        config: serde_json::Map::new(),
        created_at: None,
    }
}

pub fn remembered(memory: &Memory) -> in_memory_state::InMemoryState {
    in_memory_state::InMemoryState {
        attempt: memory.attempt.map(|own| in_memory_state::CreateAttempt {
            number: own.number.into(),
            intent: own.intent.as_ref().map(intent_text),
            after: own.after.as_ref().map(intent_text),
            last: own.last,
            unrecorded: None,
            outcome: match own.outcome {
                Outcome::InFlight => AttemptOutcome::InFlight,
                Outcome::Answered(id) => AttemptOutcome::Answered(Box::new(found(id, 1, Look::default()))),
                Outcome::Rejected => AttemptOutcome::Rejected,
                Outcome::NotSent => AttemptOutcome::NotSent,
                Outcome::Unknown => AttemptOutcome::Unknown,
            },
        }),
        deleted: memory.deleted,
        absence: noted(memory.absent).map(|since| Absence {
            id: ABSENT.into(),
            to_delete: memory.absent_to_delete,
            since,
        }),
        binding_unsure: memory.binding_unsure,
        wait: memory.wait.map(|wait| RealWait {
            began: *BEGAN,
            beside: wait.beside,
            beside_free: noted(wait.beside_free),
            free: noted(wait.free),
            warned: true,
        }),
        claims_checked_at: noted(memory.asked),
        written: (memory.written > 0).then(|| (memory.written.into(), *BEGAN)),
        binding: memory.binding.map(|binding| Box::new(stored::binding(&binding))),
        unstored: memory.unstored.map(|status| Box::new(self::status(&status))),
        lost: memory.lost.iter().map(|strip| stored::field(*strip)).collect(),
        bound_by_this_process: memory.bound_here,
        reconciled_once: memory.seen,
        doubted: memory.doubted,
        last_update_digest: memory.sent.map(digest),
        reverts: reverts(memory.reverts),
        ..in_memory_state::InMemoryState::default()
    }
}

pub fn channel(object: &Object) -> Channel {
    let spec = ChannelSpec {
        channel_type: Some("chat".into()),
        display_name: Some(display_name(object.value)),
        suspend: object.suspended.then_some(true),
        channel_id: object.spec_id.map(|id| channel_id(id).to_string()),
        deletion_policy: match object.policy {
            Policy::Unset => None,
            Policy::Delete => Some("Delete".into()),
            Policy::Retain => Some("Retain".into()),
        },
        // None but those that are asked for.
        provisioning_retry: Some(ProvisioningRetry { limit: Some(0), backoff_seconds: None }),
        ..ChannelSpec::default()
    };
    let mut channel = Channel::new(if object.name() == 0 { "a" } else { "b" }, spec);
    let metadata = &mut channel.metadata;
    metadata.namespace = Some(if object.elsewhere { "other" } else { "ns" }.into());
    metadata.uid = Some(uid(object.uid));
    metadata.resource_version = Some(object.version.to_string());
    metadata.generation = Some(generation(object).into());
    // The second name is the oldest object of all, whenever it is applied.
    let age = if object.uid == 3 { 0 } else { object.uid };
    metadata.creation_timestamp = NOW.checked_add(Duration::from_secs(age.into())).ok().map(Time);
    metadata.deletion_timestamp = object.terminating.then_some(Time(NOW));
    metadata.finalizers = object.finalizer.then(|| vec![finalizer::CHANNEL.into()]);
    let annotations = [
        (annotation::CREATE_INTENT, object.intent.as_ref().map(intent_text)),
        (annotation::CREATE_AGAIN, object.create_again.map(|named| attempt(named).to_string())),
        (annotation::RELEASE, object.release.map(release)),
        (annotation::CONFIRM_DELETION, confirmation(object)),
        (annotation::TEST_REQUESTED, request(object.test)),
        (annotation::RETRY_REQUESTED, request(object.retry)),
    ];
    let given = annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    metadata.annotations = Some(given.collect());
    channel.status = (object.status != Status::default()).then(|| status(&object.status));
    channel
}

/// It moves with the spec and with the deletion.
pub fn generation(object: &Object) -> Generation {
    let id = object.spec_id.map_or(0, |id| id + 1);
    1 + u8::from(object.terminating) + 2 * (object.policy as u8) + 6 * id + 54 * object.declared
}

pub fn display_name(value: Value) -> String {
    format!("Support {value}")
}

/// The counts of false values, made as the operator makes them.
pub fn reverts(counted: Reverts) -> in_memory_state::Reverts {
    let mut memory = in_memory_state::InMemoryState::default();
    if counted == Reverts::default() {
        return memory.reverts;
    }
    let look = |memory: &mut in_memory_state::InMemoryState, differs: Option<&str>| {
        memory.note_differences(differs.into_iter(), "", *BEGAN, REVERT_HORIZON);
    };
    memory.note_update(String::new());
    let count = if counted.contested { MAX_REVERTS_OF_A_FIELD } else { counted.count.into() };
    for _ in 0..count {
        memory.note_update(String::new());
        look(&mut memory, Some("displayName"));
    }
    match counted.read {
        true if count == 0 => look(&mut memory, None),
        true => {}
        false => memory.note_update(String::new()),
    }
    memory.reverts
}

fn confirmation(object: &Object) -> Option<String> {
    let id = object.status.id.filter(|_| object.confirmed)?;
    Some(format!("{}/{}", channel_id(id), uid(object.uid)))
}

fn release(release: Release) -> String {
    match release {
        Release::Id(id) => channel_id(id).to_string(),
        Release::Attempt(named) => attempt(named).to_string(),
    }
}

fn attempt(named: Named) -> binding::AttemptId {
    binding::AttemptId { uid: uid(named.uid), number: named.number.into() }
}

fn intent_text(intent: &Intent) -> String {
    let at = NOW.checked_add(Duration::from_secs(intent.by.into())).unwrap_or(NOW);
    attempt(intent.of).intent(at)
}

pub fn status(status: &Status) -> ChannelStatus {
    let condition = |type_: &str, word: &str, reason: Reason, message: &str, generation| Condition {
        type_: type_.into(),
        status: word.into(),
        reason: reason.as_str().into(),
        message: message.into(),
        last_transition_time: Time(NOW),
        observed_generation: generation,
    };
    let blocked = status.waits.map(|beside| {
        let message = if beside { "Other Channels of this namespace" } else { ELSEWHERE };
        condition(kind::DELETION_BLOCKED, "True", Reason::ClaimedByAnother, message, None)
    });
    let ready = match (status.ready, status.observed) {
        (0, 0) => None,
        (0, of) => Some(condition(kind::READY, "Unknown", Reason::Progressing, "", Some(of.into()))),
        (of, _) => Some(condition(kind::READY, "True", Reason::Available, "", Some(of.into()))),
    };
    ChannelStatus {
        conditions: blocked.into_iter().chain(ready).collect(),
        observed_generation: (status.observed > 0).then_some(status.observed.into()),
        applied: status.applied.map(|value| AppliedStatus { enabled: None, digest: Some(digest(value)) }),
        channel_id: status.id.map(|id| channel_id(id).to_string()),
        bound_uid: status.bound_uid.map(uid),
        workspace_id: status.workspace.map(workspace),
        origin: status.adopted.map(|adopted| if adopted { "Adopted" } else { "Created" }.into()),
        create: status.create.map(|(number, word)| CreateStatus {
            attempt: number.into(),
            outcome: format!("{word:?}"),
            sent_at: None,
        }),
        read_with: status.read_with.map(key),
        test: status.test.map(|(of, handled)| TestStatus {
            request: request(of),
            handled_request: request(handled),
            result: Some("Passed".into()),
            ..TestStatus::default()
        }),
        provisioning: status.retry.map(|(handled, attempts)| ProvisioningStatus {
            handled_request: request(handled),
            attempts: attempts.into(),
            // It is due: the backoff is over.
            next_attempt_at: Some(NOW.to_string()),
            ..ProvisioningStatus::default()
        }),
        ..ChannelStatus::default()
    }
}

/// The same, read back from what the operator would write.
pub fn read_back(real: &ChannelStatus, tracks: Tracks) -> Status {
    let ready = conditions::find(&real.conditions, kind::READY).filter(|ready| ready.status == "True");
    let generation =
        |of: Option<i64>| of.filter(|_| tracks.values).map_or(0, |of| u8::try_from(of).unwrap_or_default());
    let digest = |applied: &AppliedStatus| value_of(applied.digest.as_deref()?);
    Status {
        observed: generation(real.observed_generation),
        ready: generation(ready.and_then(|ready| ready.observed_generation)),
        applied: real.applied.as_ref().filter(|_| tracks.values).and_then(digest),
        id: real.channel_id.as_deref().and_then(number),
        bound_uid: real.bound_uid.as_deref().and_then(number),
        workspace: real.workspace_id.as_deref().and_then(number),
        adopted: real.origin.as_deref().map(|origin| origin == "Adopted"),
        create: real.create.as_ref().map(|create| {
            let word = match create.outcome.as_str() {
                "Rejected" => Word::Rejected,
                "NotSent" => Word::NotSent,
                _ => Word::Unknown,
            };
            (u8::try_from(create.attempt).unwrap_or(u8::MAX), word)
        }),
        read_with: real.read_with.as_deref().map(|key| (number(key).unwrap_or(0), !key.starts_with("blind"))),
        test: real.test.as_ref().map(|test| {
            let of = |request: &Option<String>| request.as_deref().and_then(number).unwrap_or(0);
            (of(&test.request), of(&test.handled_request))
        }),
        waits: waiting_message(real).map(|message| !message.starts_with(ELSEWHERE)),
        retry: real.provisioning.as_ref().map(|past| {
            let attempts = if tracks.retries > 0 { past.attempts } else { 0 };
            let handled = past.handled_request.as_deref().and_then(number).unwrap_or(0);
            (handled, u8::try_from(attempts).unwrap_or(u8::MAX))
        }),
    }
}

fn key((tenant, reads): (u8, bool)) -> String {
    format!("{}{tenant}", if reads { "key" } else { "blind" })
}

fn workspace(number: u8) -> String {
    format!("ws{number}")
}

pub fn uid(uid: Uid) -> String {
    format!("uid-{uid}")
}

pub fn channel_id(id: Id) -> RealId {
    id_of(&format!("c{id}"))
}

fn id_of(text: &str) -> RealId {
    // Letters and digits are always fit.
    RealId::parse(text).unwrap_or_else(|| id_of("c0"))
}

pub fn request(value: u8) -> Option<String> {
    (value > 0).then(|| format!("r{value}"))
}

/// The number at the end of a name.
pub fn number(text: &str) -> Option<u8> {
    text.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
