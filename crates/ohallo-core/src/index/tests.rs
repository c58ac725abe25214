use super::*;
use crate::api::annotation;
use crate::api::finalizer;
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

/// The default workspace.
fn workspace() -> WorkspaceKey {
    WorkspaceKey { namespace: Some("ns".into()), name: "default".into() }
}

fn owner(index: &Index, of: &Channel) -> Option<String> {
    let id = of.spec.channel_id.clone().unwrap();
    index.owner(&id, &NamespacedName::of(of), &of.uid().unwrap()).map(|name| name.name)
}

fn in_namespace(mut channel: Channel, namespace: &str) -> Channel {
    channel.metadata.namespace = Some(namespace.into());
    channel
}

fn terminating(mut channel: Channel) -> Channel {
    channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
    channel.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::from_second(1_000).unwrap()));
    channel
}

fn judge(index: &mut Index, channel: &Channel, shown: Shown) -> Vec<String> {
    let id = channel.spec.channel_id.clone().unwrap_or_default();
    names(index.judge(&NamespacedName::of(channel), &channel.uid().unwrap(), &id, shown))
}

fn claim(index: &mut Index, channel: &Channel, id: &str) -> bool {
    index.claim(id, &NamespacedName::of(channel), &channel.uid().unwrap(), Claim::Adopt)
}

fn names(requeues: Requeues) -> Vec<String> {
    requeues.channels.into_iter().map(|name| name.name).collect()
}

fn holder(index: &Index, id: &str) -> Option<String> {
    index.owner(id, &NamespacedName::new("", ""), "").map(|name| name.name)
}

#[test]
fn one_id_has_one_owner() {
    let (old, young) = (wanting("old", 1, "c1"), wanting("young", 2, "c1"));
    let mut index = Index::default();
    index.put(&old);
    index.put(&young);
    assert_eq!(holder(&index, "c1"), None, "no read returned the id");
    judge(&mut index, &young, Shown::Able);
    assert_eq!(owner(&index, &old), Some("young".into()), "who only names it holds nothing");
    judge(&mut index, &old, Shown::Able);
    assert_eq!((owner(&index, &old), owner(&index, &young)), (None, Some("old".into())));
    assert!(claim(&mut index, &young, "c1") && !claim(&mut index, &old, "c1"));
    assert_eq!(
        owner(&index, &old),
        Some("young".into()),
        "the Channel that is binding it precedes the older one"
    );
    index.unclaim("uid-young");
    index.put(&bound(young.clone(), "c1"));
    assert_eq!(owner(&index, &old), Some("young".into()), "the bound Channel precedes the older one");
}

#[test]
fn of_several_bound_channels_a_living_one_is_first_and_then_the_older() {
    let channels = ["a", "b", "c"].map(|name| bound(channel(name, 0), "c1"));
    let [mut a, mut b, mut c] = channels;
    for (channel, created) in [(&mut a, 1), (&mut b, 2), (&mut c, 3)] {
        channel.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
    }
    let mut index = Index::default();
    for (channel, expected) in [(&c, "c"), (&b, "b"), (&a, "a")] {
        index.put(channel);
        assert_eq!(holder(&index, "c1").as_deref(), Some(expected), "the oldest");
    }
    for (channel, expected) in [(&a, "b"), (&b, "c"), (&c, "a")] {
        index.put(&terminating(channel.clone()));
        assert_eq!(holder(&index, "c1").as_deref(), Some(expected), "a living one first");
    }
    let me = NamespacedName::of(&b);
    assert!(index.rivals("c1", &me).outranked && !index.rivals("c1", &NamespacedName::of(&a)).outranked);
    assert_eq!(index.rivals("c1", &me).heir, None);
}

#[test]
fn two_spellings_of_a_uuid_are_one_id() {
    let (lower, upper) = ("d4e5f6a7-b8c9-0123-def0-456789abcdef", "D4E5F6A7-B8C9-0123-DEF0-456789ABCDEF");
    let (a, b) = (bound(channel("a", 1), lower), wanting("b", 2, upper));
    let mut index = Index::default();
    index.put(&a);
    index.put(&b);
    assert_eq!(owner(&index, &b), Some("a".into()));
    assert!(claim(&mut index, &a, upper) && !claim(&mut index, &b, lower));
    assert_eq!(index.rivals(upper, &NamespacedName::of(&a)).beside, [NamespacedName::of(&b)]);
    judge(&mut index, &b, Shown::Able);
    assert!(index.has_right(lower, &NamespacedName::of(&b), "uid-b"));
}

