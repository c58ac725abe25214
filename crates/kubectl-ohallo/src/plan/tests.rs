//! Tables: for each effect, a change of manifests that has it, and for what only a cluster shows, objects of one.

use clap::Parser;
use ohallo_core::api::channel::Channel;
use ohallo_core::index::{NamespacedName, WorkspaceKey};
use serde_json::{Value, json};

use super::*;
use crate::plan::apply::Before;
use crate::plan::change::Effect::{self, *};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    args: Args,
}

/// A Channel of one line.
fn channel(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {{name: {name}}}\nspec: {{displayName: Name, {spec}}}\n"
    )
}

/// An object named "a" with more metadata.
fn with_metadata(manifest: &str, more: &str) -> String {
    manifest.replace("{name: a}", &format!("{{name: a, {more}}}"))
}

fn workspace(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: ohallo.eu/v1alpha1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec: {{workspaceId: w1, apiKeySecretRef: {{name: key}}{spec}}}\n"
    )
}

fn secret(name: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{token: {value}}}\n")
}

fn run_with(base: &str, head: &str, flags: &[&str]) -> Result<Report, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (base, head) = (file("base.yaml", base), file("head.yaml", head));
    let words = ["plan", head.as_str(), "--base", base.as_str()].into_iter().chain(flags.iter().copied());
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    plan(&cli.args, &cli.global)
}

