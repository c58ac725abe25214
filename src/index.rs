// pure
//! Who refers to what, so that an event wakes those it concerns without a scan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::channel::Channel;
use crate::api::{annotation, finalizer};

/// A namespaced name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

/// Names a Workspace (with its namespace) or a ClusterWorkspace (without).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Debug, Default)]
pub struct Index {
    channels: HashMap<Name, Entry>,
    by_secret: HashMap<Name, BTreeSet<Name>>,
    by_workspace: HashMap<Handle, BTreeSet<Name>>,
    by_id: HashMap<String, BTreeSet<Name>>,
    /// Secrets with API keys, and the workspaces that name them.
    keys: HashMap<Name, BTreeSet<Handle>>,
    /// Ids that a pass of this process is binding: id to uid.
    claims: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    uid: String,
    created: Option<Time>,
    secrets: BTreeSet<Name>,
    handle: Handle,
    ids: BTreeSet<String>,
    /// Its status holds the id.
    bound: bool,
    /// The Workspace must not go before it.
    uses: bool,
}

/// Who has to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Wakes {
    pub channels: BTreeSet<Name>,
    pub handle: Option<Handle>,
}

// === impl Name ===

impl Name {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(channel: &Channel) -> Self {
        Self::new(channel.namespace().unwrap_or_default(), channel.name_any())
    }

    pub fn object_ref(&self) -> ObjectRef<Channel> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

// === impl Handle ===

impl Handle {
    /// What `spec.workspaceRef` names.
    pub fn of(channel: &Channel) -> Self {
        let reference = channel.spec.workspace_ref.clone().unwrap_or_default();
        let namespace =
            (reference.kind != "ClusterWorkspace").then(|| channel.namespace().unwrap_or_default());
        Self { namespace, name: reference.name }
    }
}

// === impl Entry ===

impl Entry {
    fn of(channel: &Channel) -> Self {
        let namespace = channel.namespace().unwrap_or_default();
        let status = channel.status.as_ref();
        let uid = channel.uid().unwrap_or_default();
        let status_id = status.and_then(|status| status.channel_id.clone());
        let finalized = channel.finalizers().iter().any(|name| name == finalizer::CHANNEL);
        let observing = channel.spec.management_policy.as_deref() == Some("Observe");
        let gone = channel.metadata.deletion_timestamp.is_some() && !finalized;
        let bound = status_id.is_some()
            && (status.and_then(|status| status.bound_uid.as_deref()) == Some(&uid)
                || channel.spec.channel_id == status_id);
        let holds = bound || (!observing && channel.metadata.deletion_timestamp.is_none());
        let ids = [status_id.clone().filter(|_| bound), channel.spec.channel_id.clone()];
        Self {
            secrets: secrets(channel).map(|name| Name::new(&namespace, name)).collect(),
            handle: Handle::of(channel),
            ids: ids.into_iter().flatten().filter(|_| holds && !gone).collect(),
            uses: !gone
                && (status_id.is_some()
                    || finalized
                    || channel.annotations().contains_key(annotation::CREATE_INTENT)),
            created: channel.creation_timestamp(),
            bound,
            uid,
        }
    }
}

/// The Secrets that a Channel names.
pub fn secrets(channel: &Channel) -> impl Iterator<Item = &str> {
    channel.spec.credentials.iter().filter_map(|source| {
        let whole = source.secret_ref.as_ref().map(|reference| reference.name.as_str());
        whole.or(source.secret_key_ref.as_ref().map(|reference| reference.name.as_str()))
    })
}

// === impl Index ===

impl Index {
    /// Takes in a Channel as it now is.
    pub fn put(&mut self, channel: &Channel) -> Wakes {
        let name = Name::of(channel);
        let entry = Entry::of(channel);
        if self.channels.get(&name) == Some(&entry) {
            return Wakes::default();
        }
        let mut wakes = self.remove(&name);
        for secret in &entry.secrets {
            self.by_secret.entry(secret.clone()).or_default().insert(name.clone());
        }
        self.by_workspace.entry(entry.handle.clone()).or_default().insert(name.clone());
        for id in &entry.ids {
            self.by_id.entry(id.clone()).or_default().insert(name.clone());
        }
        // A claim ends when the binding has reached the API server, and when the manifest names another id.
        self.claims.retain(|id, uid| *uid != entry.uid || (!entry.bound && entry.ids.contains(id)));
        wakes.handle = wakes.handle.or_else(|| entry.uses.then(|| entry.handle.clone()));
        wakes.channels.remove(&name);
        self.channels.insert(name, entry);
        wakes
    }