#[test]
fn only_a_bound_or_adopting_channel_with_a_successful_read_owns_an_id() {
    type Edit = fn(&mut Channel);
    let rows: [(&str, Edit, Shown, bool); 9] = [
        ("shown to read it", |_| {}, Shown::Able, true),
        ("shown, and does not fit", |_| {}, Shown::Reads, false),
        ("not shown", |_| {}, Shown::Nothing, false),
        ("of a namespace that is not allowed", |_| {}, Shown::Denied, false),
        ("suspended", |it| it.spec.suspend = Some(true), Shown::Able, false),
        ("observing", |it| it.spec.management_policy = Some("Observe".into()), Shown::Able, false),
        ("terminating", |it| *it = terminating(it.clone()), Shown::Able, false),
        ("names another", |it| it.spec.channel_id = Some("c2".into()), Shown::Able, false),
        ("with a copied status", |it| it.status = copied_status("c1"), Shown::Able, true),
    ];
    for (what, edit, shown, holds) in rows {
        let mut one = wanting("a", 1, "c1");
        edit(&mut one);
        let mut index = Index::default();
        index.put(&one);
        judge(&mut index, &one, shown);
        assert_eq!(holder(&index, "c1"), holds.then(|| "a".into()), "{what}");
    }
}

fn copied_status(id: &str) -> Option<crate::api::channel::ChannelStatus> {
    bound(channel("of-another", 1), id).status
}

#[test]
fn what_a_read_has_shown_ends_with_the_manifest_that_it_was_for() {
    let mut index = Index::default();
    let mut one = wanting("a", 1, "c1");
    index.put(&one);
    judge(&mut index, &one, Shown::Able);
    one.metadata.generation = Some(2);
    index.put(&one);
    assert_eq!(holder(&index, "c1"), None, "the config may not fit any more");
    assert!(index.has_right("c1", &NamespacedName::of(&one), "uid-a"), "it can read the id all the same");
    judge(&mut index, &one, Shown::Nothing);
    assert!(
        index.has_right("c1", &NamespacedName::of(&one), "uid-a"),
        "a right lasts while the object names the id"
    );
    one.spec.channel_id = Some("c2".into());
    index.put(&one);
    assert!(
        !index.has_right("c1", &NamespacedName::of(&one), "uid-a")
            && !index.has_right("c2", &NamespacedName::of(&one), "uid-a")
    );
    judge(&mut index, &one, Shown::Able);
    one.metadata.uid = Some("uid-of-the-next".into());
    index.put(&one);
    assert_eq!(holder(&index, "c2"), None, "another object has the name now");
}

#[test]
fn when_the_owner_of_an_id_that_thousands_name_is_deleted_one_of_them_is_requeued() {
    let many = 2_500;
    let mut index = Index::default();
    let first = bound(channel("bound", 0), "c1");
    let mut requeues = names(index.put(&first)).len();
    let all: Vec<_> = (0..many).map(|at| wanting(&format!("w{at:04}"), at + 1, "c1")).collect();
    for one in &all {
        requeues += names(index.put(one)).len();
        requeues += judge(&mut index, one, Shown::Able).len();
    }
    assert_eq!(requeues, 0, "no Channel can act while the owner exists");
    assert_eq!(names(index.remove(&NamespacedName::of(&first))), ["w0000"]);
    // Each Channel that can act fails to bind, and the next one is requeued.
    for (at, one) in all.iter().enumerate() {
        requeues += judge(&mut index, one, Shown::Nothing).len();
        requeues += names(index.put(one)).len();
        assert_eq!(requeues, (at + 1).min(all.len() - 1));
    }
}

