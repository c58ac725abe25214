//! The triggers of a reconcile: a change ends the cooldown. The status is no trigger.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use kube::ResourceExt;

use crate::api::annotation;
use crate::api::channel::Channel;
use crate::secret::KeyId;
use crate::secret_id::SecretId;
use crate::secret_version::Version;

#[derive(Clone, Debug, PartialEq)]
pub struct Triggers {
    /// generation, deletionTimestamp, own finalizer and annotations.
    pub own: u64,
    pub secrets: Vec<(SecretId, Version)>,
    /// Identity, spec and readiness of the workspace.
    pub workspace: u64,
    /// The loaded API key, if any, for a Channel that is not settled; a settled one uses a new key at its next regular read.
    pub key: Option<Option<KeyId>>,
    /// Another Channel reserves its id.
    pub conflict: bool,
    /// The claims of other Channels on the id, for a terminating Channel that is bound to it.
    pub rivals: u64,
}

// === impl Triggers ===

impl Triggers {
    /// The triggers of the object itself.
    pub fn own(channel: &Channel) -> u64 {
        if let Some(kept) = channel.spec.left_out.as_ref().and_then(|left_out| left_out.kept.as_ref()) {
            return kept.own;
        }
        let mut hasher = DefaultHasher::new();
        channel.uid().hash(&mut hasher);
        channel.metadata.generation.hash(&mut hasher);
        channel.metadata.deletion_timestamp.is_some().hash(&mut hasher);
        channel.has_finalizer().hash(&mut hasher);
        for (name, value) in
            channel.annotations().iter().filter(|(name, _)| name.starts_with(annotation::PREFIX))
        {
            (name, value).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether `now` differs from the triggers at the start of the cooldown.
    pub fn changed(&self, now: &Self) -> bool {
        let secret_changed = |(secret, was): &(SecretId, Version)| {
            let is = now.secrets.iter().find(|(other, _)| other == secret);
            let is = is.map_or(Version::Unknown, |(_, version)| *version);
            is != Version::Unknown && *was != Version::Unknown && is != *was
        };
        self.changed_but_secrets(now) || self.secrets.iter().any(secret_changed)
    }

    /// The same, ignoring the Secrets.
    pub fn changed_but_secrets(&self, now: &Self) -> bool {
        self.own != now.own
            || self.workspace != now.workspace
            || self.conflict != now.conflict
            || self.rivals != now.rivals
            || (self.key.is_some() && self.key != now.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::finalizer;
    use crate::secret::ApiKey;

    fn inputs(version: Version) -> Triggers {
        let secrets = vec![(SecretId::of("a", "s"), version)];
        Triggers { own: 1, secrets, workspace: 1, key: None, conflict: false, rivals: 0 }
    }

    #[test]
    fn a_secret_ends_the_cooldown_only_when_both_versions_are_known_and_differ() {
        let (one, two) = (Version::present("1"), Version::present("2"));
        for (was, is, opens) in [
            (&one, &one, false),
            (&one, &two, true),
            (&one, &Version::Absent, true),
            (&Version::Absent, &one, true),
            (&Version::Absent, &Version::Absent, false),
            (&one, &Version::Unknown, false),
            (&Version::Unknown, &one, false),
        ] {
            assert_eq!(inputs(*was).changed(&inputs(*is)), opens, "{was:?} {is:?}");
        }
    }

    #[test]
    fn versions_are_distinguished_and_compared_where_they_are_numbers() {
        let texts = ["1", "2", "18446744073709551615", "a", "", "1a"];
        let versions = texts.map(Version::present);
        for (i, one) in versions.iter().enumerate() {
            for (k, other) in versions.iter().enumerate() {
                assert_eq!((one == other, one.is_older(*other)), (i == k, (i, k) == (0, 1)), "{i} {k}");
            }
        }
        assert!(!Version::Absent.is_older(versions[0]) && !versions[0].is_older(Version::Unknown));
    }

    #[test]
    fn a_change_of_a_secret_is_distinguished_from_other_changes() {
        type Edit = fn(&mut Triggers);
        let key = |text: &str| Some(Some(ApiKey::new(text.to_owned()).id()));
        let rows: [(&str, Edit, bool, bool); 6] = [
            ("nothing", |_| {}, false, false),
            ("the object", |it| it.own = 2, true, true),
            ("the workspace", |it| it.workspace = 2, true, true),
            ("a conflict", |it| it.conflict = true, true, true),
            ("a claim", |it| it.rivals = 1, true, true),
            ("a Secret", |it| it.secrets = inputs(Version::Absent).secrets, true, false),
        ];
        let was = inputs(Version::present("1"));
        for (what, edit, changed, beside) in rows {
            let mut now = was.clone();
            edit(&mut now);
            assert_eq!((was.changed(&now), was.changed_but_secrets(&now)), (changed, beside), "{what}");
        }
        for (closed_with, is, opens) in [
            (None, key("a"), false),
            (None, Some(None), false),
            (Some(None), Some(None), false),
            (Some(None), key("a"), true),
            (key("a"), key("a"), false),
            (key("a"), key("b"), true),
        ] {
            let with = |key| Triggers { key, ..was.clone() };
            assert_eq!(with(closed_with).changed(&with(is)), opens, "{closed_with:?} {is:?}");
        }
    }

    #[test]
    fn only_our_annotations_the_generation_deletion_and_our_finalizer_are_inputs() {
        let channel = Channel::default();
        let changed = |edit: fn(&mut Channel)| {
            let mut other = channel.clone();
            edit(&mut other);
            Triggers::own(&other) != Triggers::own(&channel)
        };
        assert!(changed(|c| c.metadata.generation = Some(2)));
        assert!(changed(|c| c.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()])));
        assert!(changed(|c| c.metadata.annotations = Some([("ohallo.eu/x".into(), "1".into())].into())));
        assert!(!changed(|c| c.metadata.annotations = Some([("example.com/x".into(), "1".into())].into())));
        assert!(!changed(|c| c.metadata.finalizers = Some(vec!["example.com/x".into()])));
        assert!(!changed(|c| c.metadata.resource_version = Some("7".into())));
        assert!(!changed(|c| c.status = Some(Default::default())));
    }
}