/// The plan at depth files.
fn files(base: &str, head: &str) -> Report {
    run_with(base, head, &[]).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The effects and the names of the objects.
fn effects(report: &Report) -> Vec<(Effect, &str)> {
    report.changes.iter().map(|change| (change.effect, change.name.as_str())).collect()
}

#[test]
fn each_change_of_a_manifest_has_its_effects() {
    let email = "channelType: email";
    for (what, base, head, expected) in [
        ("nothing", channel("a", email), channel("a", email), vec![]),
        ("a new one", String::new(), channel("a", email), vec![(Created, "a")]),
        ("a removed one", channel("a", email), String::new(), vec![(Destroyed, "a")]),
        (
            "by a declared policy",
            channel("a", "channelType: email, deletionPolicy: Delete, channelId: c1"),
            String::new(),
            vec![(Destroyed, "a")],
        ),
        (
            "retained",
            channel("a", "channelType: email, deletionPolicy: Retain"),
            String::new(),
            vec![(Retained, "a")],
        ),
        (
            "observed and removed",
            channel("a", "channelType: email, managementPolicy: Observe, channelId: c1"),
            String::new(),
            vec![(NoLongerManaged, "a")],
        ),
        (
            "adopted, or pinned",
            channel("a", "channelType: email, channelId: c1"),
            String::new(),
            vec![(DependsOnOrigin, "a")],
        ),
        (
            "a rename with an id",
            channel("a", "channelType: email, channelId: c1"),
            channel("b", "channelType: email, channelId: c1"),
            vec![(HandedOver, "a"), (Adopted, "b")],
        ),
        (
            "a rename without an id",
            channel("a", email),
            channel("b", email),
            vec![(Destroyed, "a"), (Created, "b")],
        ),
        (
            "a rename of a retained one",
            channel("a", "channelType: email, deletionPolicy: Retain, channelId: c1"),
            channel("b", "channelType: email, channelId: c1"),
            vec![(Retained, "a"), (Adopted, "b")],
        ),
        (
            "a claim that can't bind",
            channel("a", "channelType: email, channelId: c1"),
            channel("b", "channelType: chat, channelId: c1"),
            vec![(Waits, "a"), (Blocked, "b")],
        ),
        (
            "an adoption",
            String::new(),
            channel("a", "channelType: email, channelId: c1"),
            vec![(Adopted, "a"), (Updated, "a")],
        ),
        (
            "an update",
            channel("a", "channelType: email, config: {fromName: A}"),
            channel("a", "channelType: email, config: {fromName: B}"),
            vec![(Updated, "a")],
        ),
        (
            "a removed field",
            channel("a", "channelType: email, config: {fromName: A}"),
            channel("a", email),
            vec![(NoLongerManaged, "a")],
        ),
        (
            "credentials",
            channel("a", email),
            channel("a", "channelType: email, credentials: [{secretRef: {name: s}}]"),
            vec![(CredentialsPushed, "a")],
        ),
        (
            "credentials that are not declared any more",
            channel("a", "channelType: email, credentials: [{secretRef: {name: s}}]"),
            channel("a", email),
            vec![(NoLongerManaged, "a")],
        ),
        (
            "a test of an email channel",
            channel("a", email),
            with_metadata(&channel("a", email), "annotations: {ohallo.eu/test-requested-at: now}"),
            vec![(Tested, "a")],
        ),
        (
            "a test after a change",
            channel("a", "channelType: chat, connectivityTest: OnChange"),
            channel("a", "channelType: chat, connectivityTest: OnChange, config: {x: 1}"),
            vec![(Updated, "a"), (Tested, "a")],
        ),
        (
            "a suspended one",
            channel("a", email),
            channel("a", "channelType: email, suspend: true, config: {fromName: B}"),
            vec![(Suspended, "a")],
        ),
        (
            "a suspended one that is removed",
            channel("a", "channelType: email, suspend: true"),
            String::new(),
            vec![(Waits, "a")],
        ),
        (
            "an observed one",
            String::new(),
            channel("a", "channelType: email, managementPolicy: Observe"),
            vec![(Observed, "a")],
        ),
        (
            "what can't be changed",
            channel("a", email),
            channel("a", "channelType: chat"),
            vec![(Refused, "a")],
        ),
        ("what is not valid", channel("a", email), channel("a", "channelType: sms"), vec![(Refused, "a")]),
        (
            "what GitOps tools keep",
            with_metadata(&channel("a", email), "annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}"),
            String::new(),
            vec![(Waits, "a")],
        ),
        (
            "one with an owner",
            channel("a", email),
            with_metadata(
                &channel("a", email),
                "ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: x, uid: u1}]",
            ),
            vec![(MayBeDestroyed, "a")],
        ),
        (
            "one that kustomize leaves out",
            channel("a", email),
            with_metadata(&channel("a", email), "annotations: {config.kubernetes.io/local-config: 'true'}"),
            vec![(MayBeDestroyed, "a")],
        ),
        (
            "a retained one that kustomize leaves out",
            channel("a", "channelType: email, deletionPolicy: Retain"),
            with_metadata(
                &channel("a", "channelType: email, deletionPolicy: Retain"),
                "annotations: {config.kubernetes.io/local-config: 'true'}",
            ),
            vec![],
        ),
        (
            "what can't be changed, and is forced",
            channel("a", email),
            with_metadata(
                &channel("a", "channelType: chat"),
                "annotations: {kustomize.toolkit.fluxcd.io/force: enabled}",
            ),
            vec![(MayBeDestroyed, "a"), (Refused, "a")],
        ),
        (
            "without a name",
            String::new(),
            channel("a", email).replace("{name: a}", "{generateName: a-}"),
            vec![(Refused, "")],
        ),
    ] {
        let report = files(&base, &head);
        assert_eq!(effects(&report), expected, "{what}: {report:#?}");
    }
}

#[test]
fn a_deletion_that_a_tool_leaves_to_others_counts_as_one() {
    let kept =
        |policy: &str| with_metadata(&channel("a", policy), "annotations: {helm.sh/resource-policy: keep}");
    for (spec, destroys) in
        [("channelType: email", true), ("channelType: email, deletionPolicy: Retain", false)]
    {
        assert_eq!(files(&kept(spec), "").destroys, destroys, "{spec}");
    }
}

#[test]
fn objects_that_take_their_channels_with_them_are_named() {
    let object = |version: &str, kind: &str, spec: &str| {
        format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n")
    };
    for (version, kind) in [
        ("v1", "Namespace"),
        ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
        ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
        ("argoproj.io/v1alpha1", "Application"),
        ("argoproj.io/v1alpha1", "ApplicationSet"),
    ] {
        let base = object(version, kind, "");
        assert_eq!(effects(&files(&base, "")), [(MayBeDestroyed, "a")], "{kind}");
        let local = with_metadata(&base, "annotations: {config.kubernetes.io/local-config: 'true'}");
        assert_eq!(effects(&files(&base, &local)), [(MayBeDestroyed, "a")], "{kind}");
        let changed = files(&base, &object(version, kind, "path: b"));
        assert!(changed.changes.is_empty() && changed.notes[0].contains("changes"), "{kind}: {changed:#?}");
    }
    assert!(files(&object("v1", "ConfigMap", ""), "").changes.is_empty());
}

#[test]
fn an_assumed_uid_is_in_no_command() {
    let base = channel("a", "channelType: email, channelId: c1");
    let other =
        channel("b", "channelType: chat, channelId: c1").replace("{name: b}", "{name: b, namespace: other}");
    let report = files(&(base + &other), &other);
    let text = text::text(&report);
    assert!(!text.contains("new_"), "{text}");
}

/// The plan at depth files of two directories.
fn directories(base: &[(&str, &str)], head: &[(&str, &str)]) -> Report {
    let folders = [base, head].map(|files| {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    });
    let [base, head] = [0, 1].map(|at: usize| folders[at].path().to_str().unwrap());
    let cli = Cli::try_parse_from(["plan", head, "--base", base, "-n", "default"])
        .unwrap_or_else(|error| panic!("{error}"));
    plan(&cli.args, &cli.global).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn what_a_tool_applies_of_a_directory_may_change_although_the_objects_do_not() {
    let voice = channel("a", "channelType: voice");
    let retained = channel("a", "channelType: voice, deletionPolicy: Retain");
    let all = "resources: [a.yaml, b.yaml]";
    let a = |text: &'static str| ("a.yaml", text);
    let (voice, retained): (&str, &str) = (voice.leak(), retained.leak());
    let none: Vec<(Effect, &str)> = vec![];
    for (what, base, head, expected) in [
        (
            "nothing",
            vec![a(voice), ("kustomization.yaml", all)],
            vec![a(voice), ("kustomization.yaml", all)],
            none.clone(),
        ),
        (
            "a kustomization leaves it out",
            vec![a(voice), ("kustomization.yaml", all)],
            vec![a(voice), ("kustomization.yaml", "resources: [b.yaml]")],
            vec![(MayBeDestroyed, "kustomization.yaml")],
        ),
        (
            "a new one, and a patch",
            vec![a(voice)],
            vec![a(voice), ("Kustomization", all), ("patch.yaml", "- {op: remove, path: /spec}")],
            vec![(MayBeDestroyed, "Kustomization"), (MayBeDestroyed, "patch.yaml")],
        ),
        (
            "Flux ignores it",
            vec![a(voice)],
            vec![a(voice), (".sourceignore", "a.yaml")],
            vec![(MayBeDestroyed, ".sourceignore")],
        ),
        ("it moves", vec![a(voice)], vec![("archive/a.yaml", voice)], vec![(MayBeDestroyed, "a")]),
        ("a retained one moves", vec![a(retained)], vec![("archive/a.yaml", retained)], none.clone()),
        ("it is renamed", vec![a(voice)], vec![("b.yaml", voice)], none),
        ("it was hidden", vec![(".prod/a.yaml", voice)], vec![("b.yaml", "")], vec![(Destroyed, "a")]),
    ] {
        let report = directories(&base, &head);
        assert_eq!(effects(&report), expected, "{what}: {report:#?}");
        let selects = head.iter().any(|(name, _)| name.to_lowercase().starts_with("kustomization"));
        assert_eq!(
            report.notes.iter().any(|note| note.contains("rendered")),
            selects || what == "Flux ignores it",
            "{what}: {report:#?}"
        );
    }
}

#[test]
fn no_list_and_no_annotation_hides_a_deletion() {
    let item = "{metadata: {name: a}, spec: {channelType: voice, displayName: Name}}";
    let list = format!("apiVersion: ohallo.eu/v1alpha1\nkind: ChannelList\nitems: [{item}]\n");
    let odd = list
        .replace("kind: ChannelList", "kind: Odd")
        .replace("{metadata", "{apiVersion: ohallo.eu/v1alpha1, kind: Channel, metadata");
    let released =
        with_metadata(&channel("a", "channelType: voice"), "annotations: {ohallo.eu/release: ~created-0}");
    for base in [list, odd, released] {
        let report = files(&base, "");
        assert_eq!(effects(&report), [(Destroyed, "a")], "{base}");
    }
}

#[test]
fn objects_without_a_namespace_are_not_taken_for_one() {
    let one = channel("a", "channelType: chat");
    let named = with_metadata(&one, "namespace: default");
    let twice = one.clone() + &one;
    for (base, head) in [(&twice, &one), (&one, &twice)] {
        let failure = run_with(base, head, &[]).unwrap_err().to_string();
        assert!(failure.contains("Channel a is there twice"), "{failure}");
        run_with(base, head, &["--namespace=team"]).unwrap();
    }
    for (text, flags, notes) in [
        (&one, vec![], 1),
        (&one, vec!["--namespace=team"], 0),
        (&named, vec![], 0),
        (&(named.clone() + &named), vec![], 0),
    ] {
        assert_eq!(run_with(text, text, &flags).unwrap().notes.len(), notes, "{text} {flags:?}");
    }
}

#[test]
fn workspaces_and_secrets_change_their_channels() {
    let one =
        channel("a", "channelType: chat, credentials: [{name: pin, secretKeyRef: {name: s, key: token}}]");
    let known = one.clone() + &workspace("default", "") + &secret("s", "one");
    for (what, head, expected) in [
        ("nothing", known.clone(), vec![]),
        (
            "a rotated Secret",
            one.clone() + &workspace("default", "") + &secret("s", "two"),
            vec![(CredentialsPushed, "a")],
        ),
        ("a removed Secret", one.clone() + &workspace("default", ""), vec![(Waiting, "a")]),
        (
            "a suspended Workspace",
            one.clone() + &workspace("default", ", suspend: true") + &secret("s", "one"),
            vec![(Suspended, "a")],
        ),
        ("a removed Workspace in use", one.clone() + &secret("s", "one"), vec![(Waits, "default")]),
        ("all removed", String::new(), vec![(Destroyed, "a")]),
        (
            "another workspace",
            known.replace("workspaceId: w1", "workspaceId: w2"),
            vec![(Refused, "default")],
        ),
    ] {
        let report = files(&known, &head);
        assert_eq!(effects(&report), expected, "{what}: {report:#?}");
    }
    let report = files(&known, &known.replace("token: one", "token: two"));
    assert_eq!(report.changes[0].credentials, ["pin"]);
}

#[test]
fn an_update_lists_each_field_with_its_values() {
    let base = channel("a", "channelType: email, enabled: true, config: {x: {k: 1}, z: [1]}");
    let head = channel("a", "channelType: email, enabled: false, config: {x: {k: 2, m: a}, z: [1]}")
        .replace("displayName: Name", "displayName: Other");
    let report = files(&base, &head);
    let fields = &report.changes[0].fields;
    let of = |path: &str| {
        let field = fields.iter().find(|field| field.path == path).unwrap();
        (field.old.clone(), field.old_known, field.new.clone())
    };
    assert_eq!(fields.len(), 4, "{fields:#?}");
    assert_eq!(of("displayName"), (Some(json!("Name")), true, json!("Other")));
    assert_eq!(of("config.x.k"), (Some(json!(1)), true, json!(2)));
    assert_eq!(of("config.x.m"), (None, true, json!("a")));
    assert_eq!(of("enabled"), (Some(json!(true)), true, json!(false)));
    assert_eq!(fields[0].arrow(64), "\"Name\" → \"Other\"");
    // What an adoption finds is not known without a cluster.
    let adopted = files("", &channel("a", "channelType: email, channelId: c1"));
    let field = &adopted.changes[1].fields[0];
    assert_eq!((field.old_known, field.arrow(64).as_str()), (false, "(unknown) → \"Name\""));
}

#[test]
fn every_effect_has_a_place_in_the_order_and_the_count_line_has_all() {
    let base = channel("gone", "channelType: voice") + &channel("same", "channelType: chat");
    let head = channel("same", "channelType: chat") + &channel("new", "channelType: chat");
    let report = files(&base, &head);
    assert_eq!(report.count_line(), "1 destroyed, 1 created, 1 unchanged");
    assert!(report.destroys && report.has_changes);
    let text = text::text(&report);
    let (destroyed, created) = (text.find("Destroyed in oHallo").unwrap(), text.find("Created").unwrap());
    assert!(destroyed < created && text.starts_with("Depth files: "), "{text}");
    let none = files(&base, &base);
    assert_eq!((none.count_line().as_str(), none.has_changes), ("2 unchanged", false));
    use strum::VariantArray;
    let headings: BTreeSet<_> = Effect::VARIANTS.iter().map(|effect| effect.heading()).collect();
    assert_eq!(headings.len(), Effect::VARIANTS.len());
}

#[test]
fn a_plan_with_a_hole_is_no_plan() {
    for (base, head, part) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "", "is the file complete?"),
        ("a: [", "", "of the base: line"),
        ("", "a: [", "head.yaml: line"),
        (
            "apiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {name: a}\nspec: {displayName: 1}\n",
            "",
            "can't be decoded",
        ),
    ] {
        let failure = run_with(base, head, &[]).unwrap_err();
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

/// A Channel as a cluster has it: bound and settled.
fn bound(name: &str, id: &str, spec: Value, status: Value) -> Value {
    let uid = format!("uid-{name}");
    let mut object = json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
        "metadata": {
            "name": name, "namespace": "default", "uid": uid, "generation": 1, "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["ohallo.eu/channel"],
            "annotations": {"ohallo.eu/create-intent": format!("{uid}/1/2026-01-01T00:00:00Z")},
        },
        "spec": {"channelType": "chat", "displayName": "Name"},
        "status": {
            "observedGeneration": 1, "channelId": id, "boundUid": uid, "workspaceId": "w1", "origin": "Created",
            "state": "active", "deletionPolicy": "Delete",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    });
    let put = |object: &mut Value, values: Value| {
        for (key, value) in values.as_object().unwrap() {
            object[key] = value.clone();
        }
    };
    put(&mut object["spec"], spec);
    put(&mut object["status"], status);
    let channel: Channel = serde_json::from_value(object.clone()).unwrap();
    let digest = ohallo_core::channel::declared::digest(&channel.spec, channel.spec.enabled);
    object["status"]["applied"] = json!({"digest": digest, "enabled": channel.spec.enabled});
    object
}

/// The plan at depth cluster, for these objects of one.
fn cluster(objects: &[Value], head: &str, removed: &[&str]) -> Report {
    cluster_with(objects, head, removed, &Operators::Unread)
}

fn cluster_with(objects: &[Value], head: &str, removed: &[&str], operators: &Operators) -> Report {
    let kinds = Kinds::embedded().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.yaml");
    std::fs::write(&path, head).unwrap();
    let head = Manifests::read(&[path], &kinds, "default").unwrap();
    let mut before = Before::default();
    for object in objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        before.channels.insert(NamespacedName::new("default", name), object.clone());
    }
    let removed = removed.iter().map(|name| NamespacedName::new("default", *name)).collect();
    let removed = Removed { channels: removed, workspaces: BTreeSet::new() };
    let workspace =
        json!({"metadata": {"name": "default", "namespace": "default"}, "spec": {"workspaceId": "w1"}});
    let key = WorkspaceKey { namespace: Some("default".to_owned()), name: "default".to_owned() };
    before.workspaces.insert(key, workspace);
    let now = Now { wall: clock::now(), instant: clock::instant() };
    let mut planned = Planned::begin(before, head, removed, &kinds, now).unwrap();
    planned.remember(Depth::Cluster, Secrets::default());
    planned.leave_out_unserved(operators);
    planned.report(None, Depth::Cluster, now)
}

