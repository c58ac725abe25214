//! The objects before the apply, where only their manifests are known: as an operator leaves them that has applied these.

use std::collections::BTreeMap;

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
use crate::plan::apply::{Before, Removed, apply, suppose_remotes, suppose_secrets, suppose_workspaces};
use crate::plan::manifests::Manifests;
use crate::plan::merge::LAST_APPLIED;
use crate::plan::rehearsal::{IMAGINED, rehearse};
use crate::plan::world::Secrets;

/// Rehearses the base in an empty cluster. `head` completes what the base does not have.
///
/// # Errors
/// An object can't be decoded.
pub fn imagine(base: &Manifests, head: &Manifests, kinds: &Kinds, now: Now) -> Result<Before, Failure> {
    let mut applied = apply(&Before::default(), base, &Removed::default(), kinds, now.wall)?;
    let more = apply(&Before::default(), head, &Removed::default(), kinds, now.wall)?.world;
    let world = &mut applied.world;
    let specs: BTreeMap<_, _> =
        world.channels.iter().map(|(name, channel)| (name.clone(), channel.spec.clone())).collect();
    // It was created before it was suspended.
    world.channels.values_mut().for_each(|channel| channel.spec.suspend = None);
    world.workspaces.values_mut().for_each(|place| place.snapshot.suspended = false);
    for (key, place) in more.workspaces {
        world.workspaces.entry(key).or_insert(place);
    }
    suppose_workspaces(world, |_| true);
    world.secrets = secrets_before(base, head, world.channels.values().chain(more.channels.values()));
    suppose_remotes(&BTreeMap::new(), world);
    let mut rehearsed = rehearse(world, now);
    for (name, channel) in &mut rehearsed.channels {
        if let Some(spec) = specs.get(name) {
            channel.spec.clone_from(spec);
        }
        suppose_created(channel);
        if let Some(id) = pinned_by(head, name, channel)
            && let Some(status) = &mut channel.status
        {
            let imagined = status.channel_id.replace(id.to_string()).unwrap_or_default();
            rehearsed.remotes.rename(&imagined, &id);
        }
        if let Some(manifest) = base.channels.get(name) {
            channel.annotations_mut().insert(LAST_APPLIED.to_owned(), manifest.to_string());
        }
    }
    let channels = rehearsed.channels.iter().map(|(name, channel)| Ok((name.clone(), encode(channel)?)));
    Ok(Before {
        channels: channels.collect::<Result<_, Failure>>()?,
        workspaces: base.workspaces.clone(),
        labels: BTreeMap::new(),
        memory: rehearsed.memory,
        remotes: rehearsed.remotes,
    })
}

/// The id that the head declares for a Channel whose base declares none: that of its channel, which users pin so.
fn pinned_by(head: &Manifests, name: &NamespacedName, channel: &Channel) -> Option<Id> {
    let declared = head.channels.get(name)?.pointer("/spec/channelId")?.as_str()?;
    let bound = channel.status.as_ref()?.channel_id.as_deref()?;
    Id::parse(declared).filter(|_| channel.spec.channel_id.is_none() && bound.starts_with(IMAGINED))
}

/// A declared id is that of a channel that was adopted, or it pins one that the operator created: the manifests don't show
/// which. A plan must not hide a deletion, so it begins with the latter.
fn suppose_created(channel: &mut Channel) {
    let Some(mut status) = channel.status.take() else { return };
    if status.origin.is_some() {
        status.origin = Some(Origin::Created.as_str().to_owned());
        status.deletion_policy = None;
        let policy: &str = delete::policy_in_force(channel, &status).into();
        status.deletion_policy = Some(policy.to_owned());
    }
    channel.status = Some(status);
}

/// The Secrets before the apply: a manifest that the base does not have is supposed to be unchanged.
fn secrets_before<'a>(
    base: &Manifests,
    head: &Manifests,
    channels: impl Iterator<Item = &'a Channel>,
) -> Secrets {
    let mut secrets = Secrets::default();
    replace(&mut secrets, head);
    replace(&mut secrets, base);
    suppose_secrets(&mut secrets, channels);
    secrets
}

/// The Secrets after the apply. `channels`: those before and after it, so that the same entries are supposed.
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
    suppose_secrets(&mut secrets, channels);
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