#[test]
fn a_deletion_requeues_only_the_oldest_heir_and_then_the_old_one() {
    let mut index = Index::default();
    let old = bound(channel("old", 0), "c1");
    index.put(&old);
    let heirs: Vec<_> = (0..100).map(|at| wanting(&format!("w{at:04}"), at + 1, "c1")).collect();
    for heir in &heirs {
        index.put(heir);
        judge(&mut index, heir, Shown::Able);
    }
    let elsewhere = in_namespace(wanting("elsewhere", 1_000, "c1"), "other");
    index.put(&elsewhere);
    judge(&mut index, &elsewhere, Shown::Able);
    let old = terminating(old);
    assert_eq!(names(index.put(&old)), ["w0000"]);
    let (name, id) = (NamespacedName::of(&old), "c1");
    assert_eq!(index.takes_over(id, &NamespacedName::of(&heirs[0])), Some(name.clone()));
    assert_eq!(index.takes_over(id, &NamespacedName::of(&heirs[1])), None, "the oldest only");
    assert_eq!(index.takes_over(id, &NamespacedName::of(&elsewhere)), None, "of the same namespace only");
    assert!(index.claim(id, &name, "uid-old", Claim::Delete));
    assert_eq!(index.takes_over(id, &NamespacedName::of(&heirs[0])), None, "a DELETE is under way");
    assert!(!claim(&mut index, &heirs[0], id));
    assert_eq!(names(index.unclaim("uid-old")), ["w0000"], "and has ended");
    assert_eq!(names(index.remove(&name)), ["w0000"], "who could inherit holds the id now");
    index.put(&old);
    assert!(claim(&mut index, &heirs[0], id));
    assert!(!index.claim(id, &name, "uid-old", Claim::Delete), "the hand-over is under way");
    assert_eq!(names(index.put(&bound(heirs[0].clone(), id))), ["old"]);
    assert_eq!(index.rivals(id, &name).heir, Some(NamespacedName::of(&heirs[0])));
}

#[test]
fn a_deletion_that_waits_is_requeued_when_what_it_waits_for_changes() {
    let mut index = Index::default();
    let old = terminating(bound(channel("old", 0), "c1"));
    index.put(&old);
    let (mut copy, other) = (channel("copy", 1), in_namespace(wanting("other", 1, "c1"), "zz"));
    copy.status = copied_status("c1");
    let me = NamespacedName::of(&old);
    let rivals = |index: &Index| index.rivals("c1", &me);
    assert_eq!(names(index.put(&copy)), ["old"]);
    assert_eq!(rivals(&index).beside, [NamespacedName::of(&copy)], "a copied status names the id");
    assert_eq!(names(index.put(&other)), ["old"]);
    assert_eq!(rivals(&index).elsewhere, Elsewhere::Named);
    assert_eq!(judge(&mut index, &other, Shown::Reads), ["old"]);
    assert_eq!(rivals(&index).elsewhere, Elsewhere::Shown);
    assert_eq!(index.claimants_elsewhere("c1", "ns"), [NamespacedName::of(&other)]);
    assert_eq!(index.claimant_namespaces("c1", &me, 8), ["ns", "zz"]);
    assert_eq!(index.claimant_namespaces("c1", &me, 1), ["ns"]);
    assert_eq!(names(index.remove(&NamespacedName::of(&copy))), ["old"]);
    assert_eq!(names(index.put(&terminating(other))), ["old"], "a terminating Channel claims nothing");
    assert_eq!(rivals(&index), Rivals::default());
}

#[test]
fn claims_of_other_namespaces_are_found_on_both_sides_of_ones_own() {
    for namespace in ["a", "m", "m-1", "z"] {
        let mut index = Index::default();
        let old = in_namespace(terminating(bound(channel("old", 0), "c1")), "m");
        index.put(&old);
        for of in ["m", namespace] {
            let one = in_namespace(wanting("one", 1, "c1"), of);
            index.put(&one);
            judge(&mut index, &one, Shown::Reads);
        }
        let outside = namespace != "m";
        let expected = if outside { Elsewhere::Shown } else { Elsewhere::Nobody };
        assert_eq!(index.rivals("c1", &NamespacedName::of(&old)).elsewhere, expected, "{namespace}");
        assert_eq!(index.claimants_elsewhere("c1", "m").len(), usize::from(outside), "{namespace}");
    }
}

#[test]
fn names_at_most_a_few_claimants() {
    let mut index = Index::default();
    let old = terminating(bound(channel("old", 0), "c1"));
    index.put(&old);
    for at in 0..5 {
        index.put(&wanting(&format!("w{at}"), at + 1, "c1"));
    }
    let rivals = index.rivals("c1", &NamespacedName::of(&old));
    let found: Vec<_> = rivals.beside.iter().map(|name| name.name.as_str()).collect();
    assert_eq!((found.as_slice(), rivals.more), (["w0", "w1", "w2"].as_slice(), true), "the oldest");
}

