//! The operator's rules for its memory and for what is written ahead, asked with the model's values.

use crate::real::{self, BEGAN, Facts, channel, read_back, real, remembered, request};
use crate::state::*;
use ohallo_core::channel::in_memory_state::{self, ABSENCE_INTERVAL, MAX_REVERTS_OF_A_FIELD, REVERT_HORIZON};
use ohallo_core::channel::plan::delete::{self, claims};
use ohallo_core::channel::plan::update;
use ohallo_core::channel::triggers::Triggers;
use ohallo_core::channel::{consistency, freshness, model, transition};
use ohallo_core::lease::election;

/// The memory at the begin of a pass in this epoch.
pub fn entered(memory: &Memory, epoch: Epoch) -> Memory {
    let real_epoch = |epoch: Epoch| election::Epoch { term: epoch.into(), transitions: epoch.into() };
    let mut real = remembered(memory);
    real.epoch = (memory.epoch > 0).then(|| real_epoch(memory.epoch));
    real.enter(real_epoch(epoch));
    Memory {
        epoch,
        written: real.written.map_or(0, |_| memory.written),
        attempt: memory
            .attempt
            .zip(real.attempt.as_ref())
            .map(|(own, real)| Attempt { last: real.last, ..own }),
        deleted: real.deleted,
        absent: absent_of(&real),
        absent_to_delete: absent_to_delete(&real),
        binding_unsure: real.binding_unsure,
        wait: real.wait.as_ref().and(memory.wait),
        asked: real::moment(real.claims_checked_at),
        binding: real.binding.as_ref().and(memory.binding),
        unstored: real.unstored.as_ref().and(memory.unstored),
        lost: if real.lost.is_empty() { None } else { memory.lost },
        bound_here: real.bound_by_this_process,
        seen: real.reconciled_once,
        doubted: real.doubted,
        sent: real.last_update_digest.as_deref().and_then(value_of),
        reverts: reverts_of(&real),
    }
}

/// Notes what a read showed of the declared value.
pub fn looked(facts: &Facts, look: Look) -> Memory {
    let real = real(facts);
    let mut memory = real.memory.clone();
    let view = real.view();
    let differs = view.differences(&real::found(0, 1, look));
    let paths = differs.iter().map(|differs| differs.path.as_str());
    memory.note_differences(paths, &view.digest(), *BEGAN, REVERT_HORIZON);
    Memory { reverts: reverts_of(&memory), ..facts.memory }
}

/// Notes that the value was sent, and answered.
pub fn sent(memory: &Memory, value: Value) -> Memory {
    let mut real = remembered(memory);
    real.note_update(digest(value));
    Memory { sent: Some(value), reverts: reverts_of(&real), doubted: real.doubted, ..*memory }
}

/// What an answer that has the declared value says.
pub fn answered(facts: &Facts, id: Id) -> consistency::Values {
    let look = Look { value: facts.object.value, failing: false };
    update::answer_values(&real(facts).view(), &real::found(id, 1, look))
}

/// Notes a 404 outside every window; whether it is the second one.
pub fn absent_again(pass: &mut Pass) -> bool {
    let mut memory = remembered(&pass.memory);
    let rest = freshness::note_absence(&mut memory, real::ABSENT, false, *BEGAN);
    pass.memory.absent = absent_of(&memory);
    pass.memory.absent_to_delete = absent_to_delete(&memory);
    rest.is_none()
}

fn reverts_of(real: &in_memory_state::InMemoryState) -> Reverts {
    let counts = (0..MAX_REVERTS_OF_A_FIELD as u8).map(|count| (count, false)).chain([(0, true)]);
    let all =
        counts.flat_map(|(count, contested)| [false, true].map(|read| Reverts { count, read, contested }));
    let mut same = all.filter(|counted| real::reverts(*counted) == real.reverts);
    same.next().unwrap_or_default()
}

/// Notes the object as a pass finds it.
pub fn met(memory: &Memory, object: &Object) -> Memory {
    let doubted =
        if memory.seen { memory.doubted } else { object.status.observed != real::generation(object) };
    Memory { doubted, ..*memory }
}

/// Notes who claims the id.
pub fn note_claims(pass: &mut Pass, found: Claims) {
    let mut memory = remembered(&pass.memory);
    let status = real::status(&pass.status);
    claims::note(&mut memory, claims::waiting_message(&status), &real::claims(found), *BEGAN);
    pass.memory.wait = memory.wait.map(|wait| Wait {
        beside: wait.beside,
        beside_free: real::moment(wait.beside_free),
        free: real::moment(wait.free),
    });
    pass.memory.asked = real::moment(memory.claims_checked_at);
    pass.claims = Some(found);
}

/// Whether nothing has changed that a pass is woken for.
pub fn same_inputs(one: &Object, other: &Object) -> bool {
    Triggers::own(&channel(one)) == Triggers::own(&channel(other))
}

/// Whether the version is older than what this process wrote.
pub fn outran(memory: &Memory, version: Version) -> bool {
    memory.written > 0 && remembered(memory).outran(Some(version.into()), *BEGAN)
}

/// What is remembered after a pass.
pub fn succeeded_by(cell: &Memory, pass: &Memory, owns_attempt: bool) -> Memory {
    if cell.attempt == pass.attempt {
        return *pass;
    }
    let (old, new) = (remembered(cell), remembered(pass));
    let kept = old.succeeded_by(&new, owns_attempt);
    let attempt = if kept.attempt == new.attempt { pass.attempt } else { cell.attempt };
    Memory { attempt, ..*pass }
}

/// Notes a proven absence.
pub fn absent_now(pass: &mut Pass) {
    let mut memory = remembered(&pass.memory);
    let mut remote = model::Remote::Unread;
    delete::record_absence(&mut memory, &mut remote, real::ABSENT, *BEGAN);
    pass.memory.absent = absent_of(&memory);
    pass.memory.absent_to_delete = absent_to_delete(&memory);
    pass.read = match remote {
        model::Remote::Absent { proven } => Read::Absent { proven },
        _ => pass.read,
    };
}

/// What the status says before a test or a retry is sent.
pub fn ahead(facts: &Facts, ask: Ask) -> Status {
    let real = real(facts);
    let mut status = real.status.clone();
    match ask {
        Ask::Test => {
            let asked = request(facts.object.test).unwrap_or_default();
            status.test = Some(transition::test(&real.view(), asked));
        }
        Ask::Retry { attempts, request: of } => {
            status.provisioning = Some(transition::retry(&real.view(), attempts.into(), request(of)));
        }
    }
    read_back(&status, facts.tracks)
}

fn absent_to_delete(real: &in_memory_state::InMemoryState) -> bool {
    real.absence.as_ref().is_some_and(|first| first.to_delete)
}

/// What the operator's own clock-bound fields of the memory come to.
fn absent_of(real: &in_memory_state::InMemoryState) -> Absent {
    match real.absence.as_ref().map(|first| first.since) {
        None => Absent::Never,
        Some(since) if BEGAN.duration_since(since) >= ABSENCE_INTERVAL => Absent::LongAgo,
        Some(_) => Absent::Now,
    }
}
