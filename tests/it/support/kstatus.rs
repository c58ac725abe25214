//! What must hold of a Channel's conditions at every moment, so that GitOps tools read them right.

use ohallo_core::api::channel::Channel;

const ONLY_WHILE_TRUE: [&str; 5] = ["Reconciling", "Stalled", "Drifted", "Suspended", "DeletionBlocked"];

/// The rules that this version of the object breaks.
pub fn broken(channel: &Channel) -> Vec<String> {
    let Some(status) = &channel.status else { return Vec::new() };
    let mut broken = Vec::new();
    let find = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    if find("Reconciling").is_some() && find("Stalled").is_some() {
        broken.push("Reconciling and Stalled together".to_owned());
    }
    if find("Ready").is_none() && !status.conditions.is_empty() {
        broken.push("no Ready".to_owned());
    }
    for kind in ONLY_WHILE_TRUE {
        if find(kind).is_some_and(|condition| condition.status != "True") {
            broken.push(format!("{kind} is there and not True"));
        }
    }
    if let Some(ready) = find("Ready") {
        for kind in ["Reconciling", "Stalled"] {
            if find(kind).is_some_and(|other| other.reason != ready.reason) {
                broken.push(format!("{kind} has another reason than Ready"));
            }
        }
        if ready.status == "True" && (find("Reconciling").is_some() || find("Stalled").is_some()) {
            broken.push("Ready is True beside Reconciling or Stalled".to_owned());
        }
    }
    let generation = channel.metadata.generation;
    if status.observed_generation > generation {
        broken.push("observedGeneration is ahead".to_owned());
    }
    for condition in &status.conditions {
        if condition.observed_generation.is_none() || condition.observed_generation > generation {
            broken.push(format!("{} has no or a wrong observedGeneration", condition.type_));
        }
        if condition.message.contains('\n')
            || condition.message.len() > 4096
            || condition.message.trim() != condition.message
        {
            broken.push(format!("{} has no clean message", condition.type_));
        }
    }
    broken
}