#[test]
fn only_a_bound_channel_or_an_unresolved_create_of_an_allowed_namespace_keeps_a_workspace() {
    type Edit = fn(&mut Channel);
    fn finalize(it: &mut Channel) {
        it.metadata.finalizers = Some(vec!["x.io/y".into(), finalizer::CHANNEL.into()]);
    }
    fn bind(it: &mut Channel) {
        *it = bound(it.clone(), "c1");
    }
    fn unresolved(it: &mut Channel) {
        let create =
            crate::api::channel::CreateStatus { attempt: 1, outcome: "Unknown".into(), sent_at: None };
        it.status.get_or_insert_default().create = Some(create);
    }
    let rows: [(&str, &[Edit], bool, bool); 11] = [
        ("new", &[], false, false),
        ("names an id", &[|it| it.spec.channel_id = Some("c1".into())], false, false),
        ("bound", &[bind], true, true),
        ("bound and observing", &[bind, |it| it.spec.management_policy = Some("Observe".into())], true, true),
        ("bound and going", &[bind, |it| *it = terminating(it.clone())], true, true),
        (
            "bound and deleted",
            &[bind, |it| *it = terminating(it.clone()), |it| it.metadata.finalizers = None],
            false,
            false,
        ),
        ("with the status of another", &[|it| it.status = copied_status("c1")], false, false),
        ("with our finalizer", &[finalize], false, false),
        (
            "with our annotation",
            &[|it| it.annotations_mut().extend([(annotation::CREATE_INTENT.into(), "i".into())])],
            false,
            false,
        ),
        ("with an unresolved create", &[unresolved], true, false),
        (
            "with a create that was refused",
            &[unresolved, |it| {
                it.status.as_mut().unwrap().create.as_mut().unwrap().outcome = "Rejected".into()
            }],
            false,
            false,
        ),
    ];
    for (what, edits, allowed, denied) in rows {
        let mut channel = channel("a", 1);
        edits.iter().for_each(|edit| edit(&mut channel));
        let mut index = Index::default();
        index.put(&channel);
        let found = [true, false].map(|allows| index.in_use(&workspace(), |_| allows));
        assert_eq!(found, [allowed, denied], "{what}");
    }
}

#[test]
fn a_create_in_flight_keeps_its_workspace_until_it_is_bound_or_created_nothing() {
    let mut index = Index::default();
    let one = channel("a", 1);
    let name = NamespacedName::of(&one);
    index.put(&one);
    let in_use = |index: &Index| index.in_use(&workspace(), |namespace| namespace == "ns");
    assert_eq!(index.creating(&name, "uid-a", true).handle, Some(workspace()));
    assert!(in_use(&index));
    assert_eq!(index.creating(&name, "uid-a", true), Requeues::default());
    assert_eq!(index.creating(&name, "uid-a", false).handle, Some(workspace()));
    assert!(!in_use(&index));
    index.creating(&name, "uid-a", true);
    index.put(&bound(one.clone(), "c1"));
    assert!(in_use(&index));
    index.put(&one);
    assert!(!in_use(&index), "it was bound: nothing is under way");
}

#[test]
fn an_interval_is_stretched_by_what_is_bound_or_observed_and_allowed() {
    let mut index = Index::default();
    let bound = bound(channel("bound", 1), "c1");
    let mut observing = wanting("observing", 1, "c1");
    observing.spec.management_policy = Some("Observe".into());
    let (naming, new) = (wanting("naming", 1, "c1"), channel("new", 1));
    for one in [&bound, &observing, &naming, &new] {
        index.put(one);
    }
    judge(&mut index, &naming, Shown::Able);
    assert_eq!(index.count(&workspace()), 1);
    judge(&mut index, &observing, Shown::Reads);
    assert_eq!(index.count(&workspace()), 2);
    judge(&mut index, &bound, Shown::Denied);
    judge(&mut index, &observing, Shown::Denied);
    assert_eq!(index.count(&workspace()), 0, "its namespace may not use the workspace");
    judge(&mut index, &bound, Shown::Nothing);
    assert_eq!(index.count(&workspace()), 1);
}