    /// Forgets a Channel.
    pub fn remove(&mut self, name: &Name) -> Wakes {
        let Some(entry) = self.channels.remove(name) else { return Wakes::default() };
        let mut wakes = Wakes { handle: entry.uses.then(|| entry.handle.clone()), ..Wakes::default() };
        for secret in &entry.secrets {
            drop_from(&mut self.by_secret, secret, name);
        }
        drop_from(&mut self.by_workspace, &entry.handle, name);
        for id in &entry.ids {
            drop_from(&mut self.by_id, id, name);
            wakes.channels.extend(self.by_id.get(id).into_iter().flatten().cloned());
        }
        wakes
    }

    /// Forgets every Channel that is not there any more; its name and uid.
    pub fn retain(&mut self, there: impl Fn(&Name) -> bool) -> Vec<(Name, String, Wakes)> {
        let gone: Vec<_> = self
            .channels
            .iter()
            .filter(|(name, _)| !there(name))
            .map(|(n, e)| (n.clone(), e.uid.clone()))
            .collect();
        gone.into_iter()
            .map(|(name, uid)| {
                let wakes = self.remove(&name);
                (name, uid, wakes)
            })
            .collect()
    }

    /// Frees the claims of an object that is gone or was refused.
    pub fn unclaim(&mut self, uid: &str) {
        self.claims.retain(|_, holder| holder != uid);
    }

    /// Reserves an id while it is being bound; `false` where another object has done so.
    pub fn claim(&mut self, id: &str, uid: &str) -> bool {
        self.claims.entry(id.to_owned()).or_insert_with(|| uid.to_owned()) == uid
    }

    /// The Channel that holds this id before `me`: the one whose status has it, else the one that is binding it, else the oldest.
    pub fn owner(&self, id: &str, me: &Name, my_uid: &str) -> Option<Name> {
        let claimed = self.claims.get(id);
        let rank = |name: &Name, entry: &Entry| {
            let claims = claimed == Some(&entry.uid);
            (
                !(entry.bound && entry.ids.contains(id)),
                !claims,
                entry.created.clone(),
                entry.uid.clone(),
                name.clone(),
            )
        };
        let holders = self.by_id.get(id)?;
        let ranked = holders.iter().filter_map(|name| Some((rank(name, self.channels.get(name)?), name)));
        let (best, name) = ranked.min_by(|a, b| a.0.cmp(&b.0))?;
        (best.3 != my_uid && name != me).then(|| name.clone())
    }

