//! Who else claims the channel of an object that is being deleted, and what that means for its DELETE.
//!
//! Inside one namespace a Channel that names the id takes the channel over (a renamed manifest), so it holds the DELETE
//! back. Claims of other namespaces neither take over nor forbid: they make the deletion wait for its owner's word.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::api::conditions::{Reason, kind};
use crate::api::{annotation, same_id};
use crate::channel::in_memory_state::{InMemoryState, Wait};
use crate::channel::model::{Claims, Plan, PlanInput};
use crate::channel::plan::delete::{blocked, wait_for_claims};
use crate::conditions;
use crate::index::Elsewhere;

/// How long claimants of the same namespace have to bind before a Warning event, and how long nobody may claim the id
/// before a deletion that waited for a claim goes on.
pub const WAIT: Duration = Duration::from_secs(300);

/// How long a deletion waits for Channels of other namespaces that name the id to show their right to it.
pub const RIGHTS: Duration = Duration::from_secs(10);

/// How the message begins that waits for the owner's word.
pub const ELSEWHERE: &str = "A Channel of another namespace uses this oHallo channel";

/// How soon a Channel looks again whether the terminating one that ranks before it is removed; its removal requeues it.
const OUTRANKED_AGAIN: Duration = Duration::from_secs(30);

/// How soon it asks for that right again.
const RIGHTS_AGAIN: Duration = Duration::from_secs(1);

/// Notes the claims that were found. After a restart the condition `said` that the deletion waits.
pub fn note(memory: &mut InMemoryState, said: Option<&str>, claims: &Claims, now: Instant) {
    let beside = !claims.beside.is_empty();
    let elsewhere = claims.elsewhere == Some(Elsewhere::Shown);
    if claims.elsewhere == Some(Elsewhere::Named) {
        memory.claims_checked_at.get_or_insert(now);
    }
    if memory.wait.is_none() && (beside || elsewhere || said.is_some()) {
        // A message that is not the one for other namespaces speaks of a claim of this one.
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
        // Not asked for: what was known holds.
        None => wait.free,
        Some(_) => wait.free.or(Some(now)),
    };
    wait.free = free;
}

/// The message of the condition, where it says that the deletion waits for claims.
pub fn waiting_message(status: &crate::api::channel::ChannelStatus) -> Option<&str> {
    let blocked = conditions::find(&status.conditions, kind::DELETION_BLOCKED)?;
    (blocked.reason == Reason::ClaimedByAnother.as_str()).then_some(blocked.message.as_str())
}

/// What holds the DELETE back inside the namespace of the object.
pub(super) fn beside(view: &PlanInput, claims: &Claims) -> Option<Plan> {
    let again = rest_of_wait(view).unwrap_or(WAIT);
    if !claims.beside.is_empty() {
        return Some(blocked(Reason::ClaimedByAnother, beside_message(view, claims), again));
    }
    // Its own condition says what the other one waits for.
    claims.outranked.then(|| wait_for_claims(OUTRANKED_AGAIN))
}

/// What holds the DELETE back once nobody of the same namespace claims the id.
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

/// The owner's word on this very object: it counts against every claim of another namespace.
pub fn confirmed(view: &PlanInput, id: &str) -> bool {
    let Some((named, uid)) =
        view.annotation(annotation::CONFIRM_DELETION).and_then(|word| word.rsplit_once('/'))
    else {
        return false;
    };
    same_id(named, id) && view.channel.metadata.uid.as_deref() == Some(uid)
}

/// Whether the Warning event of a wait is due: at once for claims of other namespaces, which end by the owner's word only.
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
        "Other Channels of this namespace name this oHallo channel ({}{more}), so it is not deleted: the oldest that can bind to it takes it over. \
         Make one of them Ready, change or delete them, or leave the channel in oHallo: `{release}`.",
        names.join(", ")
    )
}

fn free_message(view: &PlanInput, id: &str) -> String {
    let release = command(view, annotation::RELEASE, id);
    format!(
        "Channels of this namespace named this oHallo channel. It is deleted once none has named it for five minutes. To leave it in oHallo: `{release}`."
    )
}

/// Names no claimant and does not change with them: no namespace learns of another, and none makes another's object change.
fn owners_word(view: &PlanInput, id: &str) -> String {
    let uid = view.channel.uid().unwrap_or_default();
    let confirm = command(view, annotation::CONFIRM_DELETION, &format!("{id}/{uid}"));
    let release = annotation::RELEASE;
    format!(
        "{ELSEWHERE}, so its deletion waits for your word. To leave it in oHallo, annotate this object with {release}={id}. To delete it: `{confirm}`."
    )
}

#[cfg(test)]
mod tests;
