//! The objects before the apply, where only their manifests are known: as an operator leaves them that has applied these.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use ohallo_core::api::channel::Channel;
use ohallo_core::api::values::Origin;
use ohallo_core::channel::plan::delete;
use ohallo_core::channel::state::Now;
use ohallo_core::index::NamespacedName;
use ohallo_core::remote::Id;
use ohallo_core::secret_content::Content;
use serde_json::Value;

use crate::failure::Failure;
use crate::judge::Kinds;
use crate::plan::apply::{Before, Removed, apply, assume_remotes, assume_secrets, assume_workspaces};
use crate::plan::cluster_state::Secrets;
use crate::plan::dry_run::{PLACEHOLDER, dry_run};
use crate::plan::manifests::Manifests;
use crate::plan::merge::LAST_APPLIED;

/// Rehearses the base in an empty cluster. `head` completes what the base does not have.
///
/// # Errors
/// An object can't be decoded.
pub fn assume_applied(
    base: &Manifests,
    head: &Manifests,
    kinds: &Kinds,
    now: Now,
) -> Result<Before, Failure> {
    let mut applied = apply(&Before::default(), base, &Removed::default(), kinds, now.wall)?;
    let more = apply(&Before::default(), head, &Removed::default(), kinds, now.wall)?.cluster_state;
    let cluster_state = &mut applied.cluster_state;
    let specs: BTreeMap<_, _> =
        cluster_state.channels.iter().map(|(name, channel)| (name.clone(), channel.spec.clone())).collect();
    // It was created before it was suspended.
    cluster_state.channels.values_mut().for_each(|channel| channel.spec.suspend = None);
    cluster_state
        .workspaces
        .values_mut()
        .for_each(|workspace_state| workspace_state.snapshot.suspended = false);
    for (key, workspace_state) in more.workspaces {
        cluster_state.workspaces.entry(key).or_insert(workspace_state);
    }
    assume_workspaces(cluster_state, |_| true);
    cluster_state.secrets =
        secrets_before(base, head, cluster_state.channels.values().chain(more.channels.values()));
    assume_remotes(&BTreeMap::new(), cluster_state);
    let mut dry_run = dry_run(cluster_state, now);
    for (name, channel) in &mut dry_run.channels {
        if let Some(spec) = specs.get(name) {
            channel.spec.clone_from(spec);
        }
        assume_created(channel);
        if let Some(id) = pinned_by(head, name, channel)
            && let Some(status) = &mut channel.status
        {
            let assumed = status.channel_id.replace(id.to_string()).unwrap_or_default();
            dry_run.remotes.rename(&assumed, &id);
        }
        if let Some(manifest) = base.channels.get(name) {
            channel.annotations_mut().insert(LAST_APPLIED.to_owned(), manifest.to_string());
        }
    }
    let channels = dry_run.channels.iter().map(|(name, channel)| Ok((name.clone(), encode(channel)?)));
    Ok(Before {
        channels: channels.collect::<Result<_, Failure>>()?,
        workspaces: base.workspaces.clone(),
        labels: BTreeMap::new(),
        memory: dry_run.memory,
        remotes: dry_run.remotes,
        protected: BTreeSet::new(),
    })
}

/// The id that the head declares for a Channel whose base declares none: that of its channel, which users pin so.
fn pinned_by(head: &Manifests, name: &NamespacedName, channel: &Channel) -> Option<Id> {
    let declared = head.channels.get(name)?.pointer("/spec/channelId")?.as_str()?;
    let bound = channel.status.as_ref()?.channel_id.as_deref()?;
    Id::parse(declared)
        .filter(|_| channel.spec.channel_id.is_none() && bound.starts_with(PLACEHOLDER.as_str()))
}

/// A declared id is that of a channel that was adopted, or it pins one that the operator created: the manifests don't show
/// which. A plan must not hide a deletion, so it begins with the latter.
fn assume_created(channel: &mut Channel) {
    let Some(mut status) = channel.status.take() else { return };
    if status.origin.is_some() {
        status.origin = Some(Origin::Created.as_str().to_owned());
        status.deletion_policy = None;
        let policy: &str = delete::policy_in_force(channel, &status).into();
        status.deletion_policy = Some(policy.to_owned());
    }
    channel.status = Some(status);
}

/// The Secrets before the apply: a manifest that the base does not have is assumed to be unchanged.
fn secrets_before<'a>(
    base: &Manifests,
    head: &Manifests,
    channels: impl Iterator<Item = &'a Channel>,
) -> Secrets {
    let mut secrets = Secrets::default();
    replace(&mut secrets, head);
    replace(&mut secrets, base);
    assume_secrets(&mut secrets, channels);
    secrets
}

/// The Secrets after the apply. `channels`: those before and after it, so that the same entries are assumed.
pub fn secrets_after<'a>(
    base: &Manifests,
    head: &Manifests,
    channels: impl Iterator<Item = &'a Channel>,
) -> Secrets {
    let mut secrets = Secrets::default();
    for name in base.secrets.keys() {
        secrets.0.insert(name.clone(), Content::Absent);
    }
    replace(&mut secrets, head);
    assume_secrets(&mut secrets, channels);
    secrets
}

fn replace(secrets: &mut Secrets, manifests: &Manifests) {
    for (name, content) in &manifests.secrets {
        secrets.0.insert(name.clone(), content.only(|_| true));
    }
}

fn encode(channel: &Channel) -> Result<Value, Failure> {
    serde_json::to_value(channel).map_err(Failure::undecided)
}