    pub fn users_of_secret(&self, secret: &Name) -> Vec<Name> {
        self.by_secret.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Takes in the Secret that a workspace names; `None` for a workspace that is gone.
    pub fn put_key(&mut self, handle: &Handle, secret: Option<Name>) {
        self.keys.retain(|_, handles| {
            handles.remove(handle);
            !handles.is_empty()
        });
        if let Some(secret) = secret {
            self.keys.entry(secret).or_default().insert(handle.clone());
        }
    }

    pub fn workspaces_of_key(&self, secret: &Name) -> Vec<Handle> {
        self.keys.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Whether anything names this Secret.
    pub fn uses_secret(&self, secret: &Name) -> bool {
        self.by_secret.contains_key(secret) || self.keys.contains_key(secret)
    }

    pub fn users_of_workspace(&self, handle: &Handle) -> Vec<Name> {
        self.by_workspace.get(handle).into_iter().flatten().cloned().collect()
    }

    /// How many Channels name this workspace.
    pub fn count(&self, handle: &Handle) -> usize {
        self.by_workspace.get(handle).map_or(0, BTreeSet::len)
    }

    /// Whether a Channel with an id, an intent or our finalizer names this workspace.
    pub fn in_use(&self, handle: &Handle) -> bool {
        let users = self.by_workspace.get(handle).into_iter().flatten();
        users.filter_map(|name| self.channels.get(name)).any(|entry| entry.uses)
    }

    /// Channels of a namespace that name a ClusterWorkspace.
    pub fn cluster_users_in(&self, namespace: &str) -> Vec<Name> {
        let shared = self.by_workspace.iter().filter(|(handle, _)| handle.namespace.is_none());
        shared.flat_map(|(_, names)| names).filter(|name| name.namespace == namespace).cloned().collect()
    }
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str, created: i64) -> Channel {
        let mut channel = Channel::new(name, Default::default());
        channel.metadata.namespace = Some("ns".into());
        channel.metadata.uid = Some(format!("uid-{name}"));
        channel.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
        channel
    }

    fn wanting(name: &str, created: i64, id: &str) -> Channel {
        let mut channel = channel(name, created);
        channel.spec.channel_id = Some(id.into());
        channel
    }

    fn bound(mut channel: Channel, id: &str) -> Channel {
        let status = channel.status.get_or_insert_default();
        status.channel_id = Some(id.into());
        status.bound_uid.clone_from(&channel.metadata.uid);
        channel
    }

    /// What Channels use that name none.
    fn workspace() -> Handle {
        Handle { namespace: Some("ns".into()), name: "default".into() }
    }

    fn owner(index: &Index, of: &Channel) -> Option<String> {
        let id = of.spec.channel_id.clone().unwrap();
        index.owner(&id, &Name::of(of), &of.uid().unwrap()).map(|name| name.name)
    }

    #[test]
    fn one_id_has_one_owner() {
        let (old, young) = (wanting("old", 1, "c1"), wanting("young", 2, "c1"));
        let mut index = Index::default();
        index.put(&old);
        index.put(&young);
        assert_eq!(owner(&index, &old), None);
        assert_eq!(owner(&index, &young), Some("old".into()));
        assert!(index.claim("c1", "uid-young"));
        assert!(!index.claim("c1", "uid-old"));
        assert_eq!(owner(&index, &old), Some("young".into()), "who is binding it goes before the older");
        index.unclaim("uid-young");
        index.put(&bound(young.clone(), "c1"));
        assert_eq!(owner(&index, &old), Some("young".into()), "who holds it goes before the older");
    }

    #[test]
    fn each_kind_of_hold_on_an_id_and_on_a_workspace() {
        type Edit = fn(&mut Channel);
        fn observe(it: &mut Channel) {
            it.spec.management_policy = Some("Observe".into());
        }
        fn terminate(it: &mut Channel) {
            it.metadata.deletion_timestamp = it.metadata.creation_timestamp.clone();
        }
        fn finalize(it: &mut Channel) {
            it.metadata.finalizers = Some(vec!["x.io/y".into(), finalizer::CHANNEL.into()]);
        }
        fn bind(it: &mut Channel) {
            *it = bound(it.clone(), "c1");
        }
        fn copy(it: &mut Channel) {
            bind(it);
            it.status.as_mut().unwrap().bound_uid = Some("uid-0".into());
        }
        fn want(it: &mut Channel) {
            it.spec.channel_id = Some("c1".into());
        }
        let rows: [(&str, &[Edit], bool, bool); 17] = [
            ("new", &[], false, false),
            ("wants it", &[want], true, false),
            ("wants to observe it", &[want, observe], false, false),
            ("wants it and goes", &[want, finalize, terminate], false, true),
            ("wants it and is gone", &[want, terminate], false, false),
            ("bound", &[bind], true, true),
            ("bound and observing", &[bind, observe], true, true),
            ("bound and going", &[bind, finalize, terminate], true, true),
            ("bound and gone", &[bind, terminate], false, false),
            ("with the status of another", &[copy], false, true),
            ("with the status of another that it wants to observe", &[copy, want, observe], true, true),
            ("finalized", &[finalize], false, true),
            ("finalized and gone", &[finalize, terminate, |it| it.metadata.finalizers = None], false, false),
            (
                "with the finalizer of another",
                &[|it| it.metadata.finalizers = Some(vec!["x.io/y".into()])],
                false,
                false,
            ),
            (
                "with an intent",
                &[|it| it.annotations_mut().extend([(annotation::CREATE_INTENT.into(), "i".into())])],
                false,
                true,
            ),
            (
                "with another annotation",
                &[|it| it.annotations_mut().extend([("a".into(), "i".into())])],
                false,
                false,
            ),
            (
                "of a ClusterWorkspace",
                &[want, bind, |it| {
                    it.spec.workspace_ref.get_or_insert_default().kind = "ClusterWorkspace".into()
                }],
                true,
                false,
            ),
        ];
        for (what, edits, holds, uses) in rows {
            let mut channel = channel("a", 1);
            edits.iter().for_each(|edit| edit(&mut channel));
            let mut index = Index::default();
            index.put(&channel);
            let owner = index.owner("c1", &Name::new("ns", "b"), "uid-b");
            assert_eq!(owner, holds.then(|| Name::of(&channel)), "{what}");
            assert_eq!(index.in_use(&workspace()), uses, "{what}");
        }
    }

    #[test]
    fn a_claim_ends_with_the_manifest_that_named_the_id() {
        let mut index = Index::default();
        index.put(&wanting("a", 2, "c1"));
        assert!(index.claim("c1", "uid-a"));
        index.put(&wanting("b", 1, "c1"));
        assert!(!index.claim("c1", "uid-b"), "a is binding it");
        index.put(&wanting("a", 2, "c2"));
        assert!(index.claim("c1", "uid-b"), "a wants another one now");
    }

    #[test]
    fn a_claim_lasts_while_its_object_is_binding_whatever_else_changes() {
        let mut index = Index::default();
        let mut binding = wanting("a", 2, "c1");
        index.put(&binding);
        assert!(index.claim("c1", "uid-a") && index.claim("c2", "uid-z"));
        index.put(&channel("b", 1));
        assert!(!index.claim("c1", "uid-b"), "another object has changed");
        binding.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
        index.put(&binding);
        assert!(!index.claim("c1", "uid-b"), "it has changed and binds still");
        index.unclaim("uid-z");
        assert!(!index.claim("c1", "uid-b") && index.claim("c2", "uid-b"), "another's was freed");
        index.put(&bound(binding, "c1"));
        assert!(index.claim("c1", "uid-b"), "it is bound: its status speaks for it");
    }

    #[test]
    fn an_object_that_was_made_again_under_its_name_is_not_its_own_rival() {
        let mut index = Index::default();
        index.put(&wanting("a", 1, "c1"));
        assert_eq!(index.owner("c1", &Name::new("ns", "a"), "uid-of-the-next"), None);
        assert_eq!(index.owner("c1", &Name::new("ns", "moved"), "uid-a"), None);
    }

    #[test]
    fn forgets_what_is_not_there_any_more_and_tells_whom_that_wakes() {
        let mut index = Index::default();
        index.put(&bound(wanting("a", 1, "c1"), "c1"));
        index.put(&wanting("b", 2, "c1"));
        let gone = index.retain(|name| name.name == "b");
        let wakes = Wakes { channels: [Name::new("ns", "b")].into(), handle: Some(workspace()) };
        assert_eq!(gone, [(Name::new("ns", "a"), "uid-a".into(), wakes)]);
        assert_eq!(index.retain(|_| true), []);
        assert_eq!(index.users_of_workspace(&workspace()), [Name::new("ns", "b")]);
        let reference = Name::new("ns", "b").object_ref();
        assert_eq!(reference, ObjectRef::new("b").within("ns"), "and a name is looked up where it is");
    }

    #[test]
    fn knows_the_workspaces_that_name_a_key_as_they_now_are() {
        let (key, next) = (Name::new("ns", "key"), Name::new("ns", "next"));
        let shared = Handle { namespace: None, name: "default".into() };
        let mut index = Index::default();
        let mut put = |handle: &Handle, secret: Option<&Name>| {
            index.put_key(handle, secret.cloned());
            [&key, &next].map(|name| (index.workspaces_of_key(name), index.uses_secret(name)))
        };
        let none = || (Vec::new(), false);
        assert_eq!(put(&workspace(), Some(&key)), [(vec![workspace()], true), none()]);
        assert_eq!(put(&shared, Some(&key)), [(vec![shared.clone(), workspace()], true), none()]);
        assert_eq!(put(&workspace(), Some(&next)), [(vec![shared.clone()], true), (vec![workspace()], true)]);
        assert_eq!(put(&shared, None), [none(), (vec![workspace()], true)]);
    }

    #[test]
    fn knows_the_users_of_a_cluster_workspace_by_their_namespace() {
        let shared = |mut channel: Channel| {
            channel.spec.workspace_ref.get_or_insert_default().kind = "ClusterWorkspace".into();
            channel
        };
        let mut index = Index::default();
        let mut elsewhere = shared(channel("b", 1));
        elsewhere.metadata.namespace = Some("other".into());
        for channel in [&shared(channel("a", 1)), &elsewhere, &channel("c", 1)] {
            index.put(channel);
        }
        assert_eq!(index.cluster_users_in("ns"), [Name::new("ns", "a")]);
        assert_eq!(index.users_of_workspace(&workspace()), [Name::new("ns", "c")]);
        let both = Handle { namespace: None, name: "default".into() };
        assert_eq!((index.count(&both), index.count(&workspace())), (2, 1));
    }

    #[test]
    fn a_loser_is_woken_when_the_winner_goes() {
        let mut index = Index::default();
        index.put(&bound(wanting("a", 1, "c1"), "c1"));
        index.put(&wanting("b", 2, "c1"));
        let wakes = index.remove(&Name::new("ns", "a"));
        assert_eq!(wakes.channels, [Name::new("ns", "b")].into());
        assert_eq!(owner(&index, &wanting("b", 2, "c1")), None);
    }

    #[test]
    fn a_workspace_is_in_use_while_a_channel_holds_something() {
        let mut index = Index::default();
        let handle = workspace();
        index.put(&channel("a", 1));
        assert!(!index.in_use(&handle));
        let wakes = index.put(&bound(channel("a", 1), "c1"));
        assert_eq!(wakes.handle, Some(handle.clone()));
        assert!(index.in_use(&handle));
        assert_eq!(index.put(&bound(channel("a", 1), "c1")), Wakes::default());
        assert_eq!(index.remove(&Name::new("ns", "a")).handle, Some(handle.clone()));
        assert!(!index.in_use(&handle));
    }

    #[test]
    fn knows_the_users_of_a_secret_as_they_now_are() {
        let mut index = Index::default();
        let mut user = channel("a", 1);
        user.spec.credentials = vec![crate::api::channel::CredentialSource {
            secret_ref: Some(crate::api::channel::SecretRef { name: "s".into(), optional: None }),
            ..Default::default()
        }];
        index.put(&user);
        assert_eq!(index.users_of_secret(&Name::new("ns", "s")), [Name::new("ns", "a")]);
        assert!(index.uses_secret(&Name::new("ns", "s")) && !index.uses_secret(&Name::new("ns", "t")));
        user.spec.credentials.clear();
        index.put(&user);
        assert!(index.users_of_secret(&Name::new("ns", "s")).is_empty());
    }
}