#[test]
fn what_only_a_cluster_shows_decides_a_deletion() {
    let adopted = json!({"origin": "Adopted", "deletionPolicy": "Retain"});
    let none = || json!({});
    for (what, object, expected) in [
        ("created", bound("a", "c1", none(), none()), Destroyed),
        ("adopted", bound("a", "c1", json!({"channelId": "c1"}), adopted), Retained),
        ("pinned", bound("a", "c1", json!({"channelId": "c1"}), none()), Destroyed),
        ("with a create whose id it lost", bound("a", "c1", none(), json!({"boundUid": "other"})), Waits),
        ("in another workspace", bound("a", "c1", none(), json!({"workspaceId": "w2"})), Waits),
    ] {
        let report = cluster(&[object], "", &["a"]);
        let effect = report.changes.first().map(|change| change.effect);
        assert_eq!(effect, Some(expected), "{what}: {report:#?}");
    }
}

#[test]
fn an_unresolved_create_is_never_sent_again() {
    let mut object = bound("a", "c1", json!({}), json!({"state": null}));
    let status = object["status"].as_object_mut().unwrap();
    status.retain(|key, _| key == "observedGeneration");
    status.insert("create".to_owned(), json!({"attempt": 1, "outcome": "Unknown"}));
    let report = cluster(&[object.clone()], &channel("a", "channelType: chat"), &[]);
    assert_eq!(effects(&report), [(Blocked, "a")]);
    assert_eq!(report.changes[0].reason.as_deref(), Some("CreateOutcomeUnknown"));
    let report = cluster(&[object], "", &["a"]);
    assert_eq!(effects(&report), [(Waits, "a")]);
}

