//! Builds the operator's own values from the model's, asks the operator's own functions, and reads their answers.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::objects::*;
use crate::process::*;
use crate::state::{Epoch, Generation, Id, Place, Uid, Value, Version};
use crate::stored;
use crate::windows::*;
use ohallo_core::api::channel::{
    AppliedStatus, Channel, ChannelSpec, ChannelStatus, CreateStatus, ProvisioningRetry, ProvisioningStatus,
    TestStatus,
};
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::api::values::{Origin, ReconcileResult};
use ohallo_core::api::{annotation, finalizer};
use ohallo_core::channel::binding;
use ohallo_core::channel::consistency::Window as RealWindow;
use ohallo_core::channel::in_memory_state::{
    self, ABSENCE_INTERVAL, Absence, AttemptOutcome, MAX_REVERTS_OF_A_FIELD, REVERT_HORIZON, Wait as RealWait,
};
use ohallo_core::channel::model::{self, Claims as RealClaims, Observed, Predecessor};
use ohallo_core::channel::plan::delete::claims::{ELSEWHERE, WAIT, waiting_message};
use ohallo_core::channel::state::{self, Now, Parts, State};
use ohallo_core::channel::status::Summary;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::lease::election;
use ohallo_core::remote::{Changes, Id as RealId, NewChannel, RemoteChannel};
use ohallo_core::secret::{ApiKey, KeyId};
use ohallo_core::{conditions, index};

pub static BEGAN: LazyLock<Instant> = LazyLock::new(|| crate::clock::instant() + Duration::from_secs(3600));
static KEY: LazyLock<KeyId> = LazyLock::new(|| ApiKey::new("sf_test_v1_model".into()).id());
const NOW: Timestamp = Timestamp::constant(1_768_032_000, 0);

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

/// The effective interval.
pub const INTERVAL: Duration = Duration::from_secs(600);

/// The operator's state of this reconcile, with these windows.
pub fn state(reconcile: &Reconcile, window: RealWindow, tracks: Tracks) -> State {
    let id = own_id(reconcile);
    let remote = match reconcile.read {
        Read::Unread => model::Remote::Unread,
        Read::Absent { proven } => model::Remote::Absent { proven },
        Read::Stale => model::Remote::Stale { again: Duration::from_secs(1) },
        Read::Found(look) => model::Remote::Found(Box::new(found(id, reconcile.place.workspace, look))),
    };
    let object = channel(&reconcile.object, tracks);
    let Before { attempt, status, intent, record } = reconcile.before;
    let parts = Parts {
        object,
        status: self::status(&reconcile.status),
        observed: Observed {
            remote,
            owner: reconcile.owner.then_some(None),
            predecessor: reconcile
                .predecessor
                .map(|adopted| Predecessor { name: "a".into(), origin: origin(adopted) }),
            claims: reconcile.claims.map(claims),
            updated: reconcile.updated,
            intent_written: reconcile.intent_written.map(Into::into),
            window,
            ..Observed::unread(Ok(place(reconcile.place)), false)
        },
        memory: remembered(&reconcile.memory, id),
        attempt_change: reconcile.attempt_change,
        user_change: reconcile.user_change,
        resends: reconcile.resends,
        before: state::Before {
            attempt: attempt.map(create_attempt),
            status: status.map(|status| Box::new(self::status(&status))),
            intent: intent.as_ref().map(intent_text),
            record: record.map(|status| Box::new(self::status(&status))),
            create_error: None,
        },
    };
    State::from_parts(parts, INTERVAL)
}

