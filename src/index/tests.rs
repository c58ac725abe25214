use super::*;
use crate::secret_id::SecretId;

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
        [&key, &next].map(|name| {
            let id = SecretId::of(&name.namespace, &name.name);
            (index.workspaces_of_key(id), index.uses_secret(id))
        })
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
    let [s, t] = ["s", "t"].map(|name| SecretId::of("ns", name));
    assert_eq!(index.users_of_secret(s), [Name::new("ns", "a")]);
    assert!(index.uses_secret(s) && !index.uses_secret(t));
    user.spec.credentials.clear();
    index.put(&user);
    assert!(index.users_of_secret(s).is_empty());
}

#[test]
fn thousands_of_channels_that_come_and_go_leave_the_index_as_it_began() {
    let mut index = Index::default();
    let empty = format!("{index:?}");
    for round in 0..3000_usize {
        let mut one = bound(channel(&format!("c{}", round % 50), 1), &format!("id-{}", round % 7));
        one.spec.credentials = (0..round % 5)
            .map(|number| crate::api::channel::CredentialSource {
                secret_ref: Some(crate::api::channel::SecretRef {
                    name: format!("s{}", (round * 31 + number) % 400),
                    optional: None,
                }),
                ..Default::default()
            })
            .collect();
        index.put(&one);
        index.put_key(&Handle::of(&one), (round % 2 == 0).then(|| Name::new("ns", format!("key-{round}"))));
        if round % 3 == 0 {
            index.remove(&Name::of(&one));
        }
    }
    index.retain(|_| false);
    index.put_key(&Handle { namespace: Some("ns".into()), name: "default".into() }, None);
    assert_eq!(format!("{index:?}"), empty);
}