#[test]
fn a_claim_ends_with_the_manifest_that_named_the_id() {
    let mut index = Index::default();
    let (a, b) = (wanting("a", 2, "c1"), wanting("b", 1, "c1"));
    index.put(&a);
    assert!(claim(&mut index, &a, "c1"));
    index.put(&b);
    assert!(!claim(&mut index, &b, "c1"), "a is binding it");
    judge(&mut index, &b, Shown::Able);
    assert_eq!(names(index.put(&wanting("a", 2, "c2"))), ["b"], "a wants another one now");
    assert!(claim(&mut index, &b, "c1"));
}

#[test]
fn a_claim_lasts_while_its_object_is_binding_whatever_else_changes() {
    let mut index = Index::default();
    let mut binding = wanting("a", 2, "c1");
    let (b, z) = (channel("b", 1), channel("z", 1));
    index.put(&binding);
    assert!(claim(&mut index, &binding, "c1") && claim(&mut index, &z, "c2"));
    index.put(&b);
    assert!(!claim(&mut index, &b, "c1"), "another object has changed");
    binding.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]);
    index.put(&binding);
    assert!(!claim(&mut index, &b, "c1"), "it has changed and binds still");
    index.unclaim("uid-z");
    assert!(!claim(&mut index, &b, "c1") && claim(&mut index, &b, "c2"), "another's was freed");
    index.put(&bound(binding, "c1"));
    assert!(claim(&mut index, &b, "c1"), "it is bound: its status speaks for it");
}

#[test]
fn the_claim_of_a_create_lasts_until_its_id_is_bound_and_that_of_a_delete_until_its_answer() {
    let (one, other) = (channel("a", 1), channel("b", 1));
    let mut index = Index::default();
    index.put(&one);
    assert!(index.claim("c1", &NamespacedName::of(&one), "uid-a", Claim::Create));
    let mut later = one.clone();
    later.metadata.generation = Some(2);
    index.put(&later);
    index.give_up_adoption("uid-a");
    assert!(!claim(&mut index, &other, "c1"), "its status does not show it yet");
    index.put(&bound(one.clone(), "c1"));
    assert!(claim(&mut index, &other, "c1"));
    index.unclaim("uid-b");
    assert!(index.claim("c1", &NamespacedName::of(&one), "uid-a", Claim::Delete));
    index.put(&terminating(bound(one, "c1")));
    assert!(!claim(&mut index, &other, "c1"), "the DELETE is under way");
}

#[test]
fn an_object_that_was_recreated_under_its_name_is_not_its_own_rival() {
    let mut index = Index::default();
    let one = wanting("a", 1, "c1");
    index.put(&one);
    judge(&mut index, &one, Shown::Able);
    assert_eq!(index.owner("c1", &NamespacedName::new("ns", "a"), "uid-of-the-next"), None);
    assert_eq!(index.owner("c1", &NamespacedName::new("ns", "moved"), "uid-a"), None);
}

#[test]
fn removes_deleted_objects_and_returns_the_requeues() {
    let mut index = Index::default();
    index.put(&bound(wanting("a", 1, "c1"), "c1"));
    let b = wanting("b", 2, "c1");
    index.put(&b);
    judge(&mut index, &b, Shown::Able);
    let gone = index.retain(|name| name.name == "b");
    let requeues = Requeues { channels: [NamespacedName::new("ns", "b")].into(), handle: Some(workspace()) };
    let gone: Vec<_> = gone.into_iter().map(|(name, last, requeues)| (name, last.uid, requeues)).collect();
    assert_eq!(gone, [(NamespacedName::new("ns", "a"), "uid-a".to_owned(), requeues)]);
    assert_eq!(index.retain(|_| true), []);
    assert_eq!(index.users_of_workspace(&workspace()), [NamespacedName::new("ns", "b")]);
}

#[test]
fn an_index_that_everything_was_removed_from_is_empty() {
    let mut index = Index::default();
    let all =
        [bound(channel("a", 1), "c1"), wanting("b", 2, "c1"), terminating(bound(channel("c", 3), "c2"))];
    for one in &all {
        index.put(one);
        judge(&mut index, one, Shown::Able);
        claim(&mut index, one, "c3");
        index.put_key(&WorkspaceKey::of(one), Some(NamespacedName::new("ns", "key")));
    }
    for one in &all {
        index.remove(&NamespacedName::of(one));
        index.unclaim(&one.uid().unwrap());
        index.put_key(&WorkspaceKey::of(one), None);
    }
    assert_eq!(format!("{index:?}"), format!("{:?}", Index::default()));
}