/// The same, read back. The object is not: a reconcile knows only objects that the API server returned, and who returned
/// it knows which one it was.
pub fn reconcile(state: State, before: &Reconcile, tracks: Tracks) -> Reconcile {
    let parts = state.into_parts();
    let small = |status: &ChannelStatus| read_back(status, tracks);
    let read = match &parts.observed.remote {
        model::Remote::Unread | model::Remote::SkippedRead { .. } => Read::Unread,
        model::Remote::Absent { proven } => Read::Absent { proven: *proven },
        model::Remote::Stale { .. } => Read::Stale,
        model::Remote::Found(remote) => Read::Found(Look {
            value: remote.display_name.as_deref().and_then(number).unwrap_or_default(),
            failing: remote.status.as_deref() == Some("error"),
        }),
    };
    Reconcile {
        status: small(&parts.status),
        memory: memory(&parts.memory, before.memory.epoch, tracks),
        attempt_change: parts.attempt_change,
        read,
        owner: parts.observed.owner.is_some(),
        predecessor: parts.observed.predecessor.as_ref().map(|from| from.origin == Origin::Adopted),
        claims: parts.observed.claims.as_ref().map(claims_back),
        updated: parts.observed.updated,
        intent_written: parts.observed.intent_written.map(small_number),
        resends: parts.resends,
        user_change: parts.user_change,
        before: Before {
            attempt: parts.before.attempt.as_ref().map(attempt_back),
            status: parts.before.status.as_deref().map(small),
            intent: parts.before.intent.as_deref().and_then(intent_back),
            record: parts.before.record.as_deref().map(small),
        },
        ..*before
    }
}

/// The id that the object is bound to, or names.
fn own_id(reconcile: &Reconcile) -> Id {
    reconcile.status.id.or(reconcile.object.spec_id).unwrap_or_default()
}

/// The time of a decision. `process`: no two write an intent at the same time.
pub fn now(process: u8) -> Now {
    Now { wall: NOW.checked_add(Duration::from_secs(process.into())).unwrap_or(NOW), instant: *BEGAN }
}