#[test]
fn fields_that_others_set_remain_and_a_suspension_holds_changes_back() {
    let mut object = bound("a", "c1", json!({"suspend": true}), json!({}));
    let applied = json!({"spec": {"channelType": "chat", "displayName": "Name"}}).to_string();
    object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = applied.into();
    let head = channel("a", "channelType: chat, config: {x: 1}");
    assert_eq!(effects(&cluster(&[object.clone()], &head, &[])), [(Suspended, "a")]);
    object["spec"]["suspend"] = false.into();
    assert_eq!(effects(&cluster(&[object], &head, &[])), [(Updated, "a")]);
}

#[test]
fn a_deletion_that_waits_for_an_operator_is_not_hidden() {
    let elsewhere = ohallo_core::rights::Served { namespaces: vec!["zzz".to_owned()], ..Default::default() };
    let operators = Operators::Known(vec![elsewhere]);
    for (policy, destroys) in [("Delete", true), ("Retain", false)] {
        let object = bound("a", "c1", json!({"deletionPolicy": policy}), json!({}));
        let report = cluster_with(std::slice::from_ref(&object), "", &["a"], &operators);
        assert_eq!(
            (effects(&report), report.destroys),
            (vec![(Waits, "a")], destroys),
            "{policy}: {report:#?}"
        );
        let kept = cluster_with(
            &[object],
            &channel("a", &format!("channelType: chat, deletionPolicy: {policy}")),
            &[],
            &operators,
        );
        assert_eq!((effects(&kept), kept.destroys), (vec![(Unserved, "a")], false), "{policy}");
    }
}