#[test]
fn knows_the_workspaces_that_name_a_key_as_they_now_are() {
    let (key, next) = (NamespacedName::new("ns", "key"), NamespacedName::new("ns", "next"));
    let shared = WorkspaceKey { namespace: None, name: "default".into() };
    let mut index = Index::default();
    let mut put = |handle: &WorkspaceKey, secret: Option<&NamespacedName>| {
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
    assert_eq!(index.cluster_users_in("ns"), [NamespacedName::new("ns", "a")]);
    assert_eq!(index.users_of_workspace(&workspace()), [NamespacedName::new("ns", "c")]);
    assert!(index.cluster_users_in("nowhere").is_empty());
}

#[test]
fn a_workspace_is_in_use_while_a_channel_holds_something() {
    let mut index = Index::default();
    let handle = workspace();
    let in_use = |index: &Index| index.in_use(&workspace(), |_| true);
    index.put(&channel("a", 1));
    assert!(!in_use(&index));
    let requeues = index.put(&bound(channel("a", 1), "c1"));
    assert_eq!(requeues.handle, Some(handle.clone()));
    assert!(in_use(&index));
    assert_eq!(index.put(&bound(channel("a", 1), "c1")), Requeues::default());
    assert_eq!(index.remove(&NamespacedName::new("ns", "a")).handle, Some(handle));
    assert!(!in_use(&index));
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
    assert_eq!(index.users_of_secret(s), [NamespacedName::new("ns", "a")]);
    assert!(index.uses_secret(s) && !index.uses_secret(t));
    user.spec.credentials.clear();
    index.put(&user);
    assert!(index.users_of_secret(s).is_empty());
}

#[test]
fn thousands_of_added_and_removed_channels_leave_the_index_empty() {
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
        index.put_key(
            &WorkspaceKey::of(&one),
            (round % 2 == 0).then(|| NamespacedName::new("ns", format!("key-{round}"))),
        );
        if round % 3 == 0 {
            index.remove(&NamespacedName::of(&one));
        }
    }
    index.retain(|_| false);
    index.put_key(&WorkspaceKey { namespace: Some("ns".into()), name: "default".into() }, None);
    assert_eq!(format!("{index:?}"), empty);
}

proptest::proptest! {
    #[test]
    fn an_id_in_any_case_is_one_id_to_every_query(cases in proptest::array::uniform3(proptest::array::uniform32(proptest::bool::ANY))) {
        const UUID: &str = "d4e5f6a7-b8c9-0123-def0-456789abcdef";
        let spelled = |upper: &[bool; 32]| -> String {
            let mut upper = upper.iter();
            let spell = |character: char| match character {
                '-' => character,
                _ if upper.next() == Some(&true) => character.to_ascii_uppercase(),
                _ => character,
            };
            UUID.chars().map(spell).collect()
        };
        let [one, two, three] = &cases.map(|upper| spelled(&upper));
        let mut index = Index::default();
        let holds = terminating(bound(channel("old", 1), one));
        index.put(&holds);
        let claims = wanting("new", 2, two);
        index.put(&claims);
        proptest::prop_assert_eq!(holder(&index, three), Some("old".to_owned()));
        proptest::prop_assert_eq!(index.rivals(three, &NamespacedName::of(&holds)).beside, vec![NamespacedName::of(&claims)]);
        judge(&mut index, &claims, Shown::Able);
        proptest::prop_assert!(index.has_right(three, &NamespacedName::of(&claims), "uid-new"));
        proptest::prop_assert_eq!(index.takes_over(three, &NamespacedName::of(&claims)), Some(NamespacedName::of(&holds)));
        proptest::prop_assert!(claim(&mut index, &claims, three));
        proptest::prop_assert!(!claim(&mut index, &channel("third", 3), one));
        index.remove(&NamespacedName::of(&holds));
        index.put(&bound(claims, one));
        proptest::prop_assert_eq!(holder(&index, two), Some("new".to_owned()));
        proptest::prop_assert!(claim(&mut index, &channel("third", 3), "d4e5f6a7") );
    }
}