fn small_number(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn origin(adopted: bool) -> Origin {
    if adopted { Origin::Adopted } else { Origin::Created }
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

fn claims_back(claims: &RealClaims) -> Claims {
    Claims {
        heir: claims.heir.is_some(),
        outranked: claims.outranked,
        beside: !claims.beside.is_empty(),
        elsewhere: claims.elsewhere.map(|elsewhere| match elsewhere {
            index::Elsewhere::Nobody => Elsewhere::Nobody,
            index::Elsewhere::Named => Elsewhere::Named,
            index::Elsewhere::Shown => Elsewhere::Shown,
        }),
    }
}

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
        has_created: false,
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

/// The in-memory state. `id`: of the channel that was found absent.
pub fn remembered(memory: &Memory, id: Id) -> in_memory_state::InMemoryState {
    in_memory_state::InMemoryState {
        epoch: (memory.epoch > 0).then(|| epoch(memory.epoch)),
        attempt: memory.attempt.map(create_attempt),
        deleted: memory.deleted,
        absence: noted(memory.absent).map(|since| Absence {
            id: channel_id(id).to_string(),
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

/// The same, read back as far as the scenario tracks it.
pub fn memory(real: &in_memory_state::InMemoryState, epoch: Epoch, tracks: Tracks) -> Memory {
    let kept = Memory {
        epoch,
        written: real.written.map_or(0, |(version, _)| u8::try_from(version).unwrap_or(u8::MAX)),
        attempt: real.attempt.as_ref().map(attempt_back),
        deleted: real.deleted,
        absent: absent_of(real),
        absent_to_delete: real.absence.as_ref().is_some_and(|first| first.to_delete),
        binding_unsure: real.binding_unsure,
        wait: real.wait.as_ref().map(|wait| Wait {
            beside: wait.beside,
            beside_free: moment(wait.beside_free),
            free: moment(wait.free),
        }),
        asked: moment(real.claims_checked_at),
        ..Memory::default()
    };
    let kept = if tracks.kept {
        Memory {
            binding: real.binding.as_ref().map(|known| Binding {
                id: number(&known.channel_id).unwrap_or_default(),
                workspace: known.workspace_id.as_deref().and_then(number),
                adopted: known.origin.as_deref().map(|origin| origin == "Adopted"),
            }),
            unstored: real.unstored.as_deref().map(|status| read_back(status, tracks)),
            lost: real.lost.iter().find_map(stored::strip),
            ..kept
        }
    } else {
        kept
    };
    if !tracks.values {
        return kept;
    }
    Memory {
        bound_here: real.bound_by_this_process,
        seen: real.reconciled_once,
        doubted: real.doubted,
        sent: real.last_update_digest.as_deref().and_then(value_of),
        reverts: reverts_back(real),
        ..kept
    }
}

/// The in-memory state at the start of a reconcile in this epoch.
pub fn entered(memory: &Memory, epoch: Epoch, tracks: Tracks) -> Memory {
    let mut real = remembered(memory, 0);
    real.enter(self::epoch(epoch));
    self::memory(&real, epoch, tracks)
}

/// What is remembered after a reconcile.
pub fn succeeded_by(cell: &Memory, ended: &Memory, owns_attempt: bool) -> Memory {
    if cell.attempt == ended.attempt {
        return *ended;
    }
    let (old, new) = (remembered(cell, 0), remembered(ended, 0));
    let kept = old.succeeded_by(&new, owns_attempt);
    let attempt = if kept.attempt == new.attempt { ended.attempt } else { cell.attempt };
    Memory { attempt, ..*ended }
}

/// Whether the version is older than what this process wrote.
pub fn outran(memory: &Memory, version: Version) -> bool {
    memory.written > 0 && remembered(memory, 0).outran(Some(version.into()), *BEGAN)
}

/// Whether nothing has changed that triggers a reconcile.
pub fn same_inputs(one: &Object, other: &Object, tracks: Tracks) -> bool {
    Triggers::own(&channel(one, tracks)) == Triggers::own(&channel(other, tracks))
}

/// Triggers that no decision of the model looks at.
pub fn triggers() -> Triggers {
    Triggers { own: 0, secrets: Vec::new(), workspace: 0, key: None, conflict: false, rivals: 0 }
}

/// The summary of a reconcile that wrote this status.
pub fn summary(status: &Status) -> Summary {
    Summary {
        status: self::status(status),
        wake: Some(Duration::from_secs(1)),
        warnings: Vec::new(),
        warns_of_claims: false,
        failures: 0,
        busy: false,
        stale: 0,
        silent: false,
        result: ReconcileResult::Progressing,
    }
}

/// The operator's step.
pub fn step(step: Step, object: &Object) -> model::Step {
    match step {
        Step::WriteIntent { number } => model::Step::WriteIntent { attempt: number.into() },
        Step::PostCreate { number } => model::Step::PostCreate {
            attempt: number.into(),
            body: NewChannel {
                channel_type: "chat".into(),
                display_name: display_name(object.value),
                config: None,
                enabled: None,
            },
        },
        Step::RecordId { number } => model::Step::RecordId { attempt: number.into() },
        Step::Adopt(id) => model::Step::Adopt { id: channel_id(id) },
        Step::RestoreMetadata => model::Step::RestoreMetadata,
        Step::Update { id, drift } => model::Step::Update {
            id: channel_id(id),
            changes: Changes { display_name: Some(display_name(object.value)), config: None, enabled: None },
            fields: vec!["displayName".into()],
            cause: if drift { model::Cause::Drift } else { model::Cause::Manifest },
        },
        Step::Retry { id, attempts, request: of } => {
            model::Step::Retry { id: channel_id(id), attempts: attempts.into(), request: request(of) }
        }
        Step::Test { id, request: of } => {
            model::Step::Test { id: channel_id(id), request: request(of).unwrap_or_default() }
        }
        Step::Delete(id) => model::Step::Delete { id: channel_id(id) },
        Step::RemoveFinalizer(outcome) => model::Step::RemoveFinalizer(outcome),
    }
}

/// The same, read back. `None`: a step that no scenario should lead to.
pub fn step_back(step: &model::Step) -> Option<Step> {
    let id = |id: &RealId| number(id.as_str());
    Some(match step {
        model::Step::WriteIntent { attempt } => Step::WriteIntent { number: small_number(*attempt) },
        model::Step::PostCreate { attempt, .. } => Step::PostCreate { number: small_number(*attempt) },
        model::Step::RecordId { attempt } => Step::RecordId { number: small_number(*attempt) },
        model::Step::Adopt { id: of } => Step::Adopt(id(of)?),
        model::Step::RestoreMetadata => Step::RestoreMetadata,
        model::Step::Update { id: of, cause, .. } => {
            Step::Update { id: id(of)?, drift: *cause == model::Cause::Drift }
        }
        model::Step::Retry { id: of, attempts, request } => Step::Retry {
            id: id(of)?,
            attempts: small_number(*attempts),
            request: request.as_deref().and_then(number).unwrap_or(0),
        },
        model::Step::Test { id: of, request } => {
            Step::Test { id: id(of)?, request: number(request).unwrap_or(0) }
        }
        model::Step::Delete { id: of } => Step::Delete(id(of)?),
        model::Step::RemoveFinalizer(outcome) => Step::RemoveFinalizer(*outcome),
        model::Step::PushCredentials { .. } => return None,
    })
}

pub fn epoch(epoch: Epoch) -> election::Epoch {
    election::Epoch { term: epoch.into(), transitions: epoch.into() }
}

fn absent_of(real: &in_memory_state::InMemoryState) -> Absent {
    match real.absence.as_ref().map(|first| first.since) {
        None => Absent::Never,
        Some(since) if BEGAN.duration_since(since) >= ABSENCE_INTERVAL => Absent::LongAgo,
        Some(_) => Absent::Now,
    }
}

fn reverts_back(real: &in_memory_state::InMemoryState) -> Reverts {
    let counts = (0..MAX_REVERTS_OF_A_FIELD as u8).map(|count| (count, false)).chain([(0, true)]);
    let all =
        counts.flat_map(|(count, contested)| [false, true].map(|read| Reverts { count, read, contested }));
    let mut same = all.filter(|counted| reverts(*counted) == real.reverts);
    same.next().unwrap_or_default()
}

fn create_attempt(own: Attempt) -> in_memory_state::CreateAttempt {
    in_memory_state::CreateAttempt {
        number: own.number.into(),
        intent: own.intent.as_ref().map(intent_text),
        after: own.after.as_ref().map(intent_text),
        last: own.last,
        unrecorded: None,
        outcome: match own.outcome {
            Outcome::InFlight => AttemptOutcome::InFlight,
            Outcome::Answered(id) => AttemptOutcome::Answered(Box::new(found(id, 1, own.look))),
            Outcome::Rejected => AttemptOutcome::Rejected,
            Outcome::NotSent => AttemptOutcome::NotSent,
            Outcome::Unknown => AttemptOutcome::Unknown,
        },
    }
}

fn attempt_back(own: &in_memory_state::CreateAttempt) -> Attempt {
    let mut look = Look::default();
    let outcome = match &own.outcome {
        AttemptOutcome::InFlight => Outcome::InFlight,
        AttemptOutcome::Answered(remote) => {
            look.value = remote.display_name.as_deref().and_then(number).unwrap_or_default();
            Outcome::Answered(number(remote.id.as_str()).unwrap_or_default())
        }
        AttemptOutcome::Rejected => Outcome::Rejected,
        AttemptOutcome::NotSent => Outcome::NotSent,
        AttemptOutcome::Unknown => Outcome::Unknown,
    };
    Attempt {
        number: small_number(own.number),
        outcome,
        look,
        intent: own.intent.as_deref().and_then(intent_back),
        after: own.after.as_deref().and_then(intent_back),
        last: own.last,
    }
}

pub fn channel(object: &Object, tracks: Tracks) -> Channel {
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
        // None but those that are asked for, unless the scenario allows some.
        provisioning_retry: Some(ProvisioningRetry {
            limit: Some(tracks.retries.into()),
            backoff_seconds: None,
        }),
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

fn intent_back(text: &str) -> Option<Intent> {
    let attempt = binding::AttemptId::of_intent(text)?;
    let at: Timestamp = binding::AttemptId::time_of(text)?.parse().ok()?;
    let by = u8::try_from(at.duration_since(NOW).as_secs()).ok()?;
    Some(Intent { of: Named { uid: number(&attempt.uid)?, number: small_number(attempt.number) }, by })
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