#[test]
fn the_end_of_the_last_claim_lets_a_deletion_go_on() {
    let mut deleted = bound("hotline", "c1", json!({"deletionPolicy": "Delete"}), json!({}));
    deleted["metadata"]["deletionTimestamp"] = "2026-01-10T08:00:00Z".into();
    let mut claim = bound("claim", "c2", json!({"channelId": "c1"}), json!({}));
    claim["status"] = json!({"observedGeneration": -1});
    claim["metadata"]["finalizers"] = json!([]);
    let moved = channel("claim", "channelType: chat, channelId: c9");
    for (what, head, removed) in [("removed", "", vec!["claim"]), ("moved", moved.as_str(), vec![])] {
        let report = cluster(&[deleted.clone(), claim.clone()], head, &removed);
        assert!(report.destroys, "{what}: {report:#?}");
        assert!(report.changes.iter().any(|change| change.name == "hotline"), "{what}: {report:#?}");
    }
}

#[test]
fn an_object_that_was_never_reconciled_vanishes_without_a_call() {
    let mut object = bound("a", "c1", json!({}), json!({}));
    object["metadata"]["finalizers"] = json!([]);
    object["status"] = json!({"observedGeneration": -1});
    assert_eq!(effects(&cluster(&[object], "", &["a"])), [(NoLongerManaged, "a")]);
}

#[test]
fn a_file_that_chooses_is_noted_at_every_depth() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), channel("a", "channelType: chat")).unwrap();
    let noted = || {
        let words = ["plan", folder.path().to_str().unwrap(), "-n", "default"];
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        manifests(&cli.args, &cli.global, &Kinds::embedded().unwrap(), "default").unwrap().notes
    };
    assert!(noted().is_empty(), "{:?}", noted());
    std::fs::write(folder.path().join("Kustomization"), "resources: [a.yaml]").unwrap();
    assert!(noted().len() == 1 && noted()[0].contains("Kustomization"), "{:?}", noted());
}
