//! Claims of other Channels on the channel of an object that is being deleted, and their effect on the DELETE.
//!
//! Inside one namespace a Channel that names the id takes the channel over (a renamed manifest), so the DELETE
//! waits. Claims of other namespaces neither take over nor forbid: the deletion waits for its owner's confirmation.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::api::conditions::{Reason, kind};
use crate::api::{annotation, same_id};
use crate::channel::in_memory_state::{InMemoryState, Wait};
use crate::channel::model::{Claims, Plan, PlanInput};
use crate::channel::plan::delete::{blocked, wait_for_claims};
use crate::conditions;
use crate::index::Elsewhere;

/// How long claimants of the same namespace have to bind before a Warning event, and how long the id must be
/// unclaimed before a deletion that waited for a claim continues.
pub const WAIT: Duration = Duration::from_secs(300);

/// How long a deletion waits for Channels of other namespaces that name the id to prove their right to it.
pub const RIGHTS: Duration = Duration::from_secs(10);

/// The beginning of the message that requests the owner's confirmation.
pub const ELSEWHERE: &str = "A Channel of another namespace uses this oHallo channel";

/// The requeue time of a Channel that waits for a terminating one that ranks before it; the removal also requeues it.
const OUTRANKED_AGAIN: Duration = Duration::from_secs(30);

/// The requeue time while that right is not proven.
const RIGHTS_AGAIN: Duration = Duration::from_secs(1);

/// Records the observed claims. `said` is the condition's message, from which a wait resumes after a restart.
pub fn note(memory: &mut InMemoryState, said: Option<&str>, claims: &Claims, now: Instant) {
    let beside = !claims.beside.is_empty();
    let elsewhere = claims.elsewhere == Some(Elsewhere::Shown);
    if claims.elsewhere == Some(Elsewhere::Named) {
        memory.claims_checked_at.get_or_insert(now);
    }
    if memory.wait.is_none() && (beside || elsewhere || said.is_some()) {
        // A message without the prefix for other namespaces reports a claim of this namespace.
        let was_beside = said.is_some_and(|message| !message.starts_with(ELSEWHERE));
        let wait = Wait { began: now, beside: was_beside, beside_free: None, free: None, warned: false };
        memory.wait = Some(wait);
    }
    let Some(wait) = &mut memory.wait else { return };
    wait.beside |= beside;
    wait.beside_free = if beside { None } else { wait.beside_free.or(Some(now)) };
    let free = match claims.elsewhere {
        _ if beside => None,
        Some(Elsewhere::Shown) => None,
        // Not checked in this reconcile: the last result remains.
        None => wait.free,
        Some(_) => wait.free.or(Some(now)),
    };
    wait.free = free;
}

/// The message of the condition, where the deletion waits for claims.
pub fn waiting_message(status: &crate::api::channel::ChannelStatus) -> Option<&str> {
    let blocked = conditions::find(&status.conditions, kind::DELETION_BLOCKED)?;
    (blocked.reason == Reason::ClaimedByAnother.as_str()).then_some(blocked.message.as_str())
}

/// What blocks the DELETE inside the namespace of the object.
pub(super) fn beside(view: &PlanInput, claims: &Claims) -> Option<Plan> {
    let again = rest_of_wait(view).unwrap_or(WAIT);
    if !claims.beside.is_empty() {
        return Some(blocked(Reason::ClaimedByAnother, beside_message(view, claims), again));
    }
    // The condition of the other Channel reports what it waits for.
    claims.outranked.then(|| wait_for_claims(OUTRANKED_AGAIN))
}

/// What blocks the DELETE when no Channel of the same namespace claims the id.
pub(super) fn anywhere(view: &PlanInput, claims: &Claims, id: &str) -> Option<Plan> {
    let elsewhere = claims.elsewhere.unwrap_or_default();
    let wait = view.memory.wait.as_ref();
    let long_ago = |since: Option<Instant>| {
        since.is_some_and(|since| view.instant.saturating_duration_since(since) >= WAIT)
    };
    let own_namespace_done = wait.is_none_or(|wait| !wait.beside || long_ago(wait.beside_free));
    if confirmed(view, id) && own_namespace_done {
        return None;
    }
    if elsewhere == Elsewhere::Shown {
        return Some(blocked(Reason::ClaimedByAnother, owners_word(view, id), WAIT));
    }
    if let Some(wait) = wait.filter(|wait| !long_ago(wait.free)) {
        let message = if wait.beside { free_message(view, id) } else { owners_word(view, id) };
        let free = wait.free.map(|since| view.instant.saturating_duration_since(since));
        return Some(blocked(
            Reason::ClaimedByAnother,
            message,
            WAIT.saturating_sub(free.unwrap_or_default()),
        ));
    }
    let asked = view.memory.claims_checked_at.map(|since| view.instant.saturating_duration_since(since));
    let waits = elsewhere == Elsewhere::Named && asked.is_none_or(|asked| asked < RIGHTS);
    waits.then(|| wait_for_claims(RIGHTS_AGAIN))
}

/// The owner's confirmation for this object: it overrides every claim of another namespace.
pub fn confirmed(view: &PlanInput, id: &str) -> bool {
    let Some((named, uid)) =
        view.annotation(annotation::CONFIRM_DELETION).and_then(|word| word.rsplit_once('/'))
    else {
        return false;
    };
    same_id(named, id) && view.channel.metadata.uid.as_deref() == Some(uid)
}

/// Whether the Warning event of a wait is due: immediately for claims of other namespaces, which only the owner can resolve.
pub fn warning_due(view: &PlanInput) -> bool {
    let claims = view.observed.claims.as_ref();
    let beside = claims.is_some_and(|claims| !claims.beside.is_empty());
    let wait = view.memory.wait.as_ref().filter(|wait| !wait.warned);
    wait.is_some_and(|wait| {
        !(beside || wait.beside) || view.instant.saturating_duration_since(wait.began) >= WAIT
    })
}

fn rest_of_wait(view: &PlanInput) -> Option<Duration> {
    let began = view.memory.wait.as_ref()?.began;
    let rest = WAIT.saturating_sub(view.instant.saturating_duration_since(began));
    (!rest.is_zero()).then_some(rest)
}

/// `kubectl annotate` of this object.
fn command(view: &PlanInput, annotation: &str, value: &str) -> String {
    let namespace = view.channel.namespace().unwrap_or_default();
    let name = view.channel.name_any();
    format!("kubectl annotate channels.ohallo.eu {name} -n {namespace} --overwrite {annotation}={value}")
}

fn beside_message(view: &PlanInput, claims: &Claims) -> String {
    let names: Vec<_> = claims.beside.iter().map(|name| format!("{name:?}")).collect();
    let more = if claims.more { " and others" } else { "" };
    let id = view.status.channel_id.as_deref().unwrap_or_default();
    let release = command(view, annotation::RELEASE, id);
    format!(
        "Other Channels of this namespace name this oHallo channel ({}{more}), so the operator does not delete it: the oldest of them that can bind to it takes it over. \
         Fix, change or delete these Channels, or leave the channel in oHallo: `{release}`.",
        names.join(", ")
    )
}

fn free_message(view: &PlanInput, id: &str) -> String {
    let release = command(view, annotation::RELEASE, id);
    format!(
        "Channels of this namespace named this oHallo channel. The operator deletes it when none has named it for five minutes. To leave it in oHallo: `{release}`."
    )
}

/// Names no claimant and does not depend on them: no namespace learns of another or changes another's object.
fn owners_word(view: &PlanInput, id: &str) -> String {
    let uid = view.channel.uid().unwrap_or_default();
    let confirm = command(view, annotation::CONFIRM_DELETION, &format!("{id}/{uid}"));
    let release = annotation::RELEASE;
    format!(
        "{ELSEWHERE}, so the deletion waits for your confirmation. To leave it in oHallo, annotate this object with {release}={id}. To delete it: `{confirm}`."
    )
}

#[cfg(test)]
mod tests;
